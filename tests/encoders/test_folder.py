"""Encoders read from folders and written to them: ours, those that PyTorch exported, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.domain.models import ModelType
from appliance.encoders.folder import read_encoder, with_new_head, without_head, write_encoder
from appliance.encoders.graph import Float32, encoder
from appliance.encoders.int8 import Int8
from models_store.recipes.starter_embed.prepare import PRODUCER
from tests.support.export_encoders import FOLDER as EXPORTED
from tests.support.onnx_folders import card_of
from tests.support.random_bert import Array
from tests.support.starter_embed import starter_embed_folder
from tests.support.tiny_encoders import CONFIG, random_encoder, write_random_encoder

IDS = np.array([[2, 7, 9, 11, 3, 8, 3], [2, 8, 3, 0, 0, 0, 0]])
MASK = (IDS > 0).astype(np.int64)
TYPES = np.array([[0, 0, 0, 0, 0, 1, 1], [0] * 7])


def run(folder: Path) -> Array:
    """The graph's output; of token vectors those that are not padding."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}
    taken = [value.name for value in session.get_inputs()]
    output = np.asarray(session.run(None, {name: feeds[name] for name in taken})[0])
    return output[MASK > 0] if output.ndim == 3 else output


class TestWhatPyTorchExported:
    """Graphs of other writers, whose matrices have lost their names."""

    @pytest.mark.parametrize("name", ["bert", "bert-cross", "distilbert-cross"])
    def test_computes_the_same_when_written_anew(self, name: str, tmp_path: Path) -> None:
        """Every family's tensors are found and put in their places: ONNX Runtime gives the same numbers."""
        write_encoder(read_encoder(EXPORTED / name), EXPORTED / name, tmp_path / "out", "tests")

        assert run(tmp_path / "out") == pytest.approx(run(EXPORTED / name), abs=2e-5)

    def test_two_labels_become_one_score(self, tmp_path: Path) -> None:
        """RoBERTa, whose positions begin behind the padding's: the score is by how much "relevant" exceeds."""
        write_encoder(read_encoder(EXPORTED / "roberta-cross"), EXPORTED / "roberta-cross", tmp_path / "out", "tests")

        labels = run(EXPORTED / "roberta-cross")
        assert run(tmp_path / "out")[:, 0] == pytest.approx(labels[:, 1] - labels[:, 0], abs=2e-5)

    def test_what_was_written_can_be_read_again(self, tmp_path: Path) -> None:
        """A second training begins where the first one ended, whatever family it was."""
        for name in ("roberta-cross", "distilbert-cross"):
            made = read_encoder(EXPORTED / name)
            write_encoder(made, EXPORTED / name, tmp_path / name, "tests")

            again = read_encoder(tmp_path / name)
            assert again.shape == made.shape
            assert all(np.array_equal(again.weights[key], values) for key, values in made.weights.items())

    @pytest.mark.parametrize("kind", [np.float16, "bfloat16"], ids=str)
    def test_half_precision_is_widened(self, kind: object, tmp_path: Path) -> None:
        """Weights of 16 bits are read as the float32 numbers that they stand for."""
        folder = tmp_path / "half"
        shutil.copytree(EXPORTED / "bert", folder)
        model = onnx.load(folder / "model.onnx")
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                if kind == "bfloat16":
                    raw = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
                    tensor.data_type, tensor.raw_data = onnx.TensorProto.BFLOAT16, raw
                else:
                    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
        onnx.save(model, folder / "model.onnx")

        exact, found = read_encoder(EXPORTED / "bert").weights, read_encoder(folder).weights
        assert all(found[name] == pytest.approx(values, rel=1e-2, abs=1e-3) for name, values in exact.items())

    def test_tensors_beside_the_model(self, tmp_path: Path) -> None:
        """Large models have their tensors in a second file."""
        folder = tmp_path / "outside"
        shutil.copytree(EXPORTED / "bert", folder)
        model = onnx.load(folder / "model.onnx")
        onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="data", size_threshold=64)

        exact, found = read_encoder(EXPORTED / "bert").weights, read_encoder(folder).weights
        assert all(np.array_equal(found[name], values) for name, values in exact.items())


class TestOurs:
    """Graphs that the appliance itself writes."""

    def test_the_starter_comes_out_byte_for_byte(self) -> None:
        """Read and written again it has the digest that its recipe promises: nothing is lost on the way."""
        starter = starter_embed_folder()
        made = read_encoder(starter)

        assert encoder(made.weights, made.shape, Float32(), PRODUCER) == (starter / "model.onnx").read_bytes()

    def test_a_cross_encoder_is_imported_as_one(self, tmp_path: Path) -> None:
        """Its card serves RERANKING only, and its files are whole."""
        base = write_random_encoder(tmp_path / "base")

        files = write_encoder(with_new_head(read_encoder(base), seed=1), base, tmp_path / "out", "tests")

        assert card_of(tmp_path / "out").model_types == (ModelType.RERANKING,)
        assert sorted(files) == ["config.json", "model.onnx", "tokenizer.json"]
        assert read_encoder(tmp_path / "out").has_head

    def test_an_embedding_model_keeps_its_pooling(self, tmp_path: Path) -> None:
        """Also where an import has renamed the file that says it."""
        base = write_random_encoder(tmp_path / "base")
        (base / "1_Pooling" / "config.json").rename(base / "pooling_config.json")

        write_encoder(read_encoder(base), base, tmp_path / "out", "tests")

        card = card_of(tmp_path / "out")
        assert (card.pooling, card.model_types) == ("mean", (ModelType.EMBEDDING, ModelType.RERANKING))

    def test_a_head_comes_and_goes(self) -> None:
        """Taking a new head off again leaves the encoder as it was, and a seed gives the same head."""
        made = random_encoder()

        headed = with_new_head(made, seed=1)
        assert without_head(headed).weights.keys() == made.weights.keys()
        assert np.array_equal(
            with_new_head(made, seed=1).weights["classifier.weight"], headed.weights["classifier.weight"]
        )


