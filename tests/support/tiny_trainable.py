"""Tiny GGUF weights of every architecture that can be trained, and what llama.cpp computes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from appliance.engines.llama.runtime import Context, ContextOptions, Model
from tests.support.tiny_architectures import TINY, VARIANTS, Tensors, Tiny
from tests.support.tiny_models import CHAT_TEMPLATE, CONTROL, MARKS, MERGES, vocabulary

Floats = npt.NDArray[np.float32]

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_WIDTH, FEED_FORWARD, CONTEXT = 64, 2, 4, 2, 16, 96, 256
_GEMMA = ("gemma", "gemma2", "gemma3")


def write_trainable(
    path: Path, architecture: str, *, seed: int = 1, chat_template: str | None = CHAT_TEMPLATE, half: bool = False,
    rope_scaling: tuple[gguf.RopeScalingType, float] | None = None, rotated: int = 16, variant: str = "",
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> Path:  # fmt: skip
    """Random weights. ``half``: matrices as F16; ``rotated``: numbers of a head that phi3 rotates; ``variant``, and
    ``kind`` of matrices: of those in ``tiny_architectures``."""
    tiny = VARIANTS[architecture, variant] if variant else TINY.get(architecture)
    if tiny is not None:
        return _write_tiny(path, architecture, tiny, seed, gguf.GGMLQuantizationType.F16 if half else kind)
    layers = 6 if architecture == "gemma3" else LAYERS
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny {architecture[:3]}")  # of a name with phi3 in it llama.cpp expects Phi's vocabulary
    _describe(writer, architecture, layers, rotated)
    if rope_scaling is not None:
        writer.add_rope_scaling_type(rope_scaling[0])
        writer.add_rope_scaling_factor(rope_scaling[1])
    _spell(writer, chat_template)
    weights = _Weights(writer, seed, half=half, norms=1.0)
    weights.matrix("token_embd.weight", len(vocabulary()), WIDTH, 0.5)
    weights.vector("output_norm.weight", WIDTH)
    if architecture not in _GEMMA:
        weights.matrix("output.weight", len(vocabulary()), WIDTH, 0.3)
    if architecture == "llama":
        writer.add_tensor("rope_freqs.weight", np.linspace(1.0, 4.0, HEAD_WIDTH // 2, dtype=np.float32))
    for layer in range(layers):
        _layer(weights, architecture, f"blk.{layer}.")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_tiny(path: Path, architecture: str, tiny: Tiny, seed: int, kind: gguf.GGMLQuantizationType) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny {architecture[:3]}")
    writer.add_block_count(tiny.layers)
    for describe in tiny.describe:
        describe(writer)
    _spell(writer, CHAT_TEMPLATE)
    tensors = Tensors(writer, seed, kind)
    tiny.ends(tensors)
    for layer in range(tiny.layers):
        tiny.layer(tensors, f"blk.{layer}.", layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _describe(writer: gguf.GGUFWriter, architecture: str, layers: int, rotated: int) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(vocabulary()))
    if architecture in ("llama", "phi3", "qwen2"):
        writer.add_rope_dimension_count(rotated)
    else:
        writer.add_key_length(HEAD_WIDTH)
        writer.add_value_length(HEAD_WIDTH)
    if architecture == "phi3":
        writer.add_rope_scaling_orig_ctx_len(CONTEXT)
    if architecture in ("gemma2", "gemma3"):
        writer.add_sliding_window(8)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(2.0)
        writer.add_final_logit_softcapping(5.0)


def _spell(writer: gguf.GGUFWriter, chat_template: str | None) -> None:
    tokens = vocabulary()
    kinds = [
        gguf.TokenType.CONTROL if token in CONTROL
        else gguf.TokenType.USER_DEFINED if token in MARKS
        else gguf.TokenType.NORMAL
        for token in tokens
    ]  # fmt: skip
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


class _Weights:
    def __init__(self, writer: gguf.GGUFWriter, seed: int, *, half: bool, norms: float) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)
        self._half = half
        self._norms = norms

    def matrix(self, name: str, rows: int, columns: int, spread: float = 0.2) -> None:
        values = self._random.standard_normal((rows, columns), dtype=np.float32) * np.float32(spread)
        self._writer.add_tensor(name, values.astype(np.float16) if self._half else values)

    def vector(self, name: str, length: int) -> None:
        spread = self._random.standard_normal(length, dtype=np.float32) * np.float32(0.1)
        self._writer.add_tensor(name, (np.float32(self._norms) + spread).astype(np.float32))

    def bias(self, name: str, length: int) -> None:
        self._writer.add_tensor(name, self._random.standard_normal(length, dtype=np.float32) * np.float32(0.2))


def _layer(weights: _Weights, architecture: str, name: str) -> None:
    queries, keys = HEADS * HEAD_WIDTH, KV_HEADS * HEAD_WIDTH
    weights.vector(name + "attn_norm.weight", WIDTH)
    weights.vector(name + "ffn_norm.weight", WIDTH)
    if architecture == "phi3":
        weights.matrix(name + "attn_qkv.weight", queries + 2 * keys, WIDTH)
        weights.matrix(name + "ffn_up.weight", 2 * FEED_FORWARD, WIDTH)
    else:
        for part, rows in (("q", queries), ("k", keys), ("v", keys)):
            weights.matrix(f"{name}attn_{part}.weight", rows, WIDTH)
            if architecture == "qwen2":
                weights.bias(f"{name}attn_{part}.bias", rows)
        weights.matrix(name + "ffn_gate.weight", FEED_FORWARD, WIDTH)
        weights.matrix(name + "ffn_up.weight", FEED_FORWARD, WIDTH)
    weights.matrix(name + "attn_output.weight", WIDTH, queries)
    weights.matrix(name + "ffn_down.weight", WIDTH, FEED_FORWARD)
    if architecture in ("qwen3", "gemma3"):
        weights.vector(name + "attn_q_norm.weight", HEAD_WIDTH)
        weights.vector(name + "attn_k_norm.weight", HEAD_WIDTH)
    if architecture in ("gemma2", "gemma3"):
        weights.vector(name + "post_attention_norm.weight", WIDTH)
        weights.vector(name + "post_ffw_norm.weight", WIDTH)


def llama_logits(path: Path, tokens: Sequence[int], adapter: Path | None = None) -> Floats:
    """What llama.cpp scores after each token: (tokens, vocabulary)."""
    model = Model(path, adapter)
    options = ContextOptions(cells_tokens=CONTEXT * 2, sequences=1, batch_tokens=1, threads=1)
    context = Context(model, options)
    try:
        rows = []
        for position, token in enumerate(tokens):
            context.batch.clear()
            context.batch.add(0, position, np.array([token], dtype=np.int32), want_last=True)
            assert context.decode()
            rows.append(context.logits(1)[0].copy())
        return np.stack(rows)
    finally:
        context.close()
        model.close()


def cosine(left: Floats, right: Floats) -> float:
    """Between two flattened arrays."""
    a, b = left.ravel().astype(np.float64), right.ravel().astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
