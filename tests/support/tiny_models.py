"""Makes tiny GGUF weights with a tokenizer built in code: random, seeded, a second to write, real to llama.cpp.

Wide spread output weights give every step one clear winner, so that greedy output does not depend on rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ("<|bos|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<tool_call>", "</tool_call>")
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "e r", "a n", "Ġ a", "o n", "r e", "Ġ s")
WORDS = (
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "is",
    "it",
    "you",
    "that",
    "he",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "his",
    "they",
    "at",
    "one",
    "model",
    "answer",
    "question",
)
WIDTH, LAYERS, HEADS, FEED_FORWARD = 64, 2, 4, 128


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def vocabulary() -> list[str]:
    return [*CONTROL, *MARKS, *byte_alphabet(), *(merge.replace(" ", "") for merge in MERGES)]


class _Weights:
    def __init__(self, writer: gguf.GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, rows: int, columns: int, spread: float = 0.3) -> None:
        values = self._random.standard_normal((rows, columns), dtype=np.float32) * np.float32(spread)
        self._writer.add_tensor(name, values)

    def vector(self, name: str, length: int, fill: float = 0.0) -> None:
        self._writer.add_tensor(name, np.full(length, fill, dtype=np.float32))

    def output(self, *, quiet_end: bool) -> None:
        values = self._random.standard_normal((len(vocabulary()), WIDTH), dtype=np.float32)
        if quiet_end:
            values[: len(CONTROL)] = 0
        self._writer.add_tensor("output.weight", values)


def _save(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_llama(
    path: Path,
    *,
    seed: int = 1,
    context_length: int = 512,
    chat_template: str | None = CHAT_TEMPLATE,
    add_bos: bool = True,
    control_marks: bool = False,
    quiet_end: bool = True,
    gap_marks: Sequence[str] = (),
) -> Path:
    """A generating model. ``quiet_end``: its end-of-turn token is never the greedy choice. ``gap_marks``: the tokens of
    its vocabulary that stand before a gap's prefix, its suffix and what fills it."""
    tokens = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"tiny-{seed}")
    writer.add_context_length(context_length)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    _bpe(writer, tokens, add_bos=add_bos, control_marks=control_marks)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for place, mark in zip(("pre", "suf", "mid"), gap_marks, strict=False):
        writer.add_uint32(f"tokenizer.ggml.fim_{place}_token_id", tokens.index(mark))
    weights = _Weights(writer, seed)
    weights.matrix("token_embd.weight", len(tokens), WIDTH, 1.0)
    weights.vector("output_norm.weight", WIDTH, 1.0)
    weights.output(quiet_end=quiet_end)
    for layer in range(LAYERS):
        _llama_layer(weights, f"blk.{layer}.")
    _save(writer)
    return path


def _bpe(writer: gguf.GGUFWriter, tokens: Sequence[str], *, add_bos: bool, control_marks: bool) -> None:
    marks = gguf.TokenType.CONTROL if control_marks else gguf.TokenType.USER_DEFINED
    kinds = [
        gguf.TokenType.CONTROL if token in CONTROL else marks if token in MARKS else gguf.TokenType.NORMAL
        for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens))
    writer.add_token_types(kinds)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(add_bos)


def _llama_layer(weights: _Weights, name: str) -> None:
    half = WIDTH // 2
    weights.vector(name + "attn_norm.weight", WIDTH, 1.0)
    weights.vector(name + "ffn_norm.weight", WIDTH, 1.0)
    for part, rows in (("q", WIDTH), ("k", half), ("v", half), ("output", WIDTH)):
        weights.matrix(f"{name}attn_{part}.weight", rows, WIDTH)
    weights.matrix(name + "ffn_gate.weight", FEED_FORWARD, WIDTH)
    weights.matrix(name + "ffn_up.weight", FEED_FORWARD, WIDTH)
    weights.matrix(name + "ffn_down.weight", WIDTH, FEED_FORWARD)


