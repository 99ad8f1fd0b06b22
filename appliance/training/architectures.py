"""What each architecture is in transformers: one record each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from appliance.domain.errors import WrongWeights
from appliance.store.gguf_weights import Array, GgufWeights
from appliance.training import configs
from appliance.training.rotations import Settings


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
    settings: tuple[Callable[[GgufWeights], Settings], ...] = (configs.sized, configs.rotating)
    """What the config is made with beside what every one is; later ones overrule."""
    epsilon: str = "rms_norm_eps"
    """What the config calls that which keeps norms from dividing by zero."""
    biases: Mapping[str, str] = {}
    """Settings that say whether linear layers have biases, each with one of their tensors."""
    parts: Mapping[str, Parts] = {}
    """By the end of the parameter's name, the block's number and all numbers after it left out."""
    norm_offset: float = 0.0
    """What the file's norms have more than transformers' parameters: they multiply with one more."""


def architecture_of(weights: GgufWeights) -> Architecture:
    """The record; what can be trained has one."""
    return ARCHITECTURES[weights.architecture]


def _same(tensor: str) -> Parts:
    return Parts((tensor,), lambda arrays, _: arrays[0])


def _behind(arrays: Sequence[Array], _: int) -> Array:
    """The rows of each expert's matrices one behind the other."""
    return np.concatenate(arrays, axis=1)


def _woven(arrays: Sequence[Array], _: int) -> Array:
    """Rows of each expert's matrices in turns, as columns."""
    return np.stack(arrays, axis=2).reshape(len(arrays[0]), -1, *arrays[0].shape[2:]).swapaxes(1, -1)


_ROTATING: Final = (configs.sized, configs.rotating)
_PARTLY_ROTATING: Final = (*_ROTATING, configs.partly_rotating)
_EXPERTS: Final = {
    "mlp.experts.gate_up_proj": Parts(("ffn_gate_exps.weight", "ffn_up_exps.weight"), _behind),
    "mlp.experts.down_proj": _same("ffn_down_exps.weight"),
}
_GPT_OSS_EXPERTS: Final = {
    "mlp.experts.gate_up_proj": Parts(("ffn_gate_exps.weight", "ffn_up_exps.weight"), _woven),
    "mlp.experts.gate_up_proj_bias": Parts(("ffn_gate_exps.bias", "ffn_up_exps.bias"), _woven),
    "mlp.experts.down_proj": Parts(("ffn_down_exps.weight",), lambda arrays, _: arrays[0].swapaxes(1, 2)),
    "mlp.experts.down_proj_bias": _same("ffn_down_exps.bias"),
    "self_attn.sinks": _same("attn_sinks.weight"),
}
_GEMMA4_PARTS: Final = {
    "layer_scalar": _same("layer_output_scale.weight"),
    "router.scale": _same("ffn_gate_inp.scale"),
    "router.per_expert_scale": _same("ffn_down_exps.scale"),
    "experts.gate_up_proj": _same("ffn_gate_up_exps.weight"),
    "experts.down_proj": _same("ffn_down_exps.weight"),
}
_HEAD_NORMS: Final = {
    f"self_attn.{part}_layernorm.norms.weight": Parts(
        (f"attn_{part}_norm.weight",), lambda arrays, head: arrays[0][head]
    )
    for part in "qk"
}
_STATES: Final = {"mixer.A_log": Parts(("ssm_a",), lambda arrays, _: np.log(-arrays[0]))}

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "bloom": Architecture(config="BloomConfig", settings=(configs.bloom,), epsilon="layer_norm_epsilon"),
    "falcon": Architecture(
        config="FalconConfig", settings=(configs.sized, configs.falcon), epsilon="layer_norm_epsilon"
    ),
    "gemma": Architecture(config="GemmaConfig", norm_offset=1.0),
    "gemma2": Architecture(config="Gemma2Config", settings=(*_ROTATING, configs.gemma2), norm_offset=1.0),
    "gemma3": Architecture(config="Gemma3TextConfig", settings=(*_ROTATING, configs.gemma3), norm_offset=1.0),
    "gemma4": Architecture(
        config="Gemma4TextConfig",
        settings=(configs.sized, configs.gemma4),
        parts=_GEMMA4_PARTS,
    ),
    "gpt-oss": Architecture(
        config="GptOssConfig",
        settings=(*_ROTATING, configs.gpt_oss),
        biases={"attention_bias": "attn_q"},
        parts=_GPT_OSS_EXPERTS,
    ),
    "gpt2": Architecture(config="GPT2Config", settings=(configs.gpt2,), epsilon="layer_norm_epsilon"),
    "lfm2": Architecture(config="Lfm2Config", settings=(configs.sized, configs.lfm2), epsilon="norm_eps"),
    "llama": Architecture(config="LlamaConfig", biases={"attention_bias": "attn_q", "mlp_bias": "ffn_down"}),
    "mamba": Architecture(
        config="MambaConfig",
        settings=(configs.mamba,),
        epsilon="layer_norm_epsilon",
        parts=_STATES,
    ),
    "minimax-m2": Architecture(
        config="MiniMaxM2Config",
        settings=(*_PARTLY_ROTATING, configs.minimax_m2),
        parts=_EXPERTS | {"mlp.e_score_correction_bias": _same("exp_probs_b.bias")},
    ),
    "mistral3": Architecture(config="Ministral3Config", settings=(*_ROTATING, configs.mistral3)),
    "nemotron": Architecture(
        config="NemotronConfig",
        settings=_PARTLY_ROTATING,
        epsilon="norm_eps",
        biases={"attention_bias": "attn_q", "mlp_bias": "ffn_up"},
        norm_offset=1.0,
    ),
    "phi3": Architecture(config="Phi3Config", settings=(*_PARTLY_ROTATING, configs.phi3)),
    "qwen2": Architecture(config="Qwen2Config"),
    "qwen2moe": Architecture(
        config="Qwen2MoeConfig",
        settings=(*_ROTATING, configs.qwen2moe),
        biases={"qkv_bias": "attn_q"},
        parts=_EXPERTS,
    ),
    "qwen3": Architecture(config="Qwen3Config"),
    "qwen3moe": Architecture(config="Qwen3MoeConfig", settings=(*_ROTATING, configs.qwen3moe), parts=_EXPERTS),
    "stablelm": Architecture(
        config="StableLmConfig",
        settings=(*_PARTLY_ROTATING, configs.stablelm),
        epsilon="layer_norm_eps",
        biases={"use_qkv_bias": "attn_q"},
        parts=_HEAD_NORMS,
    ),
    "starcoder2": Architecture(
        config="Starcoder2Config",
        settings=(*_ROTATING, configs.starcoder2),
        epsilon="norm_epsilon",
        biases={"use_bias": "attn_q"},
    ),
}


def settings_of(weights: GgufWeights) -> Settings:
    """What the config is made with. Raises WrongWeights for a file that lacks what the network is made of."""
    architecture = architecture_of(weights)
    try:
        found = configs.every(weights) | {architecture.epsilon: configs.epsilon(weights)}
        for part in architecture.settings:
            found |= part(weights)
    except KeyError as missing:
        raise WrongWeights(f"'{weights.name}' has no tensor {missing}, which {weights.architecture} needs") from None
    biased = {name: f"blk.0.{tensor}.bias" in weights.tensors for name, tensor in architecture.biases.items()}
    return found | biased
