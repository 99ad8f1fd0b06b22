"""A GGUF file as a network of transformers: every tensor in its place, none left over.

Written here instead of leaving it to ``from_pretrained(gguf_file=...)``, which takes what a file does not say from a
class's defaults and skips tensors that it does not know: both would train another network than the one that is served.
What each architecture is stands in ``architectures``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from appliance.domain.errors import WrongWeights
from appliance.domain.trainable import CHOSEN_TARGETS, SCORES_KEPT, TARGETS, untrainable
from appliance.store.gguf_layout import TensorNames, as_in_transformers
from appliance.store.gguf_weights import Array, GgufWeights
from appliance.store.lora import listing
from appliance.training.architectures import Architecture, architecture_of, settings_of

_FREQUENCY_FACTORS = "rope_freqs.weight"
_BLOCK = re.compile(r"\.(?P<block>\d+)\.", re.ASCII)
_NUMBER = re.compile(r"\.(?P<number>\d+)(?=\.)", re.ASCII)


def check_trainable(weights: GgufWeights) -> None:
    """Raise WrongWeights for what cannot be trained, with what can."""
    facts = map(weights.of_architecture, ("expert_count", "rope.scaling.type", "ssm.dt_b_c_rms"))
    against = untrainable(weights.architecture, *facts)
    if against is not None:
        raise WrongWeights(f"'{weights.name}' {against}")


def open_base(weights: GgufWeights, dtype: torch.dtype, device: torch.device) -> Any:
    """The network, in evaluation mode and without gradients. Raises WrongWeights."""
    check_trainable(weights)
    import transformers

    config = getattr(transformers, architecture_of(weights).config)(**settings_of(weights))
    # sdpa would leave out gemma2's cap on the scores without a word, and others have no such kernel
    attention = "eager" if weights.architecture in SCORES_KEPT else None
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


class _Source:
    """Where the numbers of a parameter stand in the file."""

    def __init__(self, tensors: Sequence[str], join: Callable[[Sequence[Array]], Array]) -> None:
        self.tensors = tensors
        self._join = join

    def numbers(self, weights: GgufWeights, architecture: Architecture) -> Array:
        return self._join([_as_trained(weights, architecture, tensor) for tensor in self.tensors])


def _source(parameter: str, names: TensorNames, architecture: Architecture) -> _Source | None:
    block = _BLOCK.search(parameter)
    if block is not None:
        rest = parameter[block.end() - 1 :]
        parts = architecture.parts.get(_NUMBER.sub("", rest).removeprefix("."))
        if parts is not None:
            numbers = [int(found["number"]) for found in _NUMBER.finditer(rest)] or [0]
            tensors = [f"blk.{block['block']}.{end}" for end in parts.tensors]
            return _Source(tensors, lambda arrays: parts.join(arrays, numbers[-1]))
    tensor = names.of_parameter(parameter)
    return None if tensor is None else _Source([tensor], lambda arrays: arrays[0])


def _fill(model: nn.Module, weights: GgufWeights) -> None:
    """Copy each tensor to its parameter. Raises WrongWeights naming what is missing on either side."""
    names, architecture = TensorNames(weights), architecture_of(weights)
    used, missing = {_FREQUENCY_FACTORS}, []
    tied = bool(model.config.tie_word_embeddings)
    turned = {f"{name}.weight" for name, module in _linear_layers(model) if not isinstance(module, nn.Linear)}
    with torch.no_grad():
        for name, parameter in _kept(model):
            if tied and name == "lm_head.weight":
                continue
            source = _source(name, names, architecture)
            if source is None or not weights.tensors.keys() >= set(source.tensors):
                missing.append(name)
                continue
            numbers = source.numbers(weights, architecture)
            _copy(parameter, numbers.T if name in turned else numbers, source.tensors, weights)
            used.update(source.tensors)
    extra = sorted(weights.tensors.keys() - used)
    if missing or extra:
        raise WrongWeights(
            f"'{weights.name}' is not laid out as {weights.architecture} networks are in transformers: "
            f"missing {listing(missing) or 'nothing'}; left over {listing(extra) or 'nothing'}"
        )


def _kept(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """What of a network is in files: parameters, and a few numbers that are never trained."""
    yield from model.named_parameters()
    in_files = model.state_dict().keys()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in in_files)


def _copy(parameter: torch.Tensor, numbers: Array, tensors: Sequence[str], weights: GgufWeights) -> None:
    """Dimensions of one number come and go between the two."""
    wanted = tuple(parameter.shape)
    if [length for length in numbers.shape if length != 1] != [length for length in wanted if length != 1]:
        raise WrongWeights(f"'{weights.name}': {listing(tensors)} make {numbers.shape}, and {wanted} is needed")
    # what is mapped from the file cannot be written
    parameter.copy_(torch.from_numpy(np.require(numbers.reshape(wanted), requirements=["C", "W"])))


def _as_trained(weights: GgufWeights, architecture: Architecture, tensor: str) -> Array:
    numbers = as_in_transformers(weights, tensor, weights.numbers(tensor))
    if architecture.norm_offset and tensor.endswith("norm.weight"):
        numbers = numbers - np.float32(architecture.norm_offset)  # the file has them as they multiply
    return numbers


def _turn(model: nn.Module, config: Any, weights: GgufWeights, device: torch.device) -> None:
    """Buffers are not in the file: those of rotations are computed, and slowed down as the file says."""
    for module in model.modules():
        if "RotaryEmbedding" in type(module).__name__:
            fresh = type(module)(config)
            for name, buffer in fresh.named_buffers(recurse=False):
                module.register_buffer(name, buffer.float().to(device), persistent=False)
            if _FREQUENCY_FACTORS in weights.tensors:
                factors = torch.tensor(weights.numbers(_FREQUENCY_FACTORS), device=device).flatten()
                name = "inv_freq" if hasattr(module, "inv_freq") else "full_attention_inv_freq"
                setattr(module, name, getattr(module, name) / factors)
        elif hasattr(module, "embed_scale") and isinstance(module.embed_scale, torch.Tensor):
            scale = torch.tensor(float(module.scalar_embed_scale), device=device)
            module.register_buffer("embed_scale", scale, persistent=False)
    lost = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if lost:
        raise WrongWeights(f"'{weights.name}': {listing(lost)} cannot be computed from the file")


def linear_names(model: nn.Module, weights: GgufWeights) -> list[str]:
    """Last parts of the names of the linear layers in the blocks: what an adapter may change.

    Those are left out that have no matrix of their own in the file.
    """
    names, targets = TensorNames(weights), TARGETS[weights.architecture]
    found = set()
    for name, _ in _linear_layers(model):
        tensor = names.of_module(name)
        if _BLOCK.search(name) and tensor is not None and weights.is_matrix(f"{tensor}.weight"):
            found.add(name.rsplit(".", 1)[-1])
    return sorted(found & set(targets) if weights.architecture in CHOSEN_TARGETS else found)


def has_turned_layers(model: nn.Module) -> bool:
    """Whether its linear layers have their matrices transposed."""
    return any(not isinstance(module, nn.Linear) for _, module in _linear_layers(model))


def _linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield name, module


def gguf_of(path: str) -> GgufWeights:
    """The base of a task."""
    return GgufWeights(Path(path))
