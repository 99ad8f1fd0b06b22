"""``python -m appliance.training merge``: for minutes of work that should not be the server's.

Needs none of what training needs. Types that only llama.cpp's quantizer writes are merged to f16 first, in a file
beside the place, and made from there. Progress is one JSON line a tensor on standard output; what is wrong is the last
one. However it ends but by SIGKILL or a crash, nothing half made is left (`domain.trainable.partials`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn

from appliance.domain.errors import ApplianceError, BadWeights, DiskFull
from appliance.domain.trainable import QUANTIZED_TYPES, partials
from appliance.training.wholes import write_whole

if TYPE_CHECKING:
    from appliance.engines.llama.runtime.library import Bytes
    from appliance.store.gguf_weights import Array, GgufWeights
    from appliance.store.lora import Adapter

INTERRUPTED = 130
_FULL_BYTES = 1 << 20

Tell = Callable[[int, int], None]
"""Steps done and steps in all."""


def main(arguments: list[str]) -> int:
    """``BASE ADAPTER PLACE TYPE RESERVE``; ``RESERVE``: bytes of the disk that stay free."""
    if len(arguments) != 5:
        print("usage: python -m appliance.training merge BASE ADAPTER PLACE TYPE RESERVE_BYTES", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    base, adapter, place = map(Path, arguments[:3])
    try:
        _merge(base, adapter, place, arguments[3], int(arguments[4]))
    except ApplianceError as error:
        return _failed(error.message)
    except OSError as error:
        return _failed(f"{place.name} cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # the quantizer's thread hears nothing, and would be waited for
    return 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _failed(message: str) -> int:
    try:
        print(json.dumps({"failed": message}), flush=True)
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more, and the quantizer may still run
    return 1


def _tell(done: int, tensors: int) -> None:
    print(json.dumps({"done": done, "tensors": tensors}), flush=True)


def _merge(base: Path, adapter: Path, place: Path, kind: str, reserve_bytes: int) -> None:
    from appliance.store.gguf_weights import GgufWeights
    from appliance.store.lora import Adapter
    from appliance.store.merge import merge

    weights, change = GgufWeights(base), Adapter(adapter)
    _check_room(weights, change, place, kind, reserve_bytes)
    if kind not in QUANTIZED_TYPES:
        write_whole(place, lambda partial: merge(weights, change, partial, kind, _tell, _Quantizer()))
        return
    merged, _ = partials(place)
    try:
        merge(weights, change, merged, "f16", lambda done, tensors: _tell(done, 2 * tensors))
        write_whole(place, lambda partial: _quantize(merged, partial, kind))
    finally:
        merged.unlink(missing_ok=True)


def _check_room(weights: GgufWeights, change: Adapter, place: Path, kind: str, reserve_bytes: int) -> None:
    """Raise DiskFull where what will be beside each other has no room."""
    from appliance.store.merge import merged_bytes, quantized_bytes

    quantizes = kind in QUANTIZED_TYPES
    merged = merged_bytes(weights, change, "f16" if quantizes else kind, _Quantizer())
    quantized = quantized_bytes(weights, kind) if quantizes else 0
    free = shutil.disk_usage(place.parent).free - reserve_bytes
    if merged + quantized > free:
        parts = f" ({_gib(merged)} as f16, from which at most {_gib(quantized)} are made)" if quantizes else ""
        raise DiskFull(
            f"the merge needs {_gib(merged + quantized)} at {place.parent}{parts}, and {_gib(max(free, 0))} are free "
            f"there beside what is kept free; make room, or name a place on another disk"
        )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.3f} GiB"


def _quantize(merged: Path, place: Path, kind: str) -> None:
    """In a thread of its own, so that signals find somebody who hears them and cleans up."""
    from appliance.engines.llama.runtime.quantizer import quantize_file

    said: SimpleQueue[tuple[int, int] | ApplianceError | None] = SimpleQueue()

    def work() -> None:
        try:
            quantize_file(merged, place, kind, _threads(), lambda done, tensors: said.put((done, tensors)))
            said.put(None)
        except ApplianceError as error:
            said.put(error)
        except BaseException as error:
            said.put(BadWeights(f"quantizing ended with {type(error).__name__}: {error}"))

    threading.Thread(target=work, name="quantizer", daemon=True).start()
    while (heard := said.get()) is not None:
        if isinstance(heard, ApplianceError):
            raise _explained(heard, place)
        done, tensors = heard
        _tell(tensors + done, 2 * tensors)


def _explained(error: ApplianceError, place: Path) -> ApplianceError:
    """llama.cpp has no word for a full disk."""
    if shutil.disk_usage(place.parent).free >= _FULL_BYTES:
        return error
    return DiskFull(f"the disk of {place.parent} was filled by others meanwhile; make room, or name another place")


class _Quantizer:
    """``store.merge.Quantizer`` by llama.cpp."""

    def writes(self, type_id: int) -> bool:
        from appliance.engines.llama.runtime.quantizer import writes

        return writes(type_id)

    def quantize(self, numbers: Array, type_id: int, row_bytes: int) -> Bytes:
        from appliance.engines.llama.runtime.quantizer import quantize_matrix

        return quantize_matrix(numbers, type_id, row_bytes, _threads())


def _threads() -> int:
    return len(os.sched_getaffinity(0))
