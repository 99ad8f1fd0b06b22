"""Kinds of GPU: the words in which a deployment asks for one, against the names that the driver has for those there.

``NVIDIA A10G`` is the A10 of one vendor's machines. An A100 is one with 40 or 80 GB; ``a100e`` means 80. A slice of a
GPU (MIG) is a kind of its own, and a whole GPU is no slice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct


class Kind(Struct, frozen=True):
    """What a driver's name must look like."""

    models: frozenset[str]
    """One of these words must stand in it."""
    slice: str | None = None
    """The MIG profile; None: the whole GPU."""
    memory: str | None = None
    """The size that must stand in it."""


KINDS: Mapping[str, Kind] = {
    "nvidia-tesla-t4": Kind(frozenset({"T4"})),
    "nvidia-ampere-a10": Kind(frozenset({"A10", "A10G"})),
    "nvidia-ampere-a100": Kind(frozenset({"A100"})),
    "nvidia-ampere-a100e": Kind(frozenset({"A100"}), memory="80GB"),
    "nvidia-hopper-h100": Kind(frozenset({"H100"})),
    "nvidia-hopper-h100-1g20gb": Kind(frozenset({"H100"}), slice="1g.20gb"),
    "nvidia-hopper-h100-3g40gb": Kind(frozenset({"H100"}), slice="3g.40gb"),
}
"""By the word of the official clients."""

_WORD = re.compile(r"[A-Za-z0-9.]+")


def is_of_kind(name: str, gpu_type: str) -> bool:
    """Whether the driver calls a GPU by this name that is of the kind. A word that is not known fits none."""
    kind = KINDS.get(gpu_type)
    if kind is None:
        return False
    words = _WORD.findall(name)
    is_slice = "MIG" in words
    if is_slice != (kind.slice is not None) or (kind.slice is not None and kind.slice not in words):
        return False
    return bool(kind.models.intersection(words)) and (kind.memory is None or kind.memory in words)
