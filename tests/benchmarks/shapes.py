"""Weights of real shapes with random numbers, to measure speed without downloads: speed depends on shapes alone.

    .venv/bin/python -m tests.benchmarks.shapes --vocabulary ggml-vocab-qwen2.gguf --shape tiny --out tiny.gguf

The tokenizer is copied from any GGUF that has one, such as the vocabulary files in llama.cpp's source.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from msgspec import Struct


class Shape(Struct, frozen=True, kw_only=True):
    """Sizes of a Qwen2 network."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward_width: int


SHAPES = {
    "tiny": Shape(layers=4, width=256, heads=4, kv_heads=2, feed_forward_width=1024),
    "half": Shape(layers=24, width=896, heads=14, kv_heads=2, feed_forward_width=4864),
}
"""``tiny``: 43 million parameters. ``half``: 494 million, the shape of Qwen2.5-0.5B."""

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write(path: Path, shape: Shape, vocabulary: Path, seed: int = 0) -> Path:
    """Write Q8_0 weights of this shape."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(f"random-{path.stem}")
    writer.add_context_length(32_768)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward_width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_chat_template(CHAT_TEMPLATE)
    tokens = _copy_tokenizer(gguf.GGUFReader(vocabulary), writer)
    _Tensors(writer, seed).add(shape, tokens)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _copy_tokenizer(source: gguf.GGUFReader, writer: gguf.GGUFWriter) -> int:
    """Copy every tokenizer field but the chat template; the vocabulary's size in tokens."""
    kinds = gguf.GGUFValueType
    add: dict[Any, Any] = {
        kinds.ARRAY: writer.add_array,
        kinds.STRING: writer.add_string,
        kinds.BOOL: writer.add_bool,
    }
    for key, field in source.fields.items():
        if key.startswith("tokenizer.") and key != "tokenizer.chat_template":
            add.get(field.types[0], lambda k, v: writer.add_uint32(k, int(v)))(key, field.contents())
    return len(source.fields["tokenizer.ggml.tokens"].contents())


class _Tensors:
    """Random matrices as small as a trained network's."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def add(self, shape: Shape, tokens: int) -> None:
        width, head_width = shape.width, shape.width // shape.heads
        self._matrix("token_embd.weight", tokens, width)
        self._vector("output_norm.weight", width, 1)
        for layer in range(shape.layers):
            name = f"blk.{layer}."
            self._vector(name + "attn_norm.weight", width, 1)
            self._vector(name + "ffn_norm.weight", width, 1)
            for part, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)):
                self._matrix(f"{name}attn_{part}.weight", heads * head_width, width)
                self._vector(f"{name}attn_{part}.bias", heads * head_width, 0)
            self._matrix(name + "attn_output.weight", width, shape.heads * head_width)
            self._matrix(name + "ffn_gate.weight", shape.feed_forward_width, width)
            self._matrix(name + "ffn_up.weight", shape.feed_forward_width, width)
            self._matrix(name + "ffn_down.weight", width, shape.feed_forward_width)

    def _matrix(self, name: str, rows: int, columns: int) -> None:
        kind = gguf.GGMLQuantizationType.Q8_0
        values = self._random.standard_normal((rows, columns), dtype=np.float32) * 0.02
        self._writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def _vector(self, name: str, length: int, fill: float) -> None:
        self._writer.add_tensor(name, np.full(length, fill, dtype=np.float32))


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    write(options.out, SHAPES[options.shape], options.vocabulary)


if __name__ == "__main__":
    main()
