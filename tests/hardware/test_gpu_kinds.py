"""The words for kinds of GPU against the driver's names."""

from __future__ import annotations

from typing import get_args

import pytest

from appliance.hardware.gpu_kinds import KINDS, is_of_kind
from appliance.wire.sgp import GpuType

NAMES = {
    "Tesla T4": {"nvidia-tesla-t4"},
    "NVIDIA A10": {"nvidia-ampere-a10"},
    "NVIDIA A10G": {"nvidia-ampere-a10"},
    "A100-SXM4-40GB": {"nvidia-ampere-a100"},
    "NVIDIA A100-SXM4-80GB": {"nvidia-ampere-a100", "nvidia-ampere-a100e"},
    "NVIDIA A100 80GB PCIe": {"nvidia-ampere-a100", "nvidia-ampere-a100e"},
    "NVIDIA H100 80GB HBM3": {"nvidia-hopper-h100"},
    "NVIDIA H100 PCIe": {"nvidia-hopper-h100"},
    "NVIDIA H100 80GB HBM3 MIG 1g.20gb": {"nvidia-hopper-h100-1g20gb"},
    "NVIDIA H100 80GB HBM3 MIG 3g.40gb": {"nvidia-hopper-h100-3g40gb"},
    "NVIDIA H200": set(),
    "NVIDIA GH200 480GB": set(),
    "NVIDIA A1000": set(),
    "NVIDIA RTX A4000": set(),
    "NVIDIA GeForce RTX 4090": set(),
    "NVIDIA L4": set(),
}


def test_every_word_of_the_wire_has_a_kind() -> None:
    """What may be asked for can be looked for, and nothing else."""
    assert set(KINDS) == set(get_args(GpuType))


@pytest.mark.parametrize(("name", "kinds"), NAMES.items(), ids=NAMES)
def test_names_of_the_driver(name: str, kinds: set[str]) -> None:
    """Each is of these kinds and of no other."""
    assert {word for word in KINDS if is_of_kind(name, word)} == kinds


def test_an_unknown_word() -> None:
    """It fits nothing, not everything."""
    assert not is_of_kind("NVIDIA H100 PCIe", "h100")
