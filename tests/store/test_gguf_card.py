"""From the keys of a GGUF file to a card, and to what the weights can serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.domain.errors import BadWeights
from appliance.domain.models import Card, ModelType, WeightsFormat
from appliance.store.gguf_card import GENERATING
from appliance.store.inspection import inspect
from tests.store.weights_files import F32, I32, LLAMA_KEYS, STRING, U32, array, gguf_bytes, write_gguf


def card_of(path: Path) -> Card:
    return inspect({path.name: path})


def written(tmp_path: Path, architecture: str, tensors: tuple[str, ...] = ("output_norm.weight",), **keys: Any) -> Card:
    scalars = {key.replace("__", "."): value for key, value in keys.items()}
    return card_of(write_gguf(tmp_path / "model.gguf", architecture, scalars, tensors))


def test_a_llama_card_says_everything(llama: Path):
    """Every field of the card comes from the header."""
    assert card_of(llama) == Card(
        format=WeightsFormat.GGUF,
        architecture="llama",
        name="Tiny Llama",
        parameter_count=40 * 64 + 64,
        context_length_tokens=128,
        embedding_length=64,
        layer_count=2,
        head_count=4,
        kv_head_count=2,
        head_width=16,
        vocabulary_size=40,
        quantization="Q8_0",
        tokenizer="gpt2/default",
        chat_template="{% for m in messages %}{{ m.content }}{% endfor %}",
        licence="apache-2.0",
        weights_bytes=40 * 2 * 34 + 64 * 4,
        model_types=(ModelType.COMPLETION, ModelType.CHAT_COMPLETION, ModelType.AGENT),
        extra={"feed_forward_length": 96, "rope_freq_base": 10_000.0, "tensor_count": 2},
    )


@pytest.mark.parametrize(
    ("architecture", "keys", "tensors", "model_types", "pooling"),
    [
        ("qwen3", {}, (), GENERATING, None),
        ("bert", {"bert__pooling_type": 1}, (), (ModelType.EMBEDDING,), "mean"),
        ("bert", {"bert__pooling_type": 2}, (), (ModelType.EMBEDDING,), "cls"),
        ("bert", {"bert__pooling_type": 0}, (), (ModelType.EMBEDDING,), None),
        ("nomic-bert-moe", {}, (), (ModelType.EMBEDDING,), None),
        ("bert", {"bert__pooling_type": 4}, (), (ModelType.RERANKING,), "rank"),
        ("bert", {}, ("cls.weight",), (ModelType.RERANKING,), "rank"),
        ("bert", {"bert__pooling_type": 2}, ("cls.weight",), (ModelType.RERANKING,), "rank"),
        ("qwen3", {"qwen3__pooling_type": 3}, (), (ModelType.EMBEDDING,), "last"),
        ("qwen3", {"qwen3__pooling_type": 4}, ("cls.output.weight",), (ModelType.RERANKING,), "rank"),
        ("clip", {}, (), (), None),
        ("t5", {}, (), (), None),
        ("llama", {"general__type": "adapter"}, (), (), None),
        ("llama", {"general__type": "imatrix"}, (), (), None),
    ],
)
def test_what_weights_can_serve(tmp_path: Path, architecture: str, keys: dict[str, Any], tensors: tuple[str, ...],
                                model_types: tuple[ModelType, ...], pooling: str | None):  # fmt: skip
    """Decoders generate, encoders and pooled decoders embed, classifier heads rank, parts of models do nothing."""
    card = written(tmp_path, architecture, (*tensors, "output_norm.weight"), **keys)
    assert (card.model_types, card.pooling) == (model_types, pooling)


def test_an_adapter_names_the_architecture_it_belongs_to(tmp_path: Path):
    """A LoRA file has adapter_of and serves nothing by itself."""
    card = written(tmp_path, "llama", general__type="adapter", adapter__type="lora", adapter__lora__alpha=16.0)
    assert (card.adapter_of, card.model_types, card.extra["lora_alpha"]) == ("llama", (), 16.0)


def test_heads_that_differ_by_layer(tmp_path: Path):
    """Per-layer counts give their largest, and the sum that the cache's size follows from."""
    card = written(
        tmp_path, "openelm", openelm__embedding_length=128,
        openelm__attention__head_count=[4, 8], openelm__attention__head_count_kv=[1, 2],
    )  # fmt: skip
    assert (card.head_count, card.kv_head_count, card.head_width) == (8, 2, 16)
    assert card.extra["kv_heads_of_all_layers"] == 3


