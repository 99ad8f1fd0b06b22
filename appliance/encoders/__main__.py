"""``python -m appliance.encoders FOLDER OUT``: a folder with 8-bit weights from one with float weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.domain.errors import ApplianceError
from appliance.encoders.folder import read_encoder, write_encoder
from appliance.encoders.int8 import Int8

PRODUCER = "model-appliance encoders"


def main() -> int:
    """1 when the folder's encoder cannot be read, with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="appliance.encoders", description=__doc__)
    parser.add_argument("folder", type=Path, help="model.onnx, config.json and tokenizer.json of an encoder")
    parser.add_argument("out", type=Path, help="folder to write; must not exist")
    options = parser.parse_args()
    if options.out.exists():
        print(f"appliance.encoders: {options.out} exists; name a folder that does not", file=sys.stderr)
        return 1
    try:
        made = read_encoder(options.folder)
    except ApplianceError as error:
        print(f"appliance.encoders: {error.message}", file=sys.stderr)
        return 1
    for name in write_encoder(made, options.folder, options.out, PRODUCER, Int8()):
        print(options.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
