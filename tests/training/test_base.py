"""The network that is trained is the one that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from appliance.domain.errors import WrongWeights
from appliance.domain.trainable import TRAINABLE_ARCHITECTURES
from appliance.store.gguf_weights import GgufWeights
from appliance.store.lora import save
from appliance.training.base import open_base
from appliance.training.machine import prepare
from tests.support.tiny_architectures import VARIANTS
from tests.support.tiny_trainable import cosine, llama_logits, write_trainable

CPU = torch.device("cpu")
TOKENS = [0, *np.random.default_rng(5).integers(5, 260, 40).tolist()]
STARTER = Path(__file__).parents[2] / "models_store" / "weights" / "starter-chat.gguf"


def logits_of(path: Path, tokens: list[int]) -> np.ndarray:
    prepare("cpu", 1)  # so small a network is no work to share
    model = open_base(GgufWeights(path), torch.float32, CPU)
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize("architecture", TRAINABLE_ARCHITECTURES)
def test_every_trainable_architecture_computes_as_llama_cpp_does(architecture: str, tmp_path: Path) -> None:
    """Scores after each of 41 tokens are llama.cpp's: rotations, windows, caps, norms, biases and all."""
    # with the first seed two experts of minimax-m2 are so near to each other that rounding chooses
    path = write_trainable(tmp_path / "base.gguf", architecture, seed=2)

    ours, theirs = logits_of(path, TOKENS), llama_logits(path, TOKENS)

    assert cosine(ours, theirs) > 0.9999
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.95


@pytest.mark.parametrize(
    ("architecture", "layout"),
    [
        ("gemma3", {"rope_scaling": (gguf.RopeScalingType.LINEAR, 8.0)}),
        ("qwen2", {"rope_scaling": (gguf.RopeScalingType.LINEAR, 4.0)}),
        ("phi3", {"rotated": 12}),
        ("llama", {"rope_scaling": (gguf.RopeScalingType.YARN, 4.0)}),
        ("qwen3", {"rope_scaling": (gguf.RopeScalingType.YARN, 16.0)}),
        ("gemma3", {"rope_scaling": (gguf.RopeScalingType.YARN, 4.0)}),
    ],
)
def test_other_rotations_compute_as_llama_cpp_does(architecture: str, layout: dict[str, Any], tmp_path: Path) -> None:
    """Slowed down, all alike or by yarn, in gemma3 in its global layers only; and of a part of each head."""
    path = write_trainable(tmp_path / "base.gguf", architecture, **layout)

    assert cosine(logits_of(path, TOKENS), llama_logits(path, TOKENS)) > 0.9999


def test_rotations_that_are_not_known_are_refused(tmp_path: Path) -> None:
    """Rather than trained as another network."""
    path = write_trainable(tmp_path / "base.gguf", "phi3", rope_scaling=(gguf.RopeScalingType.LONGROPE, 4.0))

    with pytest.raises(WrongWeights, match=r"scales its rotations by 'longrope' \(.*\); .* with: none, linear, yarn"):
        open_base(GgufWeights(path), torch.float32, CPU)


@pytest.mark.parametrize(("architecture", "variant"), sorted(VARIANTS.keys() - {("bloom", "narrow")}))
def test_other_layouts_compute_as_llama_cpp_does(architecture: str, variant: str, tmp_path: Path) -> None:
    """Of one architecture: one head of keys, one norm or two, halves beside each other, a norm for each head."""
    path = write_trainable(tmp_path / "base.gguf", architecture, variant=variant)

    assert cosine(logits_of(path, TOKENS), llama_logits(path, TOKENS)) > 0.9999


def test_starter_chat_computes_as_llama_cpp_does() -> None:
    """Quantized weights (Q8_0) are read as they stand."""
    assert cosine(logits_of(STARTER, TOKENS), llama_logits(STARTER, TOKENS)) > 0.999


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("falcon", gguf.GGMLQuantizationType.Q8_0),
        ("gpt2", gguf.GGMLQuantizationType.Q8_0),
        ("qwen2moe", gguf.GGMLQuantizationType.Q8_0),
        ("gpt-oss", gguf.GGMLQuantizationType.MXFP4),
    ],
)
def test_quantized_weights_compute_as_llama_cpp_does(
    architecture: str, kind: gguf.GGMLQuantizationType, tmp_path: Path
) -> None:
    """Fused matrices and experts too, in the types they come in."""
    path = write_trainable(tmp_path / "base.gguf", architecture, kind=kind)

    assert cosine(logits_of(path, TOKENS), llama_logits(path, TOKENS)) > 0.998


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("rwkv7", ""), ("t5", r" \(encoder-decoders are not served here\)"), ("deci", r" \(transformers has no .*\)")],
)
def test_an_architecture_that_cannot_be_trained_is_refused_with_those_that_can(
    architecture: str, reason: str, tmp_path: Path
) -> None:
    """The message lists what can be trained, and has the reason where there is one of its own."""
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", architecture)
    save(writer)

    listed = f"{reason}; these can: {', '.join(TRAINABLE_ARCHITECTURES)}"
    with pytest.raises(WrongWeights, match=f"'{architecture}', over which no adapter can be trained{listed}"):
        open_base(GgufWeights(tmp_path / "other.gguf"), torch.float32, CPU)


def test_a_mamba_with_norms_inside_its_states_is_refused(tmp_path: Path) -> None:
    """Its network in transformers is another one."""
    writer = gguf.GGUFWriter(tmp_path / "falcon-mamba.gguf", "mamba")
    writer.add_ssm_dt_b_c_rms(True)
    save(writer)

    with pytest.raises(WrongWeights, match="has norms inside its states, as FalconMamba has"):
        open_base(GgufWeights(tmp_path / "falcon-mamba.gguf"), torch.float32, CPU)


def test_a_mixture_of_experts_is_refused_where_its_network_has_none(tmp_path: Path) -> None:
    """The message lists the mixtures that can be trained."""
    writer = gguf.GGUFWriter(tmp_path / "mixtral.gguf", "llama")
    writer.add_expert_count(8)
    save(writer)

    with pytest.raises(
        WrongWeights, match=r"mixture of experts of the .* 'llama'.*: gemma4, gpt-oss, minimax-m2, qwen2moe, qwen3moe"
    ):
        open_base(GgufWeights(tmp_path / "mixtral.gguf"), torch.float32, CPU)


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    """With both shapes: PyTorch would spread a single row over all."""
    path = write_trainable(tmp_path / "base.gguf", "bloom", variant="narrow")

    with pytest.raises(WrongWeights, match=r"blk\.0\.ffn_up\.weight make \(96, 64\), and \(256, 64\) is needed"):
        open_base(GgufWeights(path), torch.float32, CPU)


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    """What the network of transformers does not have is named, not left out."""
    path = tmp_path / "base.gguf"
    write_trainable(path, "qwen2")
    raw = path.read_bytes().replace(b"blk.0.attn_q.bias", b"blk.0.attn_x.bias")
    path.write_bytes(raw)

    with pytest.raises(WrongWeights, match=r"missing model\.layers\.0\.self_attn\.q_proj\.bias.*blk\.0\.attn_x\.bias"):
        open_base(GgufWeights(path), torch.float32, CPU)
