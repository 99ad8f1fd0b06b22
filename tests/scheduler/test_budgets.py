"""What engines may take on each GPU. The driver library is a double (``tests/hardware/fake_nvml.py``)."""

from __future__ import annotations

import os

import pynvml

from appliance.hardware.gpu import Gpus
from appliance.hardware.probe import Probe
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.ledger import Budget, Ledger
from tests.hardware.fake_nvml import GIB, FakeGpu, FakeNvml
from tests.scheduler.needs import split


def budgets(ledger: Ledger, *fakes: FakeGpu) -> GpuBudgets:
    return GpuBudgets(ledger, Probe(gpus=Gpus(FakeNvml(*fakes), {})), reserve_bytes=GIB)


def test_total_less_reserve_less_others() -> None:
    """80 GiB with 20 used, 15 of them by this process: others hold 5, and 1 is kept back."""
    ledger = Ledger("cpu", 10)
    budgets(ledger, FakeGpu(free_bytes=60 * GIB, processes={os.getpid(): 15 * GIB})).refresh()
    assert ledger.budgets["gpu0"] == Budget(capacity_bytes=79 * GIB, others_bytes=5 * GIB)
    assert ledger.budget_on("gpu0") == 74 * GIB


def test_before_anything_of_ours_is_there() -> None:
    """The driver lists no process of ours and nothing is booked: all that is used is others'."""
    ledger = Ledger("cpu", 10)
    budgets(ledger, FakeGpu(free_bytes=60 * GIB)).refresh()
    assert ledger.budgets["gpu0"].others_bytes == 20 * GIB


def test_where_the_driver_cannot_tell_ours() -> None:
    """Inside a container what is booked counts as ours; never a negative number of others' bytes."""
    ledger = Ledger("cpu", 10)
    found = budgets(ledger, FakeGpu(free_bytes=60 * GIB, processes={os.getpid(): None}))
    found.refresh()
    ledger.reserve("a", split({"gpu0": 30 * GIB}))
    found.refresh()
    assert ledger.budgets["gpu0"].others_bytes == 0


def test_a_lost_gpu_has_no_room() -> None:
    """A GPU that no longer answers offers nothing; back again, it does. What is booked there stays booked."""
    ledger, gpu = Ledger("cpu", 10), FakeGpu()
    found = budgets(ledger, gpu)
    found.refresh()
    ledger.reserve("a", split({"gpu0": GIB}))
    gpu.broken["GetMemoryInfo"] = pynvml.NVML_ERROR_GPU_IS_LOST
    found.refresh()
    assert (ledger.gpus, ledger.budget_on("gpu0"), ledger.reserved_on("gpu0")) == ([], 0, GIB)
    assert "gpu0 does not answer" in found.note
    gpu.broken.clear()
    found.refresh()
    assert ledger.gpus == ["gpu0"]


def test_no_gpu_is_no_error() -> None:
    """Without a driver there are no GPUs, and the note says why; without a source nobody looks."""
    ledger = Ledger("cpu", 10)
    missing = GpuBudgets(
        ledger, Probe(gpus=Gpus(FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND), {})), reserve_bytes=GIB
    )
    missing.refresh()
    assert ledger.gpus == []
    assert missing.note.startswith("no NVIDIA GPU:")
    nobody = GpuBudgets(ledger)
    nobody.refresh()
    assert (ledger.gpus, nobody.note) == ([], "no NVIDIA GPU found")