class TestRefused:
    """What cannot be read says what can."""

    def change(self, folder: Path, **config: object) -> Path:
        write_random_encoder(folder)
        (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
        return folder

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"model_type": "deberta-v2"}, "'deberta-v2' cannot be trained; those that can: bert, camembert, "),
            ({"position_embedding_type": "relative_key"}, "positions of the kind 'relative_key'"),
            ({"hidden_act": "silu"}, "activation 'silu' cannot be trained; gelu can"),
        ],
        ids=["family", "positions", "activation"],
    )
    def test_other_architectures(self, config: dict[str, object], message: str, tmp_path: Path) -> None:
        """They would be computed wrongly."""
        with pytest.raises(WrongWeights, match=message):
            read_encoder(self.change(tmp_path / "base", **config))

    def test_sizes_that_config_does_not_tell(self, tmp_path: Path) -> None:
        """A config.json of another model is noticed."""
        with pytest.raises(BadWeights, match=r"does not have the width 64 that config\.json tells"):
            read_encoder(self.change(tmp_path / "base", hidden_size=64))

    def test_quantized_weights_name_the_float_ones(self, tmp_path: Path) -> None:
        """Those beside them, where they are beside them."""
        write_random_encoder(tmp_path / "base")
        alone = write_random_encoder(tmp_path / "alone" / "int8", linear=Int8())
        beside = write_random_encoder(tmp_path / "base" / "int8", linear=Int8())

        with pytest.raises(WrongWeights, match="the float32 export of the same model"):
            read_encoder(alone)
        with pytest.raises(WrongWeights, match=r"train from \.\./model\.onnx, the float32 weights beside it"):
            read_encoder(beside)

    def test_a_graph_without_names(self, tmp_path: Path) -> None:
        """Optimised graphs have lost what the tensors were called."""
        folder = tmp_path / "nameless"
        shutil.copytree(EXPORTED / "bert", folder)
        model = onnx.load(folder / "model.onnx")
        names = {tensor.name: f"t{place}" for place, tensor in enumerate(model.graph.initializer)}
        for tensor in model.graph.initializer:
            tensor.name = names[tensor.name]
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
        onnx.save(model, folder / "model.onnx")

        with pytest.raises(WrongWeights, match=r"lost their names.*before the optimisation"):
            read_encoder(folder)

    @pytest.mark.parametrize("name", ["config.json", "model.onnx", "tokenizer.json"])
    def test_a_folder_that_is_not_whole(self, name: str, tmp_path: Path) -> None:
        """The missing file is named."""
        folder = write_random_encoder(tmp_path / "base")
        (folder / name).unlink()

        with pytest.raises(WrongWeights, match=f"lack {name}"):
            read_encoder(folder)

    @pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x3a\xff\xff\x03"], ids=["empty", "text", "cut"])
    def test_what_is_no_onnx(self, content: bytes, tmp_path: Path) -> None:
        """Whatever the bytes are, the error is ours."""
        folder = write_random_encoder(tmp_path / "base")
        (folder / "model.onnx").write_bytes(content)

        with pytest.raises(BadWeights, match="cannot be read as an ONNX model"):
            read_encoder(folder)


class TestQuantizing:
    """``python -m appliance.encoders``."""

    def command(self, *arguments: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "appliance.encoders", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_writes_a_folder_of_8_bit_weights(self, tmp_path: Path) -> None:
        """A cross-encoder of another writer becomes a smaller one with nearly the same scores."""
        done = self.command(EXPORTED / "bert-cross", tmp_path / "out")

        assert done.returncode == 0, done.stderr
        assert "I8" in (card_of(tmp_path / "out").quantization or "")
        assert run(tmp_path / "out") == pytest.approx(run(EXPORTED / "bert-cross"), abs=0.2)

    def test_says_what_is_wrong(self, tmp_path: Path) -> None:
        """Status 1 and one line, for a folder that is none and for one that would be written over."""
        (tmp_path / "there").mkdir()

        for arguments, message in (
            ((EXPORTED / "bert", tmp_path / "there"), "exists; name a folder that does not"),
            ((tmp_path / "there", tmp_path / "out"), "the weights lack config.json"),
        ):
            done = self.command(*arguments)
            assert (done.returncode, done.stderr.count("\n")) == (1, 1)
            assert message in done.stderr
