"""A merge computes what base and adapter did, in every type that it writes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from appliance.domain.errors import InvalidParameter, WrongWeights
from appliance.domain.trainable import PLAIN_TYPES
from appliance.store.gguf_layout import as_in_file, as_in_transformers
from appliance.store.gguf_weights import GgufWeights
from appliance.store.inspection import inspect
from appliance.store.lora import Adapter, Factors, write_adapter
from appliance.store.merge import merge, merged_bytes
from tests.support.tiny_trainable import cosine, llama_logits, write_trainable

TOKENS = [0, 40, 41, 42, 100, 101, 7]


def factors(outputs: int, inputs: int, seed: int = 1) -> Factors:
    random = np.random.default_rng(seed)
    down = random.standard_normal((4, inputs), dtype=np.float32) * np.float32(0.2)
    return Factors(down, random.standard_normal((outputs, 4), dtype=np.float32) * np.float32(0.2), 2.0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_trainable(tmp_path / "base.gguf", "llama", half=True)


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    shapes = (("self_attn.q_proj", 64, 64), ("self_attn.k_proj", 32, 64), ("mlp.down_proj", 64, 96))
    modules = {
        f"model.layers.{layer}.{name}": factors(outputs, inputs, layer)
        for layer in range(2)
        for name, outputs, inputs in shapes
    }
    write_adapter(tmp_path / "adapter.gguf", GgufWeights(base), modules, alpha=8.0)
    return tmp_path / "adapter.gguf"


@pytest.mark.parametrize("kind", PLAIN_TYPES)
def test_a_merge_computes_what_base_and_adapter_did(kind: str, base: Path, adapter: Path, tmp_path: Path) -> None:
    """In llama.cpp, without the adapter; the file is sound, and keeps tokenizer, template and name of the base."""
    place = tmp_path / "merged.gguf"
    told: list[tuple[int, int]] = []
    merge(GgufWeights(base), Adapter(adapter), place, kind, lambda done, all_: told.append((done, all_)))

    assert cosine(llama_logits(place, TOKENS), llama_logits(base, TOKENS, adapter)) > 0.999
    assert cosine(llama_logits(place, TOKENS), llama_logits(base, TOKENS)) < 0.99
    card, before = inspect({"merged.gguf": place}), inspect({"base.gguf": base})
    assert (card.chat_template, card.tokenizer, card.name) == (before.chat_template, before.tokenizer, before.name)
    assert card.model_types == before.model_types
    if kind != "keep":
        assert card.quantization == kind.upper()
    assert told[-1][0] == told[-1][1] == len(GgufWeights(base).tensors)
    assert merged_bytes(GgufWeights(base), Adapter(adapter), kind) == pytest.approx(place.stat().st_size, abs=4096)


@pytest.mark.parametrize(
    ("architecture", "modules"),
    [
        ("falcon", {"transformer.h.0.self_attention.query_key_value": (128, 64)}),
        ("bloom", {"transformer.h.1.self_attention.query_key_value": (192, 64)}),
        ("gpt2", {"transformer.h.0.attn.c_attn": (192, 64), "transformer.h.1.mlp.c_proj": (64, 96)}),
        ("qwen2moe", {"model.layers.0.mlp.shared_expert.up_proj": (64, 64)}),
        ("gpt-oss", {"model.layers.0.self_attn.q_proj": (64, 64)}),
        ("lfm2", {"model.layers.0.conv.in_proj": (192, 64), "model.layers.1.self_attn.out_proj": (64, 64)}),
        ("mamba", {"backbone.layers.0.mixer.in_proj": (256, 64)}),
        ("stablelm", {"model.layers.0.self_attn.k_proj": (32, 64)}),
        ("mistral3", {"model.layers.0.self_attn.k_proj": (32, 64)}),
    ],
)
def test_every_layout_is_merged(architecture: str, modules: dict[str, tuple[int, int]], tmp_path: Path) -> None:
    """Fused rows, experts, states. What llama.cpp reads in 32 bits only stays so: routers, convolutions, positions."""
    base = write_trainable(tmp_path / "base.gguf", architecture)
    weights = GgufWeights(base)
    factored = {name: factors(*shape) for name, shape in modules.items()}
    write_adapter(tmp_path / "adapter.gguf", weights, factored, alpha=8.0)
    merge(weights, Adapter(tmp_path / "adapter.gguf"), tmp_path / "merged.gguf", "f16")

    merged, both = llama_logits(tmp_path / "merged.gguf", TOKENS), llama_logits(base, TOKENS, tmp_path / "adapter.gguf")
    assert cosine(merged, both) > 0.999
    assert cosine(merged, llama_logits(base, TOKENS)) < 0.99


def test_tensors_that_the_adapter_leaves_alone_keep_their_bytes(base: Path, adapter: Path, tmp_path: Path) -> None:
    """Nothing is computed twice: what is not changed is copied."""
    merge(GgufWeights(base), Adapter(adapter), tmp_path / "merged.gguf", "keep")

    before, after = GgufWeights(base), GgufWeights(tmp_path / "merged.gguf")
    pairs = {name: (before.tensors[name].data, after.tensors[name].data) for name in before.tensors}
    changed = {name for name, (one, other) in pairs.items() if one.tobytes() != other.tobytes()}
    assert changed == Adapter(adapter).targets
    assert before.shape("blk.0.attn_q.weight") == after.shape("blk.0.attn_q.weight")


def test_a_merge_with_other_weights_is_refused(adapter: Path, tmp_path: Path) -> None:
    """The adapter knows the digest of the file it was trained over; another architecture is named as such."""
    other = GgufWeights(write_trainable(tmp_path / "other.gguf", "llama", seed=9))
    with pytest.raises(InvalidParameter, match="was trained over other weights"):
        merge(other, Adapter(adapter), tmp_path / "merged.gguf", "f16")
    another = GgufWeights(write_trainable(tmp_path / "another.gguf", "qwen2"))
    with pytest.raises(WrongWeights, match=r"the adapter is for 'llama', 'tiny qwe' is 'qwen2'"):
        merge(another, Adapter(adapter), tmp_path / "merged.gguf", "f16")


def test_an_unknown_type_is_refused_with_the_known_ones(base: Path, adapter: Path, tmp_path: Path) -> None:
    """And nothing is written."""
    with pytest.raises(InvalidParameter, match="f16, bf16, f32, q8_0, keep"):
        merge(GgufWeights(base), Adapter(adapter), tmp_path / "merged.gguf", "q4_k_m")
    assert not (tmp_path / "merged.gguf").exists()


def test_factors_of_other_weights_are_refused(base: Path, tmp_path: Path) -> None:
    """Both shapes are in the message, and a module without a place is named."""
    with pytest.raises(WrongWeights, match=r"attn_q\.weight of 'tiny lla' is 64 x 64; the adapter is for 48 x 64"):
        write_adapter(tmp_path / "a.gguf", GgufWeights(base), {"model.layers.0.self_attn.q_proj": factors(48, 64)}, 8.0)
    with pytest.raises(WrongWeights, match=r"has no matrix for model\.layers\.7\.self_attn\.q_proj"):
        write_adapter(tmp_path / "a.gguf", GgufWeights(base), {"model.layers.7.self_attn.q_proj": factors(64, 64)}, 8.0)


@pytest.mark.parametrize("module", ["mlp.experts.down_proj", "mlp.shared_expert_gate", "mlp.experts.0.up_proj"])
def test_experts_take_no_adapter(module: str, tmp_path: Path) -> None:
    """What is no matrix of its own in the file is named: one that was made elsewhere may have such parts."""
    base = GgufWeights(write_trainable(tmp_path / "base.gguf", "qwen2moe"))
    with pytest.raises(WrongWeights, match=rf"\(qwen2moe\) has no matrix for model\.layers\.0\.{re.escape(module)}"):
        write_adapter(tmp_path / "a.gguf", base, {f"model.layers.0.{module}": factors(64, 32)}, 8.0)


def test_a_model_is_no_adapter(base: Path) -> None:
    """Weights in the adapter's place are refused in words."""
    with pytest.raises(WrongWeights, match="is no LoRA adapter"):
        Adapter(base)


@pytest.mark.parametrize(
    ("architecture", "tensor"), [("llama", "attn_q"), ("falcon", "attn_qkv"), ("bloom", "attn_qkv")]
)
def test_rows_are_turned_and_turned_back(architecture: str, tensor: str, tmp_path: Path) -> None:
    """Of matrices and of biases; tensors whose rows lie alike on both sides are left as they are."""
    weights = GgufWeights(write_trainable(tmp_path / "base.gguf", architecture))
    name = f"blk.0.{tensor}.weight"
    rows = np.arange(weights.shape(name)[0], dtype=np.float32)

    assert not np.array_equal(as_in_file(weights, name, rows), rows)
    assert np.array_equal(as_in_transformers(weights, name, as_in_file(weights, name, rows)), rows)
    assert np.array_equal(as_in_file(weights, "blk.0.attn_output.weight", rows), rows)
