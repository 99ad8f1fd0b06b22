"""What each architecture is in transformers: one record, read from the file and never from a class's defaults.

Scales, windows, activations and dropouts are what the pinned llama.cpp computes with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct

from appliance.domain.errors import WrongWeights
from appliance.store.gguf_weights import Array, GgufWeights
from appliance.training.rotations import Settings, head_width, original_context, rotated_share, rotations


class Parts(Struct, frozen=True):
    """A parameter that is not simply the tensor of its name."""

    tensors: tuple[str, ...]
    """Ends of their names in GGUF, without the block: ``ffn_up.weight``."""
    join: Callable[[Sequence[Array], int], Array]
    """From their numbers, and the last number in the parameter's name."""


class Architecture(Struct, frozen=True, kw_only=True):
    """How a file of it becomes a network."""

    config: str
    """The class in transformers."""
    settings: tuple[Callable[[GgufWeights], Settings], ...]
    """What the config is made with; later ones overrule."""
    parts: Mapping[str, Parts] = {}
    """By the end of the parameter's name, the block's number and all numbers after it left out."""
    norm_offset: float = 0.0
    """What the file's norms have more than transformers' parameters: they multiply with one more."""
    targets: frozenset[str] | None = None
    """Linear layers that an adapter can change; None: all of the blocks."""
    in_float32: bool = False
    """Whether 16 bits would lose what it tells positions by."""


def architecture_of(weights: GgufWeights) -> Architecture:
    """The record; what can be trained has one."""
    return ARCHITECTURES[weights.architecture]


