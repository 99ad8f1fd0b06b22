"""The list of weights below the import roots."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.lifecycle import importable
from appliance.lifecycle.importable import find_importable


def put(path: Path, size_bytes: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size_bytes)


def test_what_is_found(tmp_path: Path) -> None:
    """GGUF and safetensors files whatever the case of their names, and folders with an ONNX model, as a whole."""
    put(tmp_path / "a.gguf", 5)
    put(tmp_path / "B.GGUF")
    put(tmp_path / "deep" / "c.safetensors")
    put(tmp_path / "onnx" / "model.onnx", 10)
    put(tmp_path / "onnx" / "tokenizer.json", 2)
    put(tmp_path / "towers" / "text_model.onnx", 4)
    put(tmp_path / "towers" / "vision_model.onnx", 6)
    put(tmp_path / "readme.md")

    found = {Path(item.path).name: (item.kind, item.size_bytes) for item in find_importable([tmp_path])}

    assert found == {
        "a.gguf": ("gguf", 5),
        "B.GGUF": ("gguf", 3),
        "c.safetensors": ("safetensors", 3),
        "onnx": ("onnx", 12),
        "towers": ("onnx", 10),
    }


def test_where_it_does_not_look(tmp_path: Path) -> None:
    """Not in hidden folders, not through links, not deeper than four levels, and a root that is missing is empty."""
    put(tmp_path / "root" / ".hidden" / "a.gguf")
    put(tmp_path / "root" / "1" / "2" / "3" / "4" / "5" / "b.gguf")
    put(tmp_path / "elsewhere" / "c.gguf")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")

    assert find_importable([tmp_path / "root", tmp_path / "missing"]) == []


def test_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with more files than anybody would read through is cut off."""
    monkeypatch.setattr(importable, "MAX_FOUND", 3)
    for number in range(5):
        put(tmp_path / f"{number}.gguf")

    assert len(find_importable([tmp_path])) == 3
