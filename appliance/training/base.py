"""A GGUF file as a network of transformers: every tensor in its place, none left over.

Written here instead of leaving it to ``from_pretrained(gguf_file=...)``, which takes what a file does not say from a
class's defaults and skips tensors that it does not know: both would train another network than the one that is served.
Scales, windows and rotations are what the pinned llama.cpp computes with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from appliance.domain.errors import WrongWeights
from appliance.domain.trainable import TRAINABLE_ARCHITECTURES
from appliance.store.gguf_weights import Array, GgufWeights, TensorNames, halved, rotated_heads
from appliance.store.lora import listing

_FREQUENCY_FACTORS = "rope_freqs.weight"
_GEMMA = frozenset({"gemma", "gemma2", "gemma3"})

Settings = dict[str, Any]


def check_trainable(weights: GgufWeights) -> None:
    """Raise WrongWeights for what cannot be trained, with what can."""
    if weights.architecture not in TRAINABLE_ARCHITECTURES:
        raise WrongWeights(
            f"'{weights.name}' is of the architecture '{weights.architecture}', over which no adapter can be trained; "
            f"these can: {', '.join(TRAINABLE_ARCHITECTURES)}"
        )
    if weights.of_architecture("expert_count"):
        raise WrongWeights(f"'{weights.name}' is a mixture of experts, over which no adapter can be trained")
    scaling = weights.of_architecture("rope.scaling.type")
    if scaling not in (None, "none", "linear"):
        raise WrongWeights(
            f"'{weights.name}' scales its rotations by '{scaling}'; an adapter can be trained with none or 'linear'"
        )


def open_base(weights: GgufWeights, dtype: torch.dtype, device: torch.device) -> Any:
    """The network, in evaluation mode and without gradients. Raises WrongWeights."""
    check_trainable(weights)
    import transformers

    config = getattr(transformers, _CONFIGS[weights.architecture])(**_settings(weights))
    # sdpa would leave out gemma2's cap on the scores without a word
    attention = "eager" if weights.architecture == "gemma2" else "sdpa"
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    model.to_empty(device=device)
    model.tie_weights()
    model.to(dtype)
    _fill(model, weights)
    _turn(model, config, weights, device)
    model.requires_grad_(False)
    model.eval()
    return model


_CONFIGS = {
    "gemma": "GemmaConfig",
    "gemma2": "Gemma2Config",
    "gemma3": "Gemma3TextConfig",
    "llama": "LlamaConfig",
    "phi3": "Phi3Config",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
}


def _settings(weights: GgufWeights) -> Settings:
    settings: Settings = {
        "vocab_size": weights.shape("token_embd.weight")[0],
        "hidden_size": weights.count("embedding_length"),
        "intermediate_size": weights.count("feed_forward_length"),
        "num_hidden_layers": weights.layers,
        "num_attention_heads": weights.heads,
        "num_key_value_heads": weights.kv_heads,
        "head_dim": _head_width(weights),
        "rms_norm_eps": float(weights.of_architecture("attention.layer_norm_rms_epsilon")),
        "max_position_embeddings": weights.count("context_length"),
        "tie_word_embeddings": "output.weight" not in weights.tensors,
        "rope_parameters": _rope(weights),
        "use_cache": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    own = _OWN.get(weights.architecture)
    return settings | (own(weights) if own else {})


def _head_width(weights: GgufWeights) -> int:
    return int(weights.of_architecture("attention.key_length") or weights.count("embedding_length") // weights.heads)


def _rope(weights: GgufWeights) -> Settings:
    found: Settings = {"rope_type": "default", "rope_theta": float(weights.of_architecture("rope.freq_base") or 1e4)}
    if weights.of_architecture("rope.scaling.type") == "linear":
        factor = float(weights.of_architecture("rope.scaling.factor") or 1.0)
        if factor != 1.0:
            found |= {"rope_type": "linear", "factor": factor}
    return found


def _llama(weights: GgufWeights) -> Settings:
    return {
        "attention_bias": "blk.0.attn_q.bias" in weights.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in weights.tensors,
    }


def _phi3(weights: GgufWeights) -> Settings:
    """llama.cpp computes it without its window."""
    share = int(weights.of_architecture("rope.dimension_count") or _head_width(weights)) / _head_width(weights)
    return {"sliding_window": None, "rope_parameters": _rope(weights) | {"partial_rotary_factor": share}}


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
            "full_attention": _rope(weights),
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    }


def _gemma_scale(weights: GgufWeights, large_layers: int) -> int:
    """By what the scores of attention are divided, squared: another number in the largest of the family."""
    if weights.layers == large_layers:
        return weights.count("embedding_length") // weights.heads
    return _head_width(weights)


_OWN: dict[str, Callable[[GgufWeights], Settings]] = {
    "llama": _llama,
    "phi3": _phi3,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
}


def _fill(model: nn.Module, weights: GgufWeights) -> None:
    """Copy each tensor to its parameter. Raises WrongWeights naming what is missing on either side."""
    names = TensorNames(weights)
    used, missing = {_FREQUENCY_FACTORS}, []
    tied = bool(model.config.tie_word_embeddings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = names.of_parameter(name)
            if tied and name == "lm_head.weight":
                continue
            if tensor is None or tensor not in weights.tensors:
                missing.append(name)
                continue
            parameter.copy_(torch.from_numpy(_as_trained(weights, tensor)))
            used.add(tensor)
    extra = sorted(weights.tensors.keys() - used)
    if missing or extra:
        raise WrongWeights(
            f"'{weights.name}' is not laid out as {weights.architecture} networks are in transformers: "
            f"missing {listing(missing) or 'nothing'}; left over {listing(extra) or 'nothing'}"
        )


def _as_trained(weights: GgufWeights, tensor: str) -> Array:
    numbers = weights.numbers(tensor)
    heads = rotated_heads(weights, tensor)
    if heads is not None:
        flat = numbers.ndim == 1
        turned = halved(numbers[:, None] if flat else numbers, heads)
        numbers = turned[:, 0] if flat else turned
    if weights.architecture in _GEMMA and tensor.endswith("norm.weight"):
        numbers = numbers - np.float32(1.0)  # the file has them as they multiply
    return np.require(numbers, requirements=["C", "W"])  # what is mapped from the file cannot be written


def _turn(model: nn.Module, config: Any, weights: GgufWeights, device: torch.device) -> None:
    """Buffers are not in the file: those of rotations are computed, and slowed down as the file says."""
    for module in model.modules():
        if "RotaryEmbedding" in type(module).__name__:
            fresh = type(module)(config)
            for name, buffer in fresh.named_buffers(recurse=False):
                module.register_buffer(name, buffer.float().to(device), persistent=False)
            if _FREQUENCY_FACTORS in weights.tensors:
                factors = torch.tensor(weights.numbers(_FREQUENCY_FACTORS), device=device).flatten()
                module.inv_freq = module.inv_freq / factors
        elif hasattr(module, "embed_scale") and isinstance(module.embed_scale, torch.Tensor):
            scale = torch.tensor(float(weights.count("embedding_length")) ** 0.5, device=device)
            module.register_buffer("embed_scale", scale, persistent=False)
    lost = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if lost:
        raise WrongWeights(f"'{weights.name}': {listing(lost)} cannot be computed from the file")


def linear_names(model: nn.Module) -> list[str]:
    """Last parts of the names of every linear layer in the blocks: what an adapter may change."""
    inside = (name for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".layers." in name)
    return sorted({name.rsplit(".", 1)[-1] for name in inside})


def gguf_of(path: str) -> GgufWeights:
    """The base of a task."""
    return GgufWeights(Path(path))
