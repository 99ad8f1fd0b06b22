"""What a set of files is, by their contents: the one entry from bytes to a Card.

Called by ``importing``, on the sources before they are copied and on the copies before they become blobs. It decides
the format by magic, never by name, and says what a wrong file looks like instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.domain.models import Card, WeightsFormat
from appliance.store.folder_card import onnx_card, safetensors_card
from appliance.store.gguf_card import gguf_card, with_projector
from appliance.store.gguf_header import MAGIC, GgufHeader, read_gguf_header
from appliance.store.members import IMAGE_MODEL, PROJECTOR, SHARD, TEXT_MODEL
from appliance.store.onnx_header import OnnxHeader, read_onnx_header
from appliance.store.safetensors_header import read_safetensors_header
from appliance.store.towers_card import reads_images, towers_card
from appliance.store.window import Window, open_window

ONNX_MODEL = "model.onnx"
SAFETENSORS_MODEL = "model.safetensors"

_SHARDS_LIMIT = 256
_LOOKS_LIKE = (
    (b"version https://git-lfs", "a Git LFS pointer: the text that stands for a file; fetch the file itself"),
    (b"PK\x03\x04", "a zip archive, as PyTorch checkpoints are; convert it to GGUF or ONNX"),
    (b"\x80\x02", "a Python pickle, which could run code; convert it to GGUF or ONNX"),
    (b"ggjt", "a GGML file from before GGUF; convert it with a current tool"),
    (b"tjgg", "a GGML file from before GGUF; convert it with a current tool"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file; convert it to GGUF or ONNX"),
    (b"\x7fELF", "a program"),
    (b"<!", "a web page; the download went wrong"),
    (b"<html", "a web page; the download went wrong"),
    (b"{", "a JSON file"),
    (b"\x00\x00\x00\x00", "empty space: the copy or the disk lost its contents"),
)


def inspect(files: Mapping[str, Path]) -> Card:
    """The card of one artifact, from the places of its files by name. Raises BadWeights, WrongWeights."""
    if TEXT_MODEL in files and IMAGE_MODEL in files:
        return towers_card(_onnx_header(files, TEXT_MODEL), _onnx_header(files, IMAGE_MODEL), files)
    if ONNX_MODEL in files:
        header = _onnx_header(files, ONNX_MODEL)
        return towers_card(header, header, files) if reads_images(header) else onnx_card(header, files)
    if SAFETENSORS_MODEL in files or (len(files) == 1 and _format(files) is WeightsFormat.SAFETENSORS):
        return _safetensors(files)
    if len(files) == 1 and _format(files) is WeightsFormat.ONNX:
        raise WrongWeights("an ONNX model needs its tokenizer.json; import the folder that holds both as model.onnx")
    return _gguf(files)


def _onnx_header(files: Mapping[str, Path], name: str) -> OnnxHeader:
    with open_window(files[name], name) as window:
        _expect(window, WeightsFormat.ONNX)
        header = read_onnx_header(window)
    header.check_external(name, {other: path.stat().st_size for other, path in files.items()})
    return header


def _safetensors(files: Mapping[str, Path]) -> Card:
    name = SAFETENSORS_MODEL if SAFETENSORS_MODEL in files else next(iter(files))
    with open_window(files[name], name) as window:
        _expect(window, WeightsFormat.SAFETENSORS)
        header = read_safetensors_header(window)
    return safetensors_card(header, files)


def _gguf(files: Mapping[str, Path]) -> Card:
    headers = {name: _gguf_header(path, name) for name, path in files.items()}
    if len(headers) > 1 and PROJECTOR in headers:
        projector = headers.pop(PROJECTOR)
        return with_projector(_gguf_model(headers), projector, PROJECTOR)
    return _gguf_model(headers)


def _gguf_model(headers: Mapping[str, GgufHeader]) -> Card:
    first_name = next(iter(headers))
    if len(headers) == 1 and _split_count(headers[first_name], first_name) == 1:
        return gguf_card(list(headers.values()), first_name)
    return gguf_card(_ordered_shards(headers), first_name)


def _gguf_header(path: Path, name: str) -> GgufHeader:
    with open_window(path, name) as window:
        _expect(window, WeightsFormat.GGUF)
        return read_gguf_header(window)


def _format(files: Mapping[str, Path]) -> WeightsFormat | None:
    name, path = next(iter(files.items()))
    with open_window(path, name) as window:
        return detect(window)


def detect(window: Window) -> WeightsFormat | None:
    """The format that the contents have, or None."""
    start = window.read(0, min(16, window.size_bytes))
    if start.startswith(MAGIC):
        return WeightsFormat.GGUF
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= window.size_bytes - 8:
        return WeightsFormat.SAFETENSORS
    return WeightsFormat.ONNX if _is_onnx(window, start) else None


def _is_onnx(window: Window, start: bytes) -> bool:
    if not start.startswith(b"\x08"):
        return False
    try:
        read_onnx_header(window)
    except BadWeights:
        return False
    return True


def _expect(window: Window, wanted: WeightsFormat) -> None:
    """Raise BadWeights unless the contents start as ``wanted`` does; what is wrong further on, its parser says."""
    start = window.read(0, min(32, window.size_bytes))
    if wanted is WeightsFormat.ONNX and start.startswith(b"\x08"):
        return
    found = None if wanted is WeightsFormat.ONNX else detect(window)
    if found is wanted:
        return
    if start.startswith(MAGIC) or found:
        looks = f"a {(found or WeightsFormat.GGUF).value} file"
    elif not start:
        looks = "an empty file"
    else:
        looks = next((what for magic, what in _LOOKS_LIKE if start.startswith(magic)), "no format known here")
    raise BadWeights(f"{window.name}: not in {wanted.value} format: it looks like {looks}")


def _split_count(header: GgufHeader, name: str) -> int:
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or not 0 <= count <= _SHARDS_LIMIT:
        raise BadWeights(f"{name}: split.count must be a whole number up to {_SHARDS_LIMIT}")
    return max(int(count), 1)


def _ordered_shards(headers: Mapping[str, GgufHeader]) -> Sequence[GgufHeader]:
    """The shards of one model in order. Raises BadWeights naming what is missing or does not belong."""
    places = {name: _shard_place(name, header) for name, header in headers.items()}
    (prefix, _, count) = next(iter(places.values()))
    if any((other, total) != (prefix, count) for other, _, total in places.values()):
        raise BadWeights(f"{', '.join(sorted(headers))} are not the shards of one model; import each model by itself")
    by_number = {number: headers[name] for name, (_, number, _) in places.items()}
    if missing := [number for number in range(1, count + 1) if number not in by_number]:
        names = ", ".join(f"{prefix}-{number:05d}-of-{count:05d}.gguf" for number in missing[:4])
        raise BadWeights(f"{len(missing)} of {count} shards are missing ({names}); import all of them together")
    ordered = [by_number[number] for number in range(1, count + 1)]
    _check_tensor_count(ordered, prefix)
    return ordered


def _shard_place(name: str, header: GgufHeader) -> tuple[str, int, int]:
    match, count = SHARD.fullmatch(name), _split_count(header, name)
    if count == 1:
        raise BadWeights(f"{name} is a whole model, not one shard of several; import it by itself")
    number = header.metadata.get("split.no")
    if match is None or int(match["count"]) != count or number != int(match["number"]) - 1:
        raise BadWeights(
            f"{name} is a shard of {count} (number {number}, counted from 0) but is not called "
            f"<name>-NNNNN-of-{count:05d}.gguf accordingly; give it back the name it was published under"
        )
    return match["prefix"], int(match["number"]), count


def _check_tensor_count(shards: Sequence[GgufHeader], prefix: str) -> None:
    told, found = shards[0].metadata.get("split.tensors.count"), sum(len(shard.tensors) for shard in shards)
    if told is not None and told != found:
        raise BadWeights(f"{prefix}: its shards should have {told} tensors and have {found}; copy them again")
