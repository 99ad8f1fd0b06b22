"""What tiny weights of each architecture beyond llama's kin are made of: a record of its header and its tensors.

Shapes and names are those that llama.cpp asks for (``src/models``), as its converters write them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import gguf
import numpy as np
import numpy.typing as npt

from tests.support.tiny_models import vocabulary

Floats = npt.NDArray[np.float32]

WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, FEED_FORWARD, CONTEXT = 64, 4, 2, 16, 96, 256
QUERIES, KEYS = HEADS * HEAD_WIDTH, KV_HEADS * HEAD_WIDTH
EXPERTS, EXPERT_WIDTH, SHARED_WIDTH = 4, 32, 64
KERNEL, STATE, STEP_RANK = 3, 8, 4


class Tensors:
    """Random tensors, always the same ones of a seed. ``kind``: of matrices; those that it does not suit stay F32."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int, kind: gguf.GGMLQuantizationType) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)
        self._kind = kind

    def matrix(self, name: str, *shape: int, spread: float = 0.2) -> None:
        values = self._random.standard_normal(shape, dtype=np.float32) * np.float32(spread)
        if shape[-1] % gguf.GGML_QUANT_SIZES[self._kind][0]:
            self._writer.add_tensor(name, values)
        else:
            self._writer.add_tensor(name, gguf.quants.quantize(values, self._kind), raw_dtype=self._kind)

    def norm(self, name: str, *shape: int) -> None:
        values = self._random.standard_normal(shape, dtype=np.float32) * np.float32(0.1)
        self._writer.add_tensor(name, np.float32(1.0) + values)

    def numbers(self, name: str, *shape: int, spread: float = 0.2) -> None:
        """Of a bias, or of what is never quantized."""
        self._writer.add_tensor(name, self._random.standard_normal(shape, dtype=np.float32) * np.float32(spread))

    def factors(self, name: str, values: Sequence[float]) -> None:
        """As they are."""
        self._writer.add_tensor(name, np.array(values, dtype=np.float32))

    def states(self, name: str, rows: int, columns: int) -> None:
        """How fast each state fades: below zero."""
        self._writer.add_tensor(name, -np.exp(self._random.standard_normal((rows, columns), dtype=np.float32)))


class Tiny(NamedTuple):
    """How a file of an architecture is made."""

    describe: tuple[Callable[[gguf.GGUFWriter], None], ...]
    layer: Callable[[Tensors, str, int], None]
    """With the beginning of its tensors' names, and its number."""
    ends: Callable[[Tensors], None]
    """What stands before and behind the blocks."""
    layers: int = 2


# --- headers ----------------------------------------------------------------------------------------------------------


def _sized(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_vocab_size(len(vocabulary()))


def _headed(kv_heads: int = KV_HEADS, feed_forward: int = FEED_FORWARD) -> Callable[[gguf.GGUFWriter], None]:
    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(kv_heads)
        writer.add_feed_forward_length(feed_forward)

    return describe


def _rotated(dimensions: int = HEAD_WIDTH) -> Callable[[gguf.GGUFWriter], None]:
    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_dimension_count(dimensions)
        writer.add_rope_freq_base(10_000.0)

    return describe


def _rooted(writer: gguf.GGUFWriter) -> None:
    writer.add_layer_norm_rms_eps(1e-5)


def _centred(writer: gguf.GGUFWriter) -> None:
    writer.add_layer_norm_eps(1e-5)


def _mixed(writer: gguf.GGUFWriter) -> None:
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(EXPERT_WIDTH)


def _shared(writer: gguf.GGUFWriter) -> None:
    writer.add_expert_shared_feed_forward_length(SHARED_WIDTH)


def _chosen_by_sigmoid(writer: gguf.GGUFWriter) -> None:
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def _wide_heads(writer: gguf.GGUFWriter) -> None:
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)


def _windowed(writer: gguf.GGUFWriter) -> None:
    writer.add_sliding_window(8)


