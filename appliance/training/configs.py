"""What the configs of transformers are made with, read from a GGUF file and never from a class's defaults.

Scales, windows, activations and dropouts are what the pinned llama.cpp computes with. ``architectures`` says which of
these make up an architecture.
"""

from __future__ import annotations

from appliance.domain.errors import WrongWeights
from appliance.store.gguf_weights import GgufWeights
from appliance.training.rotations import Settings, head_width, original_context, rotated_share, rotations

_SIGMOID = 2
"""As GGUF numbers the functions by which experts are chosen."""


def every(weights: GgufWeights) -> Settings:
    """What all configs have."""
    return {
        "vocab_size": weights.shape("token_embd.weight")[0],
        "tie_word_embeddings": "output.weight" not in weights.tensors,
        "use_cache": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def sized(weights: GgufWeights) -> Settings:
    """What all but the oldest call alike."""
    return {
        "hidden_size": weights.count("embedding_length"),
        "num_hidden_layers": weights.layers,
        "num_attention_heads": weights.heads,
        "max_position_embeddings": weights.count("context_length"),
    }


def rotating(weights: GgufWeights) -> Settings:
    """Of networks whose heads of queries share heads of keys, and are rotated."""
    return {
        "intermediate_size": weights.count("feed_forward_length"),
        "num_key_value_heads": weights.kv_heads,
        "head_dim": head_width(weights),
        "rope_parameters": rotations(weights),
    }


def partly_rotating(weights: GgufWeights) -> Settings:
    """Of a part of each head only."""
    return {"rope_parameters": rotations(weights) | {"partial_rotary_factor": rotated_share(weights)}}


def epsilon(weights: GgufWeights) -> float:
    """What keeps norms from dividing by zero: norms by the root of the squares, or those that centre too."""
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        if (found := weights.of_architecture(key)) is not None:
            return float(found)
    raise WrongWeights(f"'{weights.name}' does not say what its norms add; convert it again")


def phi3(weights: GgufWeights) -> Settings:
    """llama.cpp computes it without its window."""
    return {"sliding_window": None}


def gemma2(weights: GgufWeights) -> Settings:
    """Windows in turns, and caps on scores."""
    return {
        "query_pre_attn_scalar": _gemma_scale(weights, large_layers=46),
        "sliding_window": int(weights.of_architecture("attention.sliding_window") or 4096),
        "attn_logit_softcapping": float(weights.of_architecture("attn_logit_softcapping") or 50.0),
        "final_logit_softcapping": float(weights.of_architecture("final_logit_softcapping") or 30.0),
    }


def gemma3(weights: GgufWeights) -> Settings:
    """Five blocks of six see a window, and are never slowed down."""
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


def gemma4(weights: GgufWeights) -> Settings:
    """Heads of blocks that see everything are wider than those with a window; the last blocks may borrow their keys."""
    layers = range(weights.layers)
    windows = weights.of_architecture("attention.sliding_window_pattern")
    if not isinstance(windows, list) or len(windows) != weights.layers or not any(windows):
        raise WrongWeights(f"'{weights.name}' does not say which of its blocks have a window; convert it again")
    heads = _of_layers(weights, "attention.head_count_kv")
    wide = {"head_dim": weights.count("attention.key_length")}
    inner = _of_layers(weights, "feed_forward_length")
    own = weights.layers - int(weights.of_architecture("attention.shared_kv_layers") or 0)
    own_width = int(weights.of_architecture("embedding_length_per_layer_input") or 0)
    cap = weights.of_architecture("final_logit_softcapping")
    experts = int(weights.of_architecture("expert_count") or 0)
    return {
        "head_dim": weights.count("attention.key_length_swa"),
        "num_key_value_heads": heads[windows.index(True)],
        "per_layer_config": {i: wide | {"num_key_value_heads": heads[i]} for i in layers if not windows[i]},
        "layer_types": ["sliding_attention" if window else "full_attention" for window in windows],
        "sliding_window": weights.count("attention.sliding_window"),
        "attention_k_eq_v": any(
            f"blk.{i}.attn_v.weight" not in weights.tensors for i in layers if i < own and not windows[i]
        ),
        "num_kv_shared_layers": weights.layers - own,
        "intermediate_size": min(inner),
        "use_double_wide_mlp": max(inner) > min(inner),
        "hidden_size_per_layer_input": own_width,
        "vocab_size_per_layer_input": weights.shape("per_layer_token_embd.weight")[0] if own_width else 1,
        "final_logit_softcapping": float(cap) if cap else None,
        "enable_moe_block": bool(experts),
        "num_experts": experts or None,
        "top_k_experts": weights.count("expert_used_count") if experts else None,
        "moe_intermediate_size": weights.count("expert_feed_forward_length") if experts else None,
        "rope_parameters": {
            "full_attention": rotations(weights),
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": float(weights.of_architecture("rope.freq_base_swa") or 1e4),
            },
        },
    }


