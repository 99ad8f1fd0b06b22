"""Schedulers over GPUs that are doubles: bytes in a ledger."""

from __future__ import annotations

from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.loading import Hooks
from appliance.scheduler.needs import Learned
from appliance.scheduler.policy import Rules
from appliance.scheduler.scheduler import Scheduler
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted
from tests.support.fake_gpus import FakeGpus

RAM_BYTES = 25


class Told(Hooks):
    """Remembers what was learnt, and how loads failed."""

    def __init__(self) -> None:
        self.learned: list[Learned] = []
        self.reasons: list[str] = []

    async def need_learned(self, learned: Learned) -> None:
        self.learned.append(learned)

    async def load_ended(self, deployment_id: str, error: Exception | None) -> None:
        if error is not None:
            self.reasons.append(str(error))


def make(
    clock: FakeClock, gpus: FakeGpus | None, meter: FakeMeter | None = None, hooks: Hooks | None = None
) -> Scheduler:
    ledger = Ledger("cpu", RAM_BYTES)
    return Scheduler(
        clock,
        ledger,
        idle_seconds=600,
        queue_limit=2,
        rules=Rules(max_wait_seconds=30),
        hooks=hooks,
        meter=lambda: meter or FakeMeter(),
        gpus=GpuBudgets(ledger, gpus, reserve_bytes=0) if gpus is not None else None,
    )


async def load(scheduler: Scheduler, name: str, backend: FakeBackend, **options: object) -> str:
    """Make it known, call it once, and say where its engine is."""
    scheduler.want(wanted(name, backend, **options))  # type: ignore[arg-type]
    lease = await scheduler.acquire(name)
    lease.release()
    return str(lease.engine.device)
