"""How a GGUF file's rotations are scaled, in transformers' words, as the pinned llama.cpp computes them."""

from __future__ import annotations

import math
from typing import Any

from appliance.domain.errors import WrongWeights
from appliance.store.gguf_weights import GgufWeights

Settings = dict[str, Any]


def rotations(weights: GgufWeights, *, has_own_ramp: bool = False) -> Settings:
    """``has_own_ramp``: whether llama.cpp reads where yarn's ramp begins and ends. Raises WrongWeights."""
    found: Settings = {"rope_type": "default", "rope_theta": float(weights.of_architecture("rope.freq_base") or 1e4)}
    # without a type llama.cpp takes a factor for linear
    kind = weights.of_architecture("rope.scaling.type") or "linear"
    factor = float(weights.of_architecture("rope.scaling.factor") or 1.0)
    if kind == "yarn":
        return found | _yarn(weights, factor, has_own_ramp=has_own_ramp)
    if weights.of_architecture("rope.scaling.attn_factor") not in (None, 1.0):
        raise WrongWeights(
            f"'{weights.name}' scales its scores by rope.scaling.attn_factor, which is trained with yarn only"
        )
    return found | {"rope_type": "linear", "factor": factor} if kind == "linear" and factor != 1.0 else found


def head_width(weights: GgufWeights) -> int:
    """Numbers of a head's queries and keys."""
    return int(weights.of_architecture("attention.key_length") or weights.count("embedding_length") // weights.heads)


def rotated_share(weights: GgufWeights) -> float:
    """How much of a head is rotated."""
    return int(weights.of_architecture("rope.dimension_count") or head_width(weights)) / head_width(weights)


def _yarn(weights: GgufWeights, factor: float, *, has_own_ramp: bool) -> Settings:
    def own(key: str) -> float:
        return float((weights.of_architecture(f"rope.scaling.{key}") if has_own_ramp else None) or 0.0)

    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original_context(weights),
        "beta_fast": own("yarn_beta_fast") or 32.0,
        "beta_slow": own("yarn_beta_slow") or 1.0,
        "truncate": True,
        "attention_factor": _magnitude(factor, 1.0)
        / (_magnitude(factor, own("yarn_log_multiplier")) if own("yarn_log_multiplier") else 1.0)
        * float(weights.of_architecture("rope.scaling.attn_factor") or 1.0),
    }


def original_context(weights: GgufWeights) -> int:
    """Tokens that the model was made for before its rotations were scaled."""
    return int(weights.of_architecture("rope.scaling.original_context_length") or weights.count("context_length"))


def _magnitude(factor: float, share: float) -> float:
    return 0.1 * share * math.log(factor) + 1.0 if factor > 1.0 else 1.0
