"""The published bound on waiting, and what must hold besides, under any sequence of calls (``machine``)."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
from hypothesis import settings

from appliance.scheduler.resident import Wanted
from tests.scheduler.hanging_machine import HangingMachine, HangingTurnsMachine
from tests.scheduler.machine import SchedulerMachine
from tests.support.fake_engine import FakeBackend, wanted


class GpuMachine(SchedulerMachine):
    """The same on a machine with two GPUs, which are numbers here: an order for each device, and the same bound among
    those that compete."""

    deployments: ClassVar[list[Wanted]] = [
        wanted("pinned in ram", FakeBackend(3), pinned=True),
        wanted("pinned on a gpu", FakeBackend(3), pinned=True, gpus=1),
        wanted("in ram", FakeBackend(9)),
        wanted("also in ram", FakeBackend(8)),
        wanted("small", FakeBackend(5), gpus=1),
        wanted("large", FakeBackend(10), gpus=1),
        wanted("split", FakeBackend(14, layers=5), gpus=2),
        wanted("spilling", FakeBackend(16, layers=9), gpus=1, spills=True),
        wanted("half", FakeBackend(12, layers=7), gpus=1, gpu_layers=4),
    ]
    gpus: ClassVar[dict[str, int]] = {"gpu0": 8, "gpu1": 14}


class HangingGpuMachine(HangingMachine):
    """What hangs on a machine with two GPUs."""

    deployments: ClassVar[list[Wanted]] = GpuMachine.deployments
    gpus: ClassVar[dict[str, int]] = GpuMachine.gpus


MANY = settings(max_examples=15, stateful_step_count=40, deadline=None)
SchedulerMachine.TestCase.settings = GpuMachine.TestCase.settings = MANY
FEWER = settings(MANY, max_examples=6)
HangingMachine.TestCase.settings = HangingGpuMachine.TestCase.settings = FEWER
HangingTurnsMachine.TestCase.settings = FEWER
TestScheduler = SchedulerMachine.TestCase
TestSchedulerWithGpus = GpuMachine.TestCase
TestHangingLoads = HangingMachine.TestCase
TestHangingTurns = HangingTurnsMachine.TestCase
TestHangingLoadsOnGpus = HangingGpuMachine.TestCase


def test_steady_load_on_each_gpu_does_not_starve_a_split() -> None:
    """Both GPUs are full and called every second, each by another deployment: one that needs both gets them in time."""
    machine = GpuMachine()
    for name in ("small", "large", "split"):
        machine.call(name)
    for _ in range(60):
        for name in ("small", "large"):
            machine.call(name)
        machine.time_passes(1)
    assert machine.backends["split"].loads
    machine.teardown()


def test_a_crowd_for_the_gpus_leaves_ram_alone() -> None:
    """However many wait for GPUs, a load into RAM waits for those in RAM only, and gets its place among them."""
    machine = GpuMachine()
    for name in ("in ram", "large", "split", "half", "small"):
        machine.call(name)
    machine.call("also in ram")
    call = machine.calls[-1]
    assert call.place is not None
    for name in ("in ram", "large", "split", "small"):
        machine.steady_load(name, ticks=8)
    assert call.held_since is not None
    machine.teardown()


def test_what_is_kept_of_a_copy_that_hangs_is_booked_once() -> None:
    """While weights are kept for one in the line, a load over them hangs: the copy stays with those who have it, what
    was kept of it is given up, and nothing is booked over the budget. When the load ends after all the line moves on.
    """
    machine = HangingTurnsMachine()
    machine.work_is_booked(needed_bytes=6, on_gpu=False)
    machine.loads_hang(number=0)
    machine.call_in_the_background(number=1)
    machine.somebody_calls(number=0)
    machine.call_in_the_background(number=2)
    machine.time_passes(ticks=6)
    machine.never_over_committed()
    machine.nobody_waits_for_nothing()
    machine.teardown()


@pytest.mark.parametrize(("busy", "other"), list(itertools.permutations(["medium", "large", "huge"], 2)))
def test_steady_load_starves_nobody(busy: str, other: str) -> None:
    """One engine fits and its deployment is called every second: a call of another is served within the bound."""
    machine = SchedulerMachine()
    machine.call(busy)
    machine.call(other)
    machine.steady_load(busy, ticks=60)
    assert machine.backends[other].loads
    machine.teardown()
