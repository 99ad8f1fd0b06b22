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
from appliance.training.base import open_base
from tests.support.tiny_models import write_mamba
from tests.support.tiny_trainable import cosine, llama_logits, write_trainable

CPU = torch.device("cpu")
TOKENS = [0, *np.random.default_rng(5).integers(5, 260, 40).tolist()]
STARTER = Path(__file__).parents[2] / "models_store" / "weights" / "starter-chat.gguf"


def logits_of(path: Path, tokens: list[int]) -> np.ndarray:
    model = open_base(GgufWeights(path), torch.float32, CPU)
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize("architecture", TRAINABLE_ARCHITECTURES)
def test_every_trainable_architecture_computes_as_llama_cpp_does(architecture: str, tmp_path: Path) -> None:
    """Scores after each of 41 tokens are llama.cpp's: rotations, windows, caps, norms, biases and all."""
    path = write_trainable(tmp_path / "base.gguf", architecture)

    ours, theirs = logits_of(path, TOKENS), llama_logits(path, TOKENS)

    assert cosine(ours, theirs) > 0.9999
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.95


@pytest.mark.parametrize(
    ("architecture", "layout"),
    [
        ("gemma3", {"rope_scaling": (gguf.RopeScalingType.LINEAR, 8.0)}),
        ("qwen2", {"rope_scaling": (gguf.RopeScalingType.LINEAR, 4.0)}),
        ("phi3", {"rotated": 12}),
    ],
)
def test_other_rotations_compute_as_llama_cpp_does(architecture: str, layout: dict[str, Any], tmp_path: Path) -> None:
    """Slowed down, in gemma3 in its global layers only, and of a part of each head."""
    path = write_trainable(tmp_path / "base.gguf", architecture, **layout)

    assert cosine(logits_of(path, TOKENS), llama_logits(path, TOKENS)) > 0.9999


def test_rotations_that_are_not_known_are_refused(tmp_path: Path) -> None:
    """Rather than trained as another network."""
    path = write_trainable(tmp_path / "base.gguf", "llama", rope_scaling=(gguf.RopeScalingType.YARN, 4.0))

    with pytest.raises(WrongWeights, match="scales its rotations by 'yarn'"):
        open_base(GgufWeights(path), torch.float32, CPU)


def test_starter_chat_computes_as_llama_cpp_does() -> None:
    """Quantized weights (Q8_0) are read as they stand."""
    assert cosine(logits_of(STARTER, TOKENS), llama_logits(STARTER, TOKENS)) > 0.999


def test_an_architecture_that_cannot_be_trained_is_refused_with_those_that_can(tmp_path: Path) -> None:
    """A recurrent model: the message lists what can be trained."""
    weights = GgufWeights(write_mamba(tmp_path / "mamba.gguf"))

    with pytest.raises(WrongWeights, match=r"'mamba'.*gemma, gemma2, gemma3, llama, phi3, qwen2, qwen3"):
        open_base(weights, torch.float32, CPU)


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    """What the network of transformers does not have is named, not left out."""
    path = tmp_path / "base.gguf"
    write_trainable(path, "qwen2")
    raw = path.read_bytes().replace(b"blk.0.attn_q.bias", b"blk.0.attn_x.bias")
    path.write_bytes(raw)

    with pytest.raises(WrongWeights, match=r"missing model\.layers\.0\.self_attn\.q_proj\.bias.*blk\.0\.attn_x\.bias"):
        open_base(GgufWeights(path), torch.float32, CPU)
