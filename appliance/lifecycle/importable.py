"""Weights files below the import roots, for a list to choose from. Looks at names and sizes only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.wire.admin import ImportableFile

KINDS = {".gguf": "gguf", ".safetensors": "safetensors"}
TOWERS = {"text_model.onnx", "vision_model.onnx"}
MAX_DEPTH = 4
MAX_FOUND = 500
MAX_SEEN = 20_000


def find_importable(roots: Sequence[Path]) -> list[ImportableFile]:
    """GGUF and safetensors files, and folders that hold an ONNX model; at most 500, four levels deep. Blocks."""
    found: list[ImportableFile] = []
    for root in roots:
        for item in _walk(root):
            found.append(item)
            if len(found) >= MAX_FOUND:
                return found
    return found


def _walk(root: Path) -> Iterator[ImportableFile]:
    seen = 0
    for folder, subfolders, names in os.walk(root, followlinks=False):
        depth = len(Path(folder).relative_to(root).parts)
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".")) if depth < MAX_DEPTH else []
        seen += len(names)
        if seen > MAX_SEEN:
            return
        if "model.onnx" in names or TOWERS.issubset(names):
            yield _item(Path(folder), "onnx", sum(_size(Path(folder) / name) for name in names))
        for name in sorted(names):
            kind = KINDS.get(Path(name).suffix.lower())
            if kind is not None:
                yield _item(Path(folder) / name, kind, _size(Path(folder) / name))


def _item(path: Path, kind: str, size_bytes: int) -> ImportableFile:
    return ImportableFile(path=str(path), size_bytes=size_bytes, kind=kind)  # type: ignore[arg-type]


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
