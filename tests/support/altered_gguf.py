"""GGUF files that are another one but for some of its metadata; one that makes llama.cpp abort among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf

from appliance.store.gguf_weights import GgufWeights
from appliance.store.lora import save

TOKENS = "tokenizer.ggml.tokens"
_WRITTEN_BY_ITSELF = ("GGUF.", "general.architecture")


def copy_fields(writer: gguf.GGUFWriter, weights: GgufWeights, changed: Mapping[str, Any]) -> None:
    """All metadata, with other values where ``changed`` has some."""
    for field in weights.fields():
        if not field.name.startswith(_WRITTEN_BY_ITSELF):
            value = changed.get(field.name, field.contents())
            sub_type = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, value, field.types[0], sub_type=sub_type)


def write_crashing(path: Path, sound: Path) -> Path:
    """The weights of ``sound`` with one token twice, which passes all checks of the header.

    llama.cpp asserts that there are as many texts as tokens, and aborts the process that reads the vocabulary.
    """
    weights = GgufWeights(sound)
    tokens = weights.field(TOKENS)
    writer = gguf.GGUFWriter(path, weights.architecture)
    copy_fields(writer, weights, {TOKENS: [*tokens[:-1], tokens[-2]]})
    for name, tensor in weights.tensors.items():
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    save(writer)
    return path