def write_bert(path: Path, *, rank: bool = False, seed: int = 1, context_length: int = 128) -> Path:
    """An encoder: for embeddings (mean pooling), or for ranking."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"▁{word}" for word in WORDS)]
    tokens += [f"▁{chr(c)}" for c in range(97, 123) if f"▁{chr(c)}" not in tokens] + [chr(c) for c in range(97, 123)]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny-bert")
    writer.add_context_length(context_length)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if rank else gguf.PoolingType.MEAN)
    writer.add_token_type_count(2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(tokens) - 5))
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)
    weights = _Weights(writer, seed)
    weights.matrix("token_embd.weight", len(tokens), WIDTH, 1.0)
    weights.matrix("position_embd.weight", context_length, WIDTH, 0.1)
    weights.matrix("token_types.weight", 2, WIDTH, 0.1)
    weights.vector("token_embd_norm.weight", WIDTH, 1.0)
    weights.vector("token_embd_norm.bias", WIDTH)
    for layer in range(LAYERS):
        _bert_layer(weights, f"blk.{layer}.")
    if rank:
        weights.matrix("cls.weight", WIDTH, WIDTH)
        weights.vector("cls.bias", WIDTH)
        weights.matrix("cls.output.weight", 1, WIDTH)
        weights.vector("cls.output.bias", 1)
    _save(writer)
    return path


def _bert_layer(weights: _Weights, name: str) -> None:
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        weights.matrix(f"{name}{part}.weight", WIDTH, WIDTH)
        weights.vector(f"{name}{part}.bias", WIDTH)
    for part in ("attn_output_norm", "layer_output_norm"):
        weights.vector(f"{name}{part}.weight", WIDTH, 1.0)
        weights.vector(f"{name}{part}.bias", WIDTH)
    weights.matrix(name + "ffn_up.weight", FEED_FORWARD, WIDTH)
    weights.vector(name + "ffn_up.bias", FEED_FORWARD)
    weights.matrix(name + "ffn_down.weight", WIDTH, FEED_FORWARD)
    weights.vector(name + "ffn_down.bias", WIDTH)


def _generating(path: Path, architecture: str, context_length: int = 512) -> gguf.GGUFWriter:
    tokens = vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny-{architecture}")
    writer.add_context_length(context_length)
    writer.add_embedding_length(WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    _bpe(writer, tokens, add_bos=True, control_marks=False)
    return writer


def _ends_of(weights: _Weights) -> None:
    weights.matrix("token_embd.weight", len(vocabulary()), WIDTH, 1.0)
    weights.vector("output_norm.weight", WIDTH, 1.0)
    weights.output(quiet_end=True)


def write_mamba(path: Path, *, seed: int = 1) -> Path:
    """A recurrent model: a state per sequence that cannot be cut."""
    inner, state, rank, kernel = 2 * WIDTH, 8, 4, 4
    writer = _generating(path, "mamba")
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    weights = _Weights(writer, seed)
    _ends_of(weights)
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        weights.vector(name + "attn_norm.weight", WIDTH, 1.0)
        weights.matrix(name + "ssm_in.weight", 2 * inner, WIDTH)
        weights.matrix(name + "ssm_conv1d.weight", inner, kernel)
        weights.vector(name + "ssm_conv1d.bias", inner)
        weights.matrix(name + "ssm_x.weight", rank + 2 * state, inner)
        weights.matrix(name + "ssm_dt.weight", inner, rank)
        weights.vector(name + "ssm_dt.bias", inner, -3.0)
        writer.add_tensor(name + "ssm_a", -np.tile(np.arange(1, state + 1, dtype=np.float32), (inner, 1)))
        weights.vector(name + "ssm_d", inner, 1.0)
        weights.matrix(name + "ssm_out.weight", WIDTH, inner)
    _save(writer)
    return path


def write_windowed(path: Path, *, window: int = 16, seed: int = 1) -> Path:
    """A model whose layers, one in six apart, see a sliding window only."""
    layers = 6
    writer = _generating(path, "gemma3")
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_sliding_window(window)
    weights = _Weights(writer, seed)
    _ends_of(weights)
    for layer in range(layers):
        name = f"blk.{layer}."
        _llama_layer(weights, name)
        for part in ("attn_q_norm", "attn_k_norm"):
            weights.vector(f"{name}{part}.weight", WIDTH // HEADS, 1.0)
        for part in ("post_attention_norm", "post_ffw_norm"):
            weights.vector(f"{name}{part}.weight", WIDTH, 1.0)
    _save(writer)
    return path


def write_adapter(
    path: Path,
    strength: float,
    *,
    seed: int = 3,
    rank: int = 8,
    width: int = WIDTH,
    tensors: Sequence[str] = ("blk.0.attn_output",),
) -> Path:
    """A LoRA adapter over square matrices of llama weights; by default the first layer's output projection."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    random = np.random.default_rng(seed)
    for name in tensors:
        down = random.standard_normal((rank, width), dtype=np.float32)
        up = random.standard_normal((width, rank), dtype=np.float32) * np.float32(strength)
        writer.add_tensor(f"{name}.weight.lora_a", down)
        writer.add_tensor(f"{name}.weight.lora_b", up)
    _save(writer)
    return path
