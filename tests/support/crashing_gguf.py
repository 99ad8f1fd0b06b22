"""A GGUF whose header passes all checks and whose vocabulary makes llama.cpp abort the process that reads it."""

from __future__ import annotations

from pathlib import Path

import gguf

from appliance.store.gguf_weights import GgufWeights

TOKENS = "tokenizer.ggml.tokens"
_WRITTEN_BY_ITSELF = ("GGUF.", "general.architecture")


def write_crashing(path: Path, sound: Path) -> Path:
    """The weights of ``sound`` with one token twice: llama.cpp asserts that there are as many texts as tokens."""
    weights = GgufWeights(sound)
    writer = gguf.GGUFWriter(path, weights.architecture)
    for field in weights.fields():
        if field.name.startswith(_WRITTEN_BY_ITSELF):
            continue
        value = field.contents()
        if field.name == TOKENS:
            value[-1] = value[-2]
        sub_type = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=sub_type)
    for name, tensor in weights.tensors.items():
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