def _every(weights: GgufWeights) -> Settings:
    return {
        "vocab_size": weights.shape("token_embd.weight")[0],
        "tie_word_embeddings": "output.weight" not in weights.tensors,
        "use_cache": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _sized(weights: GgufWeights) -> Settings:
    return {
        "hidden_size": weights.count("embedding_length"),
        "num_hidden_layers": weights.layers,
        "num_attention_heads": weights.heads,
        "max_position_embeddings": weights.count("context_length"),
    }


def _rotating(weights: GgufWeights) -> Settings:
    return {
        "intermediate_size": weights.count("feed_forward_length"),
        "num_key_value_heads": weights.kv_heads,
        "head_dim": head_width(weights),
        "rope_parameters": rotations(weights),
    }


def _partly_rotating(weights: GgufWeights) -> Settings:
    return {"rope_parameters": rotations(weights) | {"partial_rotary_factor": rotated_share(weights)}}


def _small(name: str) -> Callable[[GgufWeights], Settings]:
    """What keeps norms from a division by zero, by its name in the config."""

    def settings(weights: GgufWeights) -> Settings:
        root = weights.of_architecture("attention.layer_norm_rms_epsilon")
        return {name: float(weights.of_architecture("attention.layer_norm_epsilon") if root is None else root)}

    return settings


def _biased(**places: str) -> Callable[[GgufWeights], Settings]:
    """Whether linear layers have biases: whether the first block's do."""

    def settings(weights: GgufWeights) -> Settings:
        return {name: f"blk.0.{tensor}.bias" in weights.tensors for name, tensor in places.items()}

    return settings


def _phi3(weights: GgufWeights) -> Settings:
    """llama.cpp computes it without its window."""
    return {"sliding_window": None}


def _gemma2(weights: GgufWeights) -> Settings:
    return {
        "query_pre_attn_scalar": _gemma_scale(weights, large_layers=46),
        "sliding_window": int(weights.of_architecture("attention.sliding_window") or 4096),
        "attn_logit_softcapping": float(weights.of_architecture("attn_logit_softcapping") or 50.0),
        "final_logit_softcapping": float(weights.of_architecture("final_logit_softcapping") or 30.0),
    }


def _gemma3(weights: GgufWeights) -> Settings:
    window = weights.of_architecture("attention.sliding_window")
    layers = weights.layers
    kinds = ["full_attention" if not window or i % 6 == 5 else "sliding_attention" for i in range(layers)]
    cap = weights.of_architecture("final_logit_softcapping")
    return {
        "query_pre_attn_scalar": _gemma_scale(weights, large_layers=62),
        "sliding_window": int(window or 4096),
        "layer_types": kinds,
        "final_logit_softcapping": float(cap) if cap else None,
        "rope_parameters": {
            "full_attention": rotations(weights),
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    }


def _gemma_scale(weights: GgufWeights, large_layers: int) -> int:
    """By what the scores of attention are divided, squared: another number in the largest of the family."""
    if weights.layers == large_layers:
        return weights.count("embedding_length") // weights.heads
    return head_width(weights)


def _mistral3(weights: GgufWeights) -> Settings:
    """Queries grow with their position where the file says so."""
    grown = {
        "llama_4_scaling_beta": float(weights.of_architecture("attention.temperature_scale") or 0.0),
        "original_max_position_embeddings": original_context(weights),
    }
    return {"rope_parameters": rotations(weights, has_own_ramp=True) | grown, "sliding_window": None}


def _starcoder2(weights: GgufWeights) -> Settings:
    """llama.cpp computes it without its window."""
    return {"sliding_window": None, "hidden_act": "gelu_pytorch_tanh"}


def _stablelm(weights: GgufWeights) -> Settings:
    return {
        "qk_layernorm": "blk.0.attn_q_norm.weight" in weights.tensors,
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in weights.tensors,
    }


def _gpt2(weights: GgufWeights) -> Settings:
    return {
        "n_embd": weights.count("embedding_length"),
        "n_layer": weights.layers,
        "n_head": weights.heads,
        "n_inner": weights.count("feed_forward_length"),
        "n_positions": weights.count("context_length"),
        "activation_function": "gelu_new",
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    }


def _bloom(weights: GgufWeights) -> Settings:
    return {
        "hidden_size": weights.count("embedding_length"),
        "n_layer": weights.layers,
        "n_head": weights.heads,
    }


def _falcon(weights: GgufWeights) -> Settings:
    """One head of keys is the older layout; more are the newer one, with one norm in a block or two."""
    return {
        "num_kv_heads": weights.kv_heads,
        "ffn_hidden_size": weights.count("feed_forward_length"),
        "rope_parameters": rotations(weights),
        "new_decoder_architecture": weights.kv_heads > 1,
        "num_ln_in_parallel_attn": 2 if "blk.0.attn_norm_2.weight" in weights.tensors else 1,
        "multi_query": weights.kv_heads == 1,
        "activation": "gelu_pytorch_tanh",
    }


def _experts(weights: GgufWeights) -> Settings:
    return {
        "num_experts_per_tok": weights.count("expert_used_count"),
        "moe_intermediate_size": weights.shape("blk.0.ffn_gate_exps.weight")[1],
        "num_experts": weights.count("expert_count"),
        "sliding_window": None,
    }


def _shared_expert(weights: GgufWeights) -> Settings:
    return {"shared_expert_intermediate_size": weights.shape("blk.0.ffn_gate_shexp.weight")[0]}


def _gpt_oss(weights: GgufWeights) -> Settings:
    return {
        "num_local_experts": weights.count("expert_count"),
        "num_experts_per_tok": weights.count("expert_used_count"),
        "intermediate_size": weights.shape("blk.0.ffn_gate_exps.weight")[1],
        "sliding_window": weights.count("attention.sliding_window"),
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(weights.layers)],
    }


def _lfm2(weights: GgufWeights) -> Settings:
    """Blocks without heads of keys are convolutions."""
    if weights.of_architecture("attention.sliding_window"):
        raise WrongWeights(f"'{weights.name}' has a sliding window, with which lfm2 cannot be trained")
    heads = weights.of_architecture("attention.head_count_kv")
    heads = list(heads) if isinstance(heads, list) else [weights.kv_heads] * weights.layers
    return {
        "hidden_size": weights.count("embedding_length"),
        "num_hidden_layers": weights.layers,
        "num_attention_heads": weights.heads,
        "num_key_value_heads": max(heads),
        "intermediate_size": weights.count("feed_forward_length"),
        "block_auto_adjust_ff_dim": False,
        "max_position_embeddings": weights.count("context_length"),
        "layer_types": ["full_attention" if count else "conv" for count in heads],
        "conv_L_cache": weights.count("shortconv.l_cache"),
        "conv_bias": False,
        "rope_parameters": rotations(weights),
    }


def _mamba(weights: GgufWeights) -> Settings:
    width, inner = weights.count("embedding_length"), weights.count("ssm.inner_size")
    if weights.of_architecture("ssm.dt_b_c_rms") or inner % width:
        raise WrongWeights(
            f"'{weights.name}' is no plain Mamba: norms inside its states, or {inner} of them for {width}"
        )
    return {
        "hidden_size": width,
        "num_hidden_layers": weights.layers,
        "state_size": weights.count("ssm.state_size"),
        "conv_kernel": weights.count("ssm.conv_kernel"),
        "time_step_rank": weights.count("ssm.time_step_rank"),
        "expand": inner // width,
        "use_bias": False,
        "use_conv_bias": True,
    }


def _behind(arrays: Sequence[Array], _: int) -> Array:
    """The rows of each expert's matrices one behind the other."""
    return np.concatenate(arrays, axis=1)


def _woven(arrays: Sequence[Array], _: int) -> Array:
    """Rows of each expert's matrices in turns, as columns."""
    return np.stack(arrays, axis=2).reshape(len(arrays[0]), -1, *arrays[0].shape[2:]).swapaxes(1, -1)


_SMALL: Final = _small("rms_norm_eps")
_LLAMA_LIKE: Final = (_every, _sized, _rotating, _SMALL)
_EXPERTS: Final = {
    "mlp.experts.gate_up_proj": Parts(("ffn_gate_exps.weight", "ffn_up_exps.weight"), _behind),
    "mlp.experts.down_proj": Parts(("ffn_down_exps.weight",), lambda arrays, _: arrays[0]),
}
_GPT_OSS_EXPERTS: Final = {
    "mlp.experts.gate_up_proj": Parts(("ffn_gate_exps.weight", "ffn_up_exps.weight"), _woven),
    "mlp.experts.gate_up_proj_bias": Parts(("ffn_gate_exps.bias", "ffn_up_exps.bias"), _woven),
    "mlp.experts.down_proj": Parts(("ffn_down_exps.weight",), lambda arrays, _: arrays[0].swapaxes(1, 2)),
    "mlp.experts.down_proj_bias": Parts(("ffn_down_exps.bias",), lambda arrays, _: arrays[0]),
    "self_attn.sinks": Parts(("attn_sinks.weight",), lambda arrays, _: arrays[0]),
}
_HEAD_NORMS: Final = {
    f"self_attn.{part}_layernorm.norms.weight": Parts(
        (f"attn_{part}_norm.weight",), lambda arrays, head: arrays[0][head]
    )
    for part in "qk"
}
_STATES: Final = {"mixer.A_log": Parts(("ssm_a",), lambda arrays, _: np.log(-arrays[0]))}

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "bloom": Architecture(
        config="BloomConfig", settings=(_every, _bloom, _small("layer_norm_epsilon")), in_float32=True
    ),
    "falcon": Architecture(config="FalconConfig", settings=(_every, _sized, _falcon, _small("layer_norm_epsilon"))),
    "gemma": Architecture(config="GemmaConfig", settings=_LLAMA_LIKE, norm_offset=1.0),
    "gemma2": Architecture(config="Gemma2Config", settings=(*_LLAMA_LIKE, _gemma2), norm_offset=1.0),
    "gemma3": Architecture(config="Gemma3TextConfig", settings=(*_LLAMA_LIKE, _gemma3), norm_offset=1.0),
    "gpt-oss": Architecture(
        config="GptOssConfig",
        settings=(*_LLAMA_LIKE, _gpt_oss, _biased(attention_bias="attn_q")),
        parts=_GPT_OSS_EXPERTS,
    ),
    "gpt2": Architecture(config="GPT2Config", settings=(_every, _gpt2, _small("layer_norm_epsilon"))),
    "lfm2": Architecture(config="Lfm2Config", settings=(_every, _lfm2, _small("norm_eps"))),
    "llama": Architecture(
        config="LlamaConfig", settings=(*_LLAMA_LIKE, _biased(attention_bias="attn_q", mlp_bias="ffn_down"))
    ),
    "mamba": Architecture(
        config="MambaConfig",
        settings=(_every, _mamba, _small("layer_norm_epsilon")),
        parts=_STATES,
        # the network reads the matrices of the others itself, and would pass an adapter by
        targets=frozenset({"in_proj", "x_proj"}),
        in_float32=True,
    ),
    "mistral3": Architecture(config="Ministral3Config", settings=(*_LLAMA_LIKE, _mistral3)),
    "nemotron": Architecture(
        config="NemotronConfig",
        settings=(
            *(_every, _sized, _rotating, _partly_rotating, _small("norm_eps")),
            _biased(attention_bias="attn_q", mlp_bias="ffn_up"),
        ),
        norm_offset=1.0,
    ),
    "phi3": Architecture(config="Phi3Config", settings=(*_LLAMA_LIKE, _partly_rotating, _phi3)),
    "qwen2": Architecture(config="Qwen2Config", settings=_LLAMA_LIKE),
    "qwen2moe": Architecture(
        config="Qwen2MoeConfig",
        settings=(
            *(*_LLAMA_LIKE, _experts, _shared_expert, _biased(qkv_bias="attn_q")),
            lambda _: {"norm_topk_prob": False},
        ),
        parts=_EXPERTS,
    ),
    "qwen3": Architecture(config="Qwen3Config", settings=_LLAMA_LIKE),
    "qwen3moe": Architecture(
        config="Qwen3MoeConfig", settings=(*_LLAMA_LIKE, _experts, lambda _: {"norm_topk_prob": True}), parts=_EXPERTS
    ),
    "stablelm": Architecture(
        config="StableLmConfig",
        settings=(
            *(_every, _sized, _rotating, _partly_rotating, _stablelm, _small("layer_norm_eps")),
            _biased(use_qkv_bias="attn_q"),
        ),
        parts=_HEAD_NORMS,
    ),
    "starcoder2": Architecture(
        config="Starcoder2Config",
        settings=(_every, _sized, _rotating, _starcoder2, _small("norm_epsilon"), _biased(use_bias="attn_q")),
    ),
}


def settings_of(weights: GgufWeights) -> Settings:
    """What the config is made with. Raises WrongWeights for a file that lacks what the network is made of."""
    found: dict[str, Any] = {}
    try:
        for part in architecture_of(weights).settings:
            found |= part(weights)
    except KeyError as missing:
        raise WrongWeights(f"'{weights.name}' has no tensor {missing}, which {weights.architecture} needs") from None
    return found


def inner_width(weights: GgufWeights) -> int:
    """Numbers that a block makes of a token between its matrices."""
    if weights.of_architecture("ssm.inner_size"):
        return weights.count("ssm.inner_size") * weights.count("ssm.state_size")
    experts = "blk.0.ffn_gate_exps.weight"
    if experts not in weights.tensors:
        return weights.count("feed_forward_length")
    shared = "blk.0.ffn_gate_shexp.weight"
    every = weights.shape(shared)[0] if shared in weights.tensors else 0
    return weights.count("expert_used_count") * weights.shape(experts)[1] + every
