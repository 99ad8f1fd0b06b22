"""What can be trained and exported, as plain data: for refusals before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TRAINABLE_ARCHITECTURES: Final = ("gemma", "gemma2", "gemma3", "llama", "phi3", "qwen2", "qwen3")
"""GGUF architectures over which a LoRA adapter is trained, each proved against llama.cpp's logits in the tests.

``llama`` is also what Mistral and many others are called in GGUF. Mixtures of experts are not among them, whatever
their architecture.
"""

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