def _stretched(writer: gguf.GGUFWriter) -> None:
    """As the converters write Ministral 3: yarn, with what queries grow by."""
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(16.0)
    writer.add_rope_scaling_orig_ctx_len(16)
    writer.add_rope_scaling_yarn_beta_fast(4.0)
    writer.add_rope_scaling_yarn_beta_slow(1.0)
    writer.add_rope_scaling_yarn_log_mul(1.0)
    writer.add_attn_temperature_scale(0.1)


def _yarn(writer: gguf.GGUFWriter) -> None:
    """As the converters write gpt-oss."""
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(32.0)
    writer.add_rope_scaling_orig_ctx_len(64)


def _alternating(shared: int = 0, own_width: int = 8) -> Callable[[gguf.GGUFWriter], None]:
    """gemma4: windows in all but every second block, whose heads are twice as wide; ``shared``: blocks without keys."""

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_key_length(2 * HEAD_WIDTH)
        writer.add_value_length(2 * HEAD_WIDTH)
        writer.add_key_length_swa(HEAD_WIDTH)
        writer.add_value_length_swa(HEAD_WIDTH)
        writer.add_rope_dimension_count(2 * HEAD_WIDTH)
        writer.add_rope_dimension_count_swa(HEAD_WIDTH)
        writer.add_rope_freq_base(100_000.0)
        writer.add_rope_freq_base_swa(10_000.0)
        writer.add_sliding_window_pattern([index % 2 == 0 for index in range(4)])
        writer.add_shared_kv_layers(shared)
        writer.add_embedding_length_per_layer_input(own_width)
        writer.add_final_logit_softcapping(5.0)

    return describe


def _borrowing(writer: gguf.GGUFWriter) -> None:
    """The last two blocks borrow keys, and are twice as wide inside."""
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_feed_forward_length([FEED_FORWARD, FEED_FORWARD, 2 * FEED_FORWARD, 2 * FEED_FORWARD])


def _few_keys(writer: gguf.GGUFWriter) -> None:
    """Blocks that see everything have one head of keys."""
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([KV_HEADS, 1, KV_HEADS, 1])
    writer.add_feed_forward_length(FEED_FORWARD)


def _convolved(writer: gguf.GGUFWriter) -> None:
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([0, KV_HEADS])
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_shortconv_l_cache(KERNEL)


def _stateful(writer: gguf.GGUFWriter) -> None:
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(KERNEL)
    writer.add_ssm_inner_size(2 * WIDTH)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(STEP_RANK)


# --- before and behind the blocks -------------------------------------------------------------------------------------