def inner_width(weights: GgufWeights) -> int:
    """Numbers that a block makes of a token between its matrices."""
    if weights.of_architecture("ssm.inner_size"):
        return weights.count("ssm.inner_size") * weights.count("ssm.state_size")
    always = (
        0 if weights.of_architecture("feed_forward_length") is None else max(_of_layers(weights, "feed_forward_length"))
    )
    if not weights.of_architecture("expert_count"):
        return always
    chosen = weights.count("expert_used_count") * weights.shape("blk.0.ffn_down_exps.weight")[2]
    return always + chosen


def _of_layers(weights: GgufWeights, key: str) -> list[int]:
    """A number that may be one for all layers."""
    found = weights.of_architecture(key)
    return [int(one) for one in found] if isinstance(found, list) else [weights.count(key)] * weights.layers


def _gemma_scale(weights: GgufWeights, large_layers: int) -> int:
    """By what the scores of attention are divided, squared: another number in the largest of the family."""
    if weights.layers == large_layers:
        return weights.count("embedding_length") // weights.heads
    return head_width(weights)


def mistral3(weights: GgufWeights) -> Settings:
    """Queries grow with their position where the file says so."""
    grown = {
        "llama_4_scaling_beta": float(weights.of_architecture("attention.temperature_scale") or 0.0),
        "original_max_position_embeddings": original_context(weights),
    }
    return {"rope_parameters": rotations(weights, has_own_ramp=True) | grown, "sliding_window": None}


def starcoder2(weights: GgufWeights) -> Settings:
    """llama.cpp computes it without its window."""
    return {"sliding_window": None, "hidden_act": "gelu_pytorch_tanh"}


def stablelm(weights: GgufWeights) -> Settings:
    """Its largest has a norm for each head, and its halves beside each other."""
    return {
        "qk_layernorm": "blk.0.attn_q_norm.weight" in weights.tensors,
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in weights.tensors,
    }


def gpt2(weights: GgufWeights) -> Settings:
    """Positions are learnt: no more than there are."""
    return {
        "n_embd": weights.count("embedding_length"),
        "n_layer": weights.layers,
        "n_head": weights.heads,
        "n_inner": weights.count("feed_forward_length"),
        "n_positions": weights.count("context_length"),
        "activation_function": "gelu_new",
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    }


def bloom(weights: GgufWeights) -> Settings:
    """Positions are told by how far away they are."""
    return {
        "hidden_size": weights.count("embedding_length"),
        "n_layer": weights.layers,
        "n_head": weights.heads,
    }


def falcon(weights: GgufWeights) -> Settings:
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


def qwen2moe(weights: GgufWeights) -> Settings:
    """Beside the experts that are chosen one is asked always."""
    shared = {"shared_expert_intermediate_size": weights.shape("blk.0.ffn_gate_shexp.weight")[0]}
    return _qwen_experts(weights) | shared | {"norm_topk_prob": False}


def qwen3moe(weights: GgufWeights) -> Settings:
    """What the chosen experts count adds up to one."""
    return _qwen_experts(weights) | {"norm_topk_prob": True}


def minimax_m2(weights: GgufWeights) -> Settings:
    """Experts are chosen by a sigmoid; what the chosen ones count adds up to one."""
    gating = weights.of_architecture("expert_gating_func")
    if gating != _SIGMOID:
        raise WrongWeights(f"'{weights.name}' chooses its experts by the function {gating}; {_SIGMOID} can be trained")
    return {
        "num_local_experts": weights.count("expert_count"),
        "num_experts_per_tok": weights.count("expert_used_count"),
        "intermediate_size": weights.shape("blk.0.ffn_gate_exps.weight")[1],
    }


def _qwen_experts(weights: GgufWeights) -> Settings:
    return {
        "num_experts": weights.count("expert_count"),
        "num_experts_per_tok": weights.count("expert_used_count"),
        "moe_intermediate_size": weights.shape("blk.0.ffn_gate_exps.weight")[1],
        "sliding_window": None,
    }


def gpt_oss(weights: GgufWeights) -> Settings:
    """Every second block sees a window, the first one too."""
    return {
        "num_local_experts": weights.count("expert_count"),
        "num_experts_per_tok": weights.count("expert_used_count"),
        "intermediate_size": weights.shape("blk.0.ffn_gate_exps.weight")[1],
        "sliding_window": weights.count("attention.sliding_window"),
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(weights.layers)],
    }


def lfm2(weights: GgufWeights) -> Settings:
    """Blocks without heads of keys are convolutions."""
    if weights.of_architecture("attention.sliding_window"):
        raise WrongWeights(f"'{weights.name}' has a sliding window, with which lfm2 cannot be trained")
    heads = _of_layers(weights, "attention.head_count_kv")
    return {
        "num_key_value_heads": max(heads),
        "intermediate_size": weights.count("feed_forward_length"),
        "block_auto_adjust_ff_dim": False,
        "layer_types": ["full_attention" if count else "conv" for count in heads],
        "conv_L_cache": weights.count("shortconv.l_cache"),
        "conv_bias": False,
        "rope_parameters": rotations(weights),
    }


def mamba(weights: GgufWeights) -> Settings:
    """A state instead of attention."""
    width, inner = weights.count("embedding_length"), weights.count("ssm.inner_size")
    if inner % width:
        raise WrongWeights(f"'{weights.name}' is no plain Mamba: its states are {inner} wide, and the network {width}")
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