def test_a_head_width_of_its_own_wins(tmp_path: Path):
    """Gemma's and Qwen3's heads are not embedding_length / head_count wide."""
    card = written(
        tmp_path, "qwen3", qwen3__embedding_length=1024, qwen3__attention__head_count=16,
        qwen3__attention__key_length=128,
    )  # fmt: skip
    assert card.head_width == 128


def test_quantization_by_majority_when_the_file_does_not_say(tmp_path: Path):
    """Without general.file_type, or with an unknown one, most bytes decide."""
    assert written(tmp_path, "llama").quantization == "F32"
    assert written(tmp_path, "llama", general__file_type=1024).quantization == "F32"
    assert written(tmp_path, "llama", general__file_type=15).quantization == "Q4_K_M"


def test_no_heads_at_all(tmp_path: Path):
    """A recurrent model without attention has no head width, and no division by zero."""
    card = written(tmp_path, "mamba", mamba__embedding_length=64, mamba__attention__head_count=0)
    assert (card.head_count, card.head_width) == (0, None)


def test_norms_inside_states_are_told(tmp_path: Path):
    """FalconMamba is a Mamba by its architecture, and differs by these."""
    card = written(tmp_path, "mamba", mamba__ssm__dt_b_c_rms=True)
    assert card.extra["ssm_dt_b_c_rms"] is True


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"llama__block_count": "many"}, "whole number"),
        ({"llama__block_count": (1 << 32) - 1}, "whole number"),
        ({"llama__embedding_length": 0.5}, "whole number"),
        ({"llama__pooling_type": 9}, "pooling_type 9"),
        ({"general__name": 5}, "must be text"),
        ({"tokenizer__chat_template": "x" * ((1 << 20) + 1)}, "chat_template has 1048577 bytes"),
        ({"tokenizer__ggml__tokens": "not an array"}, "must be an array"),
        ({"tokenizer__ggml__tokens": [1, 2]}, "array of texts"),
    ],
)
def test_keys_of_the_wrong_kind_are_refused(tmp_path: Path, keys: dict[str, Any], fault: str):
    """A key that the card needs has the right type and range, or the file is bad."""
    with pytest.raises(BadWeights, match=fault):
        written(tmp_path, "llama", **keys)


@pytest.mark.parametrize(
    "crooked",
    [
        array("tokenizer.ggml.scores", F32, [0.0, 0.0]),
        array("tokenizer.ggml.token_type", I32, [1]),
        array("tokenizer.ggml.scores", U32, [1, 1, 1]),
        array("tokenizer.ggml.token_type", STRING, ["a", "b", "c"]),
    ],
)
def test_tables_shorter_than_the_vocabulary_are_refused(tmp_path: Path, crooked: bytes):
    """llama.cpp reads scores and types at every token's index without looking at their length."""
    path = tmp_path / "short.gguf"
    path.write_bytes(gguf_bytes((*LLAMA_KEYS, array("tokenizer.ggml.tokens", STRING, ["a", "b", "c"]), crooked)))
    with pytest.raises(BadWeights, match="for 3 tokens"):
        card_of(path)


def test_no_architecture_no_card(tmp_path: Path):
    """A container without general.architecture is not a model."""
    path = tmp_path / "none.gguf"
    path.write_bytes(gguf_bytes(()))
    with pytest.raises(BadWeights, match=r"general\.architecture"):
        card_of(path)