def _gemma4_ends(own_width: int) -> Callable[[Tensors], None]:
    def ends(tensors: Tensors) -> None:
        tensors.matrix("token_embd.weight", len(vocabulary()), WIDTH, spread=0.5)
        _norm(tensors, "output_norm", has_bias=False)
        tensors.factors("rope_freqs.weight", [1.0] * (HEAD_WIDTH // 4) + [1e30] * (HEAD_WIDTH * 3 // 4))
        if own_width:
            tensors.matrix("per_layer_token_embd.weight", len(vocabulary()), 4 * own_width, spread=0.5)
            tensors.matrix("per_layer_model_proj.weight", 4 * own_width, WIDTH)
            tensors.norm("per_layer_proj_norm.weight", own_width)

    return ends


def _ends(
    *, norm_bias: bool, is_tied: bool = False, norm: str = "output_norm", more: Iterable[str] = ()
) -> Callable[[Tensors], None]:
    def ends(tensors: Tensors) -> None:
        tensors.matrix("token_embd.weight", len(vocabulary()), WIDTH, spread=0.5)
        if "position_embd" in more:
            tensors.numbers("position_embd.weight", CONTEXT, WIDTH)
        if "token_embd_norm" in more:
            _norm(tensors, "token_embd_norm", has_bias=True)
        _norm(tensors, norm, has_bias=norm_bias)
        if not is_tied:
            tensors.matrix("output.weight", len(vocabulary()), WIDTH, spread=0.3)

    return ends


# --- blocks -----------------------------------------------------------------------------------------------------------


def _norm(tensors: Tensors, name: str, *, has_bias: bool) -> None:
    tensors.norm(name + ".weight", WIDTH)
    if has_bias:
        tensors.numbers(name + ".bias", WIDTH)


def _linear(tensors: Tensors, name: str, rows: int, columns: int, *, has_bias: bool) -> None:
    tensors.matrix(name + ".weight", rows, columns)
    if has_bias:
        tensors.numbers(name + ".bias", rows)


def _attention(tensors: Tensors, name: str, *, has_bias: bool, output_bias: bool) -> None:
    for part, rows in (("q", QUERIES), ("k", KEYS), ("v", KEYS)):
        _linear(tensors, f"{name}attn_{part}", rows, WIDTH, has_bias=has_bias)
    _linear(tensors, name + "attn_output", WIDTH, QUERIES, has_bias=output_bias)


def _fused(*, keys: int, has_bias: bool, feed_forward: int, norms: tuple[str, ...]) -> Callable[..., None]:
    """Queries, keys and values in one matrix, two matrices behind them: gpt2, bloom, falcon."""

    def layer(tensors: Tensors, name: str, _: int) -> None:
        for norm in norms:
            _norm(tensors, name + norm, has_bias=True)
        _linear(tensors, name + "attn_qkv", QUERIES + 2 * keys, WIDTH, has_bias=has_bias)
        _linear(tensors, name + "attn_output", WIDTH, QUERIES, has_bias=has_bias)
        _linear(tensors, name + "ffn_up", feed_forward, WIDTH, has_bias=has_bias)
        _linear(tensors, name + "ffn_down", WIDTH, feed_forward, has_bias=has_bias)

    return layer


def _starcoder2(tensors: Tensors, name: str, _: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=True)
    _norm(tensors, name + "ffn_norm", has_bias=True)
    _attention(tensors, name, has_bias=True, output_bias=True)
    _linear(tensors, name + "ffn_up", FEED_FORWARD, WIDTH, has_bias=True)
    _linear(tensors, name + "ffn_down", WIDTH, FEED_FORWARD, has_bias=True)


def _nemotron(tensors: Tensors, name: str, _: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=True)
    _norm(tensors, name + "ffn_norm", has_bias=True)
    _attention(tensors, name, has_bias=False, output_bias=False)
    _linear(tensors, name + "ffn_up", FEED_FORWARD, WIDTH, has_bias=False)
    _linear(tensors, name + "ffn_down", WIDTH, FEED_FORWARD, has_bias=False)


def _gated(tensors: Tensors, name: str) -> None:
    _linear(tensors, name + "ffn_gate", FEED_FORWARD, WIDTH, has_bias=False)
    _linear(tensors, name + "ffn_up", FEED_FORWARD, WIDTH, has_bias=False)
    _linear(tensors, name + "ffn_down", WIDTH, FEED_FORWARD, has_bias=False)


def _stablelm(tensors: Tensors, name: str, _: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=True)
    _norm(tensors, name + "ffn_norm", has_bias=True)
    _attention(tensors, name, has_bias=True, output_bias=False)
    _gated(tensors, name)


def _stablelm_12b(tensors: Tensors, name: str, _: int) -> None:
    """Its halves beside each other, and a norm for each head."""
    _norm(tensors, name + "attn_norm", has_bias=True)
    _attention(tensors, name, has_bias=False, output_bias=False)
    tensors.norm(name + "attn_q_norm.weight", HEADS, HEAD_WIDTH)
    tensors.norm(name + "attn_k_norm.weight", KV_HEADS, HEAD_WIDTH)
    _gated(tensors, name)


def _mistral3(tensors: Tensors, name: str, _: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=False)
    _norm(tensors, name + "ffn_norm", has_bias=False)
    _attention(tensors, name, has_bias=False, output_bias=False)
    _gated(tensors, name)


def _experts(tensors: Tensors, name: str) -> None:
    tensors.numbers(name + "ffn_gate_inp.weight", EXPERTS, WIDTH, spread=0.5)
    tensors.matrix(name + "ffn_gate_exps.weight", EXPERTS, EXPERT_WIDTH, WIDTH)
    tensors.matrix(name + "ffn_up_exps.weight", EXPERTS, EXPERT_WIDTH, WIDTH)
    tensors.matrix(name + "ffn_down_exps.weight", EXPERTS, WIDTH, EXPERT_WIDTH)


def _qwen2moe(tensors: Tensors, name: str, _: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=False)
    _norm(tensors, name + "ffn_norm", has_bias=False)
    _attention(tensors, name, has_bias=True, output_bias=False)
    _experts(tensors, name)
    tensors.numbers(name + "ffn_gate_inp_shexp.weight", WIDTH)
    tensors.matrix(name + "ffn_gate_shexp.weight", SHARED_WIDTH, WIDTH)
    tensors.matrix(name + "ffn_up_shexp.weight", SHARED_WIDTH, WIDTH)
    tensors.matrix(name + "ffn_down_shexp.weight", WIDTH, SHARED_WIDTH)


def _qwen3moe(tensors: Tensors, name: str, _: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=False)
    _norm(tensors, name + "ffn_norm", has_bias=False)
    _attention(tensors, name, has_bias=False, output_bias=False)
    tensors.norm(name + "attn_q_norm.weight", HEAD_WIDTH)
    tensors.norm(name + "attn_k_norm.weight", HEAD_WIDTH)
    _experts(tensors, name)


def _minimax_m2(tensors: Tensors, name: str, _: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=False)
    _norm(tensors, name + "ffn_norm", has_bias=False)
    _attention(tensors, name, has_bias=False, output_bias=False)
    tensors.norm(name + "attn_q_norm.weight", QUERIES)
    tensors.norm(name + "attn_k_norm.weight", KEYS)
    _experts(tensors, name)
    tensors.numbers(name + "exp_probs_b.bias", EXPERTS)


def _gpt_oss(tensors: Tensors, name: str, _: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=False)
    _norm(tensors, name + "post_attention_norm", has_bias=False)
    _attention(tensors, name, has_bias=True, output_bias=True)
    tensors.numbers(name + "attn_sinks.weight", HEADS, spread=1.0)
    _experts(tensors, name)
    tensors.numbers(name + "ffn_gate_inp.bias", EXPERTS)
    tensors.numbers(name + "ffn_gate_exps.bias", EXPERTS, EXPERT_WIDTH)
    tensors.numbers(name + "ffn_up_exps.bias", EXPERTS, EXPERT_WIDTH)
    tensors.numbers(name + "ffn_down_exps.bias", EXPERTS, WIDTH)


def _gemma4_block(tensors: Tensors, name: str, index: int, *, kv_heads: int, inner: int, parts: str) -> None:
    width = HEAD_WIDTH * (1 + index % 2)
    for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
        _norm(tensors, name + norm, has_bias=False)
    tensors.matrix(name + "attn_q.weight", HEADS * width, WIDTH)
    tensors.norm(name + "attn_q_norm.weight", width)
    if "k" in parts:
        tensors.norm(name + "attn_k_norm.weight", width)
    for part in parts:
        tensors.matrix(f"{name}attn_{part}.weight", kv_heads * width, WIDTH)
    tensors.matrix(name + "attn_output.weight", WIDTH, HEADS * width)
    for part, shape in (("gate", (inner, WIDTH)), ("up", (inner, WIDTH)), ("down", (WIDTH, inner))):
        tensors.matrix(f"{name}ffn_{part}.weight", *shape)
    tensors.norm(name + "layer_output_scale.weight", 1)


def _gemma4(tensors: Tensors, name: str, index: int) -> None:
    """As the smaller ones: words that come in at each block, keys that are borrowed."""
    borrows = index >= 2
    inner = FEED_FORWARD * (2 if borrows else 1)
    _gemma4_block(tensors, name, index, kv_heads=KV_HEADS, inner=inner, parts="" if borrows else "kv")
    tensors.matrix(name + "inp_gate.weight", 8, WIDTH)
    tensors.matrix(name + "proj.weight", WIDTH, 8)
    _norm(tensors, name + "post_norm", has_bias=False)


def _gemma4_31b(tensors: Tensors, name: str, index: int) -> None:
    """Blocks that see everything have keys for values."""
    whole = index % 2 == 1
    _gemma4_block(
        tensors, name, index, kv_heads=1 if whole else KV_HEADS, inner=FEED_FORWARD, parts="k" if whole else "kv"
    )


def _gemma4_mixture(tensors: Tensors, name: str, index: int) -> None:
    _gemma4_31b(tensors, name, index)
    for norm in ("post_ffw_norm_1", "post_ffw_norm_2", "pre_ffw_norm_2"):
        _norm(tensors, name + norm, has_bias=False)
    tensors.numbers(name + "ffn_gate_inp.weight", EXPERTS, WIDTH, spread=2.0)
    tensors.norm(name + "ffn_gate_inp.scale", WIDTH)
    tensors.matrix(name + "ffn_gate_up_exps.weight", EXPERTS, 2 * EXPERT_WIDTH, WIDTH)
    tensors.matrix(name + "ffn_down_exps.weight", EXPERTS, WIDTH, EXPERT_WIDTH)
    tensors.norm(name + "ffn_down_exps.scale", EXPERTS)


def _lfm2(tensors: Tensors, name: str, index: int) -> None:
    _norm(tensors, name + "attn_norm", has_bias=False)
    _norm(tensors, name + "ffn_norm", has_bias=False)
    _gated(tensors, name)
    if index % 2:
        _attention(tensors, name, has_bias=False, output_bias=False)
        tensors.norm(name + "attn_q_norm.weight", HEAD_WIDTH)
        tensors.norm(name + "attn_k_norm.weight", HEAD_WIDTH)
    else:
        tensors.numbers(name + "shortconv.conv.weight", WIDTH, KERNEL, spread=0.5)
        tensors.matrix(name + "shortconv.in_proj.weight", 3 * WIDTH, WIDTH)
        tensors.matrix(name + "shortconv.out_proj.weight", WIDTH, WIDTH)


def _mamba(tensors: Tensors, name: str, _: int) -> None:
    inner = 2 * WIDTH
    _norm(tensors, name + "attn_norm", has_bias=False)
    tensors.matrix(name + "ssm_in.weight", 2 * inner, WIDTH)
    tensors.numbers(name + "ssm_conv1d.weight", inner, KERNEL, spread=0.5)
    tensors.numbers(name + "ssm_conv1d.bias", inner)
    tensors.matrix(name + "ssm_x.weight", STEP_RANK + 2 * STATE, inner)
    tensors.numbers(name + "ssm_dt.weight", inner, STEP_RANK)
    tensors.numbers(name + "ssm_dt.bias", inner)
    tensors.states(name + "ssm_a", inner, STATE)
    tensors.norm(name + "ssm_d", inner)
    tensors.matrix(name + "ssm_out.weight", WIDTH, inner)


TINY: dict[str, Tiny] = {
    "bloom": Tiny(
        (_sized, _headed(HEADS, 4 * WIDTH), _centred),
        _fused(keys=QUERIES, has_bias=True, feed_forward=4 * WIDTH, norms=("attn_norm", "ffn_norm")),
        _ends(norm_bias=True, is_tied=True, more=["token_embd_norm"]),
    ),
    "falcon": Tiny(
        (_sized, _headed(), _rotated(), _centred),
        _fused(keys=KEYS, has_bias=False, feed_forward=FEED_FORWARD, norms=("attn_norm", "attn_norm_2")),
        _ends(norm_bias=True),
    ),
    "gemma4": Tiny(
        (_sized, _borrowing, _rooted, _windowed, _alternating(shared=2)), _gemma4, _gemma4_ends(own_width=8), layers=4
    ),
    "gpt-oss": Tiny(
        (_sized, _headed(), _rotated(), _rooted, _mixed, _wide_heads, _windowed, _yarn),
        _gpt_oss,
        _ends(norm_bias=False),
    ),
    "gpt2": Tiny(
        (_sized, _headed(HEADS), _centred),
        _fused(keys=QUERIES, has_bias=True, feed_forward=FEED_FORWARD, norms=("attn_norm", "ffn_norm")),
        _ends(norm_bias=True, is_tied=True, more=["position_embd"]),
    ),
    "lfm2": Tiny(
        (_sized, _convolved, _rotated(), _rooted), _lfm2, _ends(norm_bias=False, is_tied=True, norm="token_embd_norm")
    ),
    "mamba": Tiny((_sized, _stateful, _rooted), _mamba, _ends(norm_bias=False)),
    "minimax-m2": Tiny(
        (_sized, _headed(feed_forward=EXPERT_WIDTH), _rotated(8), _rooted, _mixed, _wide_heads, _chosen_by_sigmoid),
        _minimax_m2,
        _ends(norm_bias=False),
    ),
    "mistral3": Tiny((_sized, _headed(), _rotated(), _rooted, _stretched), _mistral3, _ends(norm_bias=False)),
    "nemotron": Tiny((_sized, _headed(), _rotated(8), _centred), _nemotron, _ends(norm_bias=True)),
    "qwen2moe": Tiny((_sized, _headed(), _rotated(), _rooted, _mixed, _shared), _qwen2moe, _ends(norm_bias=False)),
    "qwen3moe": Tiny((_sized, _headed(), _rooted, _mixed, _wide_heads), _qwen3moe, _ends(norm_bias=False)),
    "stablelm": Tiny((_sized, _headed(), _rotated(8), _centred), _stablelm, _ends(norm_bias=True)),
    "starcoder2": Tiny((_sized, _headed(), _rotated(), _centred), _starcoder2, _ends(norm_bias=True, is_tied=True)),
}
VARIANTS: dict[tuple[str, str], Tiny] = {
    ("bloom", "narrow"): Tiny(
        (_sized, _headed(HEADS), _centred),
        _fused(keys=QUERIES, has_bias=True, feed_forward=FEED_FORWARD, norms=("attn_norm", "ffn_norm")),
        _ends(norm_bias=True, is_tied=True, more=["token_embd_norm"]),
    ),
    ("falcon", "7b"): Tiny(
        (_sized, _headed(1), _rotated(), _centred),
        _fused(keys=HEAD_WIDTH, has_bias=False, feed_forward=FEED_FORWARD, norms=("attn_norm",)),
        _ends(norm_bias=True, is_tied=True),
    ),
    ("falcon", "11b"): Tiny(
        (_sized, _headed(), _rotated(), _centred),
        _fused(keys=KEYS, has_bias=False, feed_forward=FEED_FORWARD, norms=("attn_norm",)),
        _ends(norm_bias=True),
    ),
    ("gemma4", "31b"): Tiny(
        (_sized, _few_keys, _rooted, _windowed, _alternating(own_width=0)), _gemma4_31b, _gemma4_ends(0), layers=4
    ),
    ("gemma4", "26b-a4b"): Tiny(
        (_sized, _few_keys, _rooted, _windowed, _alternating(own_width=0), _mixed),
        _gemma4_mixture,
        _gemma4_ends(0),
        layers=4,
    ),
    ("mistral3", "small"): Tiny((_sized, _headed(), _rotated(), _rooted), _mistral3, _ends(norm_bias=False)),
    ("stablelm", "12b"): Tiny((_sized, _headed(), _rotated(4), _centred), _stablelm_12b, _ends(norm_bias=True)),
}
