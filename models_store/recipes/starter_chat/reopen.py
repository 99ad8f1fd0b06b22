"""From GGUF back to a checkpoint: training goes on from the file that ships, without the scratch folder that made it.

The inverse of ``export``. The weights come back with the rounding of Q8_0, and the optimizers start anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

from . import tokenizer
from .model import Shape

Array = npt.NDArray[np.float32]


def halved(weight: Array, heads: int) -> Array:
    """Rows of a q or k matrix (width, width) as training orders them; the inverse of ``export.interleaved``."""
    width, inputs = weight.shape
    pairs = weight.reshape(heads, width // heads // 2, 2, inputs)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(width, inputs))


def reopen(source: Path, folder: Path) -> None:
    """Write ``checkpoint.pt`` and ``tokenizer.json`` into the folder."""
    reader = gguf.GGUFReader(source)
    shape = _shape(reader)
    folder.mkdir(parents=True, exist_ok=True)
    _codec(reader).save(str(folder / "tokenizer.json"))
    kept = {
        "model": _state(reader, shape),
        "optimizers": [],
        "shape": shape.as_dict(),
        "tokens": int(_field(reader, "starter.training_tokens")),
        "seconds": float(_field(reader, "starter.training_seconds")),
        "progress": 1.0,
        "seed": int(_field(reader, "starter.recipe_seed")),
    }
    torch.save(kept, folder / "checkpoint.pt")


def _state(reader: gguf.GGUFReader, shape: Shape) -> dict[str, torch.Tensor]:
    state = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            values = halved(values, shape.heads)
        state[tensor.name] = torch.from_numpy(values.copy())
    return state


def _shape(reader: gguf.GGUFReader) -> Shape:
    return Shape(
        vocabulary=int(_field(reader, "llama.vocab_size")),
        width=int(_field(reader, "llama.embedding_length")),
        layers=int(_field(reader, "llama.block_count")),
        heads=int(_field(reader, "llama.attention.head_count")),
        feed_forward=int(_field(reader, "llama.feed_forward_length")),
        context_tokens=int(_field(reader, "llama.context_length")),
    )


def _codec(reader: gguf.GGUFReader) -> Any:
    merges = [tuple(merge.split(" ", 1)) for merge in _field(reader, "tokenizer.ggml.merges")]
    return tokenizer.assemble(list(_field(reader, "tokenizer.ggml.tokens")), merges)


def _field(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise ValueError(f"the file has no field {name}; only files that this recipe wrote can be reopened")
    return field.contents()
