"""What can be trained and exported, as plain data: for refusals before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

TRAINABLE_ARCHITECTURES: Final = (
    "bloom",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma4",
    "gpt-oss",
    "gpt2",
    "lfm2",
    "llama",
    "mamba",
    "minimax-m2",
    "mistral3",
    "nemotron",
    "phi3",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "stablelm",
    "starcoder2",
)
"""GGUF architectures over which a LoRA adapter is trained, each proved against llama.cpp's logits in the tests.

``llama`` is also what Mistral and many others are called in GGUF.
"""

MIXTURES: Final = frozenset({"gemma4", "gpt-oss", "minimax-m2", "qwen2moe", "qwen3moe"})
"""Those of them that are mixtures of experts, or may be. Adapters change attention and what every token passes; the
router and the experts stay as they are."""

_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED: Final = (*_ATTENTION, "gate_proj", "up_proj", "down_proj")
_FUSED: Final = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "bloom": _FUSED,
    "falcon": _FUSED,
    "gemma": _GATED,
    "gemma2": _GATED,
    "gemma3": _GATED,
    "gemma4": (*_GATED, "per_layer_input_gate", "per_layer_projection"),
    "gpt-oss": _ATTENTION,
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "lfm2": ("q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3"),
    "llama": _GATED,
    "mamba": ("in_proj", "x_proj"),
    "minimax-m2": _ATTENTION,
    "mistral3": _GATED,
    "nemotron": (*_ATTENTION, "up_proj", "down_proj"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "qwen2": _GATED,
    "qwen2moe": _GATED,
    "qwen3": _GATED,
    "qwen3moe": _ATTENTION,
    "stablelm": _GATED,
    "starcoder2": (*_ATTENTION, "c_fc", "c_proj"),
}
"""Layers that adapters can change, by the last parts of their names in transformers; a file may lack some of them."""

CHOSEN_TARGETS: Final = frozenset({"gemma4", "mamba"})
"""Architectures whose targets are not all linear layers of the blocks. Others are a router, or layers whose matrices
the network reads itself, so that it would pass an adapter by."""

ALONE: Final = frozenset({"bloom", "gpt-oss", "lfm2", "mamba"})
"""Those whose networks cannot tell examples of one row apart: each has a row of its own, whatever ``packing`` says."""

IN_FLOAT32: Final = frozenset({"bloom", "mamba"})
"""Those that 16 bits would take what they tell positions by."""

SCORES_KEPT: Final = frozenset({"bloom", "gemma2", "gpt-oss"})
"""Those whose attention keeps the scores of all pairs of tokens while it is trained."""

ROPE_SCALINGS: Final = ("none", "linear", "yarn")
"""Scalings of rotations that are trained as llama.cpp computes them."""

_REASONS: Final = {
    "t5": "encoder-decoders are not served here",
    "dream": "diffusion models are not served here",
    "llada": "diffusion models are not served here",
    "llada-moe": "diffusion models are not served here",
    "rnd1": "diffusion models are not served here",
    "deci": "transformers has no such network",
    "longrope": "llama.cpp chooses its factors by the context that a deployment is given",
}
"""Why some are not trained."""


def against_half(architecture: str) -> str | None:
    """Why a base is not computed in bfloat16, in words that follow its name; None: it can be."""
    if architecture not in IN_FLOAT32:
        return None
    return f"({architecture}) loses its positions in bfloat16; leave it at auto, or say float32"


def untrainable(
    architecture: str, expert_count: object = None, rope_scaling: object = None, state_norms: object = None
) -> str | None:
    """What is against an adapter over GGUF weights, in words that follow their name; None: nothing.

    ``state_norms``: whether there are norms inside the states of a Mamba.
    """
    if architecture not in TRAINABLE_ARCHITECTURES:
        return (
            f"is of the architecture '{architecture}', over which no adapter can be trained{_because(architecture)}; "
            f"these can: {', '.join(TRAINABLE_ARCHITECTURES)}"
        )
    if expert_count and architecture not in MIXTURES:
        return (
            f"is a mixture of experts of the architecture '{architecture}', over which no adapter can be trained; "
            f"of mixtures these can: {', '.join(sorted(MIXTURES))}"
        )
    if rope_scaling is not None and rope_scaling not in ROPE_SCALINGS:
        return (
            f"scales its rotations by '{rope_scaling}'{_because(rope_scaling)}; an adapter can be trained with: "
            f"{', '.join(ROPE_SCALINGS)}"
        )
    if state_norms:
        return (
            "has norms inside its states, as FalconMamba has, over which no adapter can be trained; "
            "fine-tune a Mamba without them"
        )
    return None


def unknown_target(architecture: str, targets: Iterable[str]) -> str | None:
    """What is wrong with the layers that an adapter is to change, in words that follow the base's name."""
    known = TARGETS[architecture]
    unknown = next((name for name in targets if name not in known), None)
    return None if unknown is None else f"({architecture}) has no '{unknown}'; it has {', '.join(known)}"


def _because(what: object) -> str:
    reason = _REASONS.get(str(what))
    return f" ({reason})" if reason else ""


TRAINABLE_ENCODERS: Final = ("bert", "camembert", "distilbert", "roberta", "xlm-roberta")
"""Values of ``model_type`` in the config.json of ONNX weights that rerankers and embedders are trained from."""

KEPT_TYPES: Final = "keep"
PLAIN_TYPES: Final = ("f16", "bf16", "f32", "q8_0", KEPT_TYPES)
"""Tensor types that a merge writes in one pass; ``keep``: each tensor in the base's own type."""
QUANTIZED_TYPES: Final = (
    "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q4_0", "iq4_nl", "iq4_xs", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k",
)  # fmt: skip
"""Mixtures of tensor types that llama.cpp makes of a merge in f16, largest first."""
MERGED_TYPES: Final = (*PLAIN_TYPES, *QUANTIZED_TYPES)
"""What a merge can be written as."""
MATRIX_TYPES: Final = ("iq3_xxs", "iq3_xs", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "q2_k_s")
"""Mixtures that are garbage without an importance matrix, which a merge does not have."""


def partials(place: Path) -> tuple[Path, Path]:
    """What a merge writes beside ``place`` before that is whole: in f16 where it is quantized then, and the result."""
    return place.with_name(f"{place.name}.f16.partial"), place.with_name(f"{place.name}.partial")
