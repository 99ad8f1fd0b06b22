"""``python -m appliance.training merge BASE ADAPTER PLACE TYPE``: for minutes of work that should not be the server's.

Needs none of what training needs. Progress is one JSON line a tensor on standard output; what is wrong is the last one.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
from pathlib import Path

from appliance.domain.errors import ApplianceError
from appliance.training.wholes import write_whole


def main(arguments: list[str]) -> int:
    """``BASE ADAPTER PLACE TYPE``."""
    if len(arguments) != 4:
        print("usage: python -m appliance.training merge BASE ADAPTER PLACE TYPE", file=sys.stderr)
        return 2
    from appliance.store.gguf_weights import GgufWeights
    from appliance.store.lora import Adapter
    from appliance.store.merge import merge

    base, adapter, place = map(Path, arguments[:3])
    try:
        weights, kind = GgufWeights(base), arguments[3]
        change = Adapter(adapter)
        write_whole(place, lambda partial: merge(weights, change, partial, kind, _tell))
    except ApplianceError as error:
        print(json.dumps({"failed": error.message}), flush=True)
        return 1
    except OSError as error:
        print(json.dumps({"failed": f"{place.name} cannot be written: {_why(place, error)}"}), flush=True)
        return 1
    return 0


def _why(place: Path, error: OSError) -> str:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return str(error.strerror)
    free_bytes = shutil.disk_usage(place.parent).free  # what was written of it is gone again
    return (
        f"it needs more than the {free_bytes / 1024**2:,.1f} MiB that are free in {place.parent}; choose another place"
    )


def _tell(done: int, tensors: int) -> None:
    print(json.dumps({"done": done, "tensors": tensors}), flush=True)
