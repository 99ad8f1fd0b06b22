"""What can be trained and exported, as plain data: for refusals before anything is loaded."""

from __future__ import annotations

from typing import Final

TRAINABLE_ARCHITECTURES: Final = ("gemma", "gemma2", "gemma3", "llama", "phi3", "qwen2", "qwen3")
"""GGUF architectures over which a LoRA adapter is trained, each proved against llama.cpp's logits in the tests.

``llama`` is also what Mistral and many others are called in GGUF. Mixtures of experts are not among them, whatever
their architecture.
"""

TRAINABLE_ENCODERS: Final = ("bert", "camembert", "distilbert", "roberta", "xlm-roberta")
"""Values of ``model_type`` in the config.json of ONNX weights that rerankers and embedders are trained from."""

MERGED_TYPES: Final = ("f16", "bf16", "f32", "q8_0", "keep")
"""Tensor types that a merge writes; ``keep``: each tensor in the base's own type, as far as it can be written."""
