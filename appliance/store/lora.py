"""LoRA adapters in GGUF: written from the factors that peft trains, and merged into the weights they belong to.

Shapes: ``down`` is (rank, inputs), ``up`` (outputs, rank); what is added to a matrix is ``alpha / rank * up @ down``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import gguf
import numpy as np
from msgspec import Struct

from appliance.domain.errors import BadWeights, InvalidParameter, WrongWeights
from appliance.store.gguf_layout import TensorNames, as_in_file
from appliance.store.gguf_weights import Array, GgufWeights

BASE_DIGEST = "appliance.base_digest"
"""Metadata key of an adapter: SHA-256 of the file it was made for."""

_DOWN, _UP = ".lora_a", ".lora_b"


class Factors(Struct, frozen=True):
    """What an adapter adds to one matrix, rows in transformers' order."""

    down: Array
    up: Array
    scale: float
    """``alpha / rank``, or whatever its maker multiplies with."""


def write_adapter(
    path: Path, base: GgufWeights, modules: Mapping[str, Factors], alpha: float, name: str | None = None
) -> None:
    """``modules``: by transformers' module name. Raises WrongWeights naming what the base has no place for."""
    names = TensorNames(base)
    placed = {module: names.of_module(module) for module in modules}
    lost = [module for module, tensor in placed.items() if tensor is None or not base.is_matrix(f"{tensor}.weight")]
    if lost:
        raise WrongWeights(f"'{base.name}' ({base.architecture}) has no matrix for {listing(lost)}")
    writer = gguf.GGUFWriter(path, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_name(name or f"adapter of {base.name}")
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base.name)
    writer.add_string(BASE_DIGEST, base.digest())
    for module, factors in modules.items():
        _add(writer, base, f"{placed[module]}.weight", factors, alpha)
    save(writer)


def _add(writer: gguf.GGUFWriter, base: GgufWeights, tensor: str, factors: Factors, alpha: float) -> None:
    down, up = factors.down, factors.up
    outputs, inputs = base.shape(tensor)
    if down.shape[::-1] != (inputs, up.shape[1]) or up.shape[0] != outputs:
        raise WrongWeights(
            f"{tensor} of '{base.name}' is {outputs} x {inputs}; the adapter is for {up.shape[0]} x {down.shape[1]}: "
            "it was made for other weights"
        )
    rank = down.shape[0]
    writer.add_tensor(tensor + _DOWN, np.ascontiguousarray(down, dtype=np.float32))
    scaled = as_in_file(base, tensor, up) * np.float32(factors.scale * rank / alpha)
    writer.add_tensor(tensor + _UP, np.ascontiguousarray(scaled, dtype=np.float32))


def save(writer: gguf.GGUFWriter) -> None:
    """Write all that was added, and close."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Adapter:
    """A GGUF adapter that is read."""

    def __init__(self, path: Path) -> None:
        self._weights = GgufWeights(path)
        if self._weights.field("general.type") != "adapter" or self._weights.field("adapter.type") != "lora":
            raise WrongWeights(f"'{path.name}' is no LoRA adapter; name the adapter that was trained or imported")
        self.architecture = self._weights.architecture
        self.base_digest = self._weights.field(BASE_DIGEST)
        self.alpha = float(self._weights.field("adapter.lora.alpha") or 0.0)
        if not self.alpha or not math.isfinite(self.alpha):
            raise BadWeights(f"'{path.name}' has no adapter.lora.alpha; make it again with a current tool")
        self.targets = frozenset(name.rsplit(".lora_", 1)[0] for name in self._weights.tensors)
        """Names of the base's tensors that it changes."""

    def delta(self, tensor: str) -> Array:
        """What it adds to the tensor. Raises BadWeights when a factor is missing."""
        if not {tensor + _DOWN, tensor + _UP} <= self._weights.tensors.keys():
            raise BadWeights(f"the adapter has only one of two factors for {tensor}")
        down, up = self._weights.numbers(tensor + _DOWN), self._weights.numbers(tensor + _UP)
        if up.shape[-1] != down.shape[0]:
            raise BadWeights(f"the adapter's factors for {tensor} have ranks {up.shape[-1]} and {down.shape[0]}")
        added: Array = (up @ down) * np.float32(self.alpha / down.shape[0])
        return added

    def check_fits(self, base: GgufWeights) -> None:
        """Raise WrongWeights for weights it was not made for."""
        if self.architecture != base.architecture:
            raise WrongWeights(f"the adapter is for '{self.architecture}', '{base.name}' is '{base.architecture}'")
        if lost := sorted(self.targets - base.tensors.keys()):
            raise WrongWeights(f"'{base.name}' has no {listing(lost)}, which the adapter changes")
        if self.base_digest and self.base_digest != base.digest():
            raise InvalidParameter(
                f"the adapter was trained over other weights (SHA-256 {self.base_digest[:12]}…) than '{base.name}' "
                f"({base.digest()[:12]}…); name those"
            )


def listing(names: Iterable[str], shown: int = 6) -> str:
    """Some names for a message."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
