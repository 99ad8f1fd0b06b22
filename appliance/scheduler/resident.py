"""A deployment's engine in memory, from the first wish to load it until it is gone."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from msgspec import Struct

from appliance.domain.errors import ApplianceError
from appliance.engines.base import Backend, Engine, EngineSpec, Need, Resources, Trial
from appliance.scheduler.pace import Visits
from appliance.scheduler.policy import Candidate, Head
from appliance.scheduler.tenant import Tenant
from appliance.store.digest import is_digest


class Wanted(Struct, frozen=True, kw_only=True):
    """What the registry asks for: a deployment, and how to make its engine."""

    deployment_id: str
    name: str
    backend: Backend
    spec: EngineSpec
    pinned: bool = False
    high_priority: bool = False

    @property
    def advice(self) -> str:
        """How it could need less, for people."""
        return "lower context_length, cache_tokens or per_worker, or take a smaller quantization"

    def asks(self) -> Resources:
        """What its parameters and its resources ask of the machine together. Raises InvalidParameter."""
        return self.backend.asks(self.spec)

    def estimate(self) -> Need:
        """Bytes the load will take in one place, from the header alone."""
        return self.backend.estimate(self.spec)

    def kind(self) -> list[Any]:
        """Everything that decides how much memory the load takes."""
        spec = self.spec
        adapter = _stored_as(spec.adapter) if spec.adapter else None
        weights = _stored_as(spec.weights)
        return [self.backend.version, spec.model_type.value, weights, adapter, spec.slots, spec.parameters]

    @property
    def spreads(self) -> bool:
        """Its layers can be shared out."""
        return True

    def fewer_gpus(self, there: int) -> str:
        """What to set on a machine that has only so many GPUs."""
        fewer = f"gpus to {there}, or to 0" if there else "gpus to 0"
        return f"set {'device to cpu' if self.spec.parameters.get('device') == 'cuda' else fewer} to run it in RAM"


def _stored_as(path: Path) -> str:
    """A blob's digest, or that of a folder of files and its name there: shards of two models may be called alike."""
    return f"{path.parent.name}/{path.name}" if is_digest(path.parent.name) else path.name


class ResidentState(StrEnum):
    """Loading → Ready → Draining → gone; Waiting before all, while there is no room; Hung, if it does not go."""

    WAITING = "WAITING"
    LOADING = "LOADING"
    READY = "READY"
    DRAINING = "DRAINING"
    HUNG = "HUNG"


class Resident(Tenant):
    """A tenant with an engine. The old and the new engine of a swap are two, under one deployment."""

    demand: Wanted

    def __init__(self, holder: str, wanted: Wanted, need: Need, now_seconds: float) -> None:
        super().__init__(holder, wanted, need, now_seconds)
        self.state = ResidentState.WAITING
        self.engine: Engine | None = None
        self.leases = 0
        self.visits = Visits()
        """The requests among them, and which have a slot."""
        self.last_used_seconds = now_seconds
        self.loaded_seconds = math.inf
        self.load_took_seconds = 0.0
        self.setbacks = 0
        """Failures in a row, of its deployment's engines, before this one was loaded."""
        self.checked_seconds = now_seconds
        """When the engine last answered the canary, or was loaded."""
        self.trial: Trial | None = None
        """What tries its load in another process now, in its turn over shared weights."""
        self.is_read = False
        """Its backend has begun to load it: it no longer waits for its turn over shared weights, nor for a trial."""
        self.turned_back: ApplianceError | None = None
        """Why its load is not begun when its turn comes, or its trial is over."""
        self.given_up = asyncio.Event()
        """Its load or its trial does not return; nobody waits for it any more."""
        self.is_closing = False
        """Its engine is being closed."""
        self.trouble: str | None = None
        """Why it hangs."""
        self.loaded_at: datetime | None = None
        self.measured: dict[str, int] = {}
        """Growth of the process while it loaded, in bytes by device; empty before, and when others moved meanwhile."""
        self.waiters: deque[asyncio.Future[Resident]] = deque()
        self.gone: asyncio.Event = asyncio.Event()

    @property
    def wanted(self) -> Wanted:
        """The wish that it serves; the newest with the same spec."""
        return self.demand

    @wanted.setter
    def wanted(self, wanted: Wanted) -> None:
        self.demand = wanted

    @property
    def can_serve(self) -> bool:
        """Ready, with an engine that has not failed."""
        return self.state is ResidentState.READY and self.engine is not None and self.engine.failure is None

    def admit(self, waiter: asyncio.Future[Resident]) -> None:
        """Give a waiter its lease, unless it has left."""
        if not waiter.done():
            self.leases += 1
            waiter.set_result(self)

    def admit_waiters(self, successor: Resident | None = None) -> None:
        """Give everyone in line a lease, of this one or its successor."""
        while self.waiters:
            (successor or self).admit(self.waiters.popleft())

    def fail_waiters(self, error: ApplianceError) -> None:
        """Tell everyone in line that it does not come."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def turn_back(self, error: ApplianceError) -> None:
        """Its load is not to begin; a trial ends."""
        self.turned_back = error
        if self.trial is not None:
            self.trial.end()

    @property
    def measured_bytes(self) -> int | None:
        """What its load took on all devices, or None."""
        return sum(self.measured.values()) if self.measured else None

    @property
    def seen_seconds(self) -> float:
        """When it last gave a sign of life."""
        return max(self.last_used_seconds, self.checked_seconds)

    @property
    def rank(self) -> int:
        """Its class in the line for room: high priority first, work in the background last."""
        return 2 if self.low_priority else int(not self.wanted.high_priority)

    @property
    def waiting(self) -> int:
        """Requests that hold no slot yet: in line for the load, or inside the engine."""
        inside = self.engine.stats().waiting if self.engine is not None else 0
        return len(self.waiters) + inside

    def as_candidate(self) -> Candidate:
        """What the eviction policy may know."""
        return Candidate(
            holder=self.holder,
            placement=self.placement,
            leases=self.leases,
            pinned=self.wanted.pinned,
            last_used_seconds=self.last_used_seconds,
            loaded_seconds=self.loaded_seconds,
            load_took_seconds=self.load_took_seconds,
            high_priority=self.wanted.high_priority,
        )

    def as_head(self, now_seconds: float) -> Head:
        """What the eviction policy may know of one that waits for room."""
        return Head(
            waited_seconds=now_seconds - self.enqueued_seconds,
            high_priority=self.wanted.high_priority,
            low_priority=self.low_priority,
        )


class Lease:
    """One request's hold on a resident. While it is held, the engine is not unloaded."""

    def __init__(self, engine: Engine, release: object, queue_milliseconds: float) -> None:
        self.engine = engine
        self.queue_milliseconds = queue_milliseconds
        self._release = release

    def release(self) -> None:
        """Let go. Never waits; twice is fine."""
        release, self._release = self._release, None
        if callable(release):
            release()
