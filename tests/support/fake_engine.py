"""Doubles for the scheduler's tables: an engine that does nothing, a backend that loads when told, a clock to turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from appliance.domain.errors import ApplianceError, Internal, NotReady
from appliance.domain.inference import EmbeddingRequest, EmbeddingResult
from appliance.domain.models import Card, ModelType, WeightsFormat
from appliance.engines.base import RAM, EngineSpec, EngineStats, Need, Placement, Resources
from appliance.engines.shared import WEIGHTS, Hold
from appliance.scheduler.resident import Wanted

CARD = Card(format=WeightsFormat.GGUF, architecture="fake")


class FakeClock:
    """Time that moves when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic_seconds(self) -> float:
        return self.seconds


class FakeMeter:
    """Sees every load grow the process by what the test says."""

    def __init__(self, peak_bytes: int = 0, gpu_peak_bytes: dict[str, int] | None = None) -> None:
        self.peak_bytes = self.private_peak_bytes = peak_bytes
        self.gpu_peak_bytes = gpu_peak_bytes or {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class FakeWeights:
    """Weights of nothing that several backends may stand on; counts how often they are read."""

    def __init__(self, key: str, weights_bytes: int) -> None:
        self.key = key
        self.weights_bytes = weights_bytes
        self.loads = 0
        self.in_memory = False

    def load(self) -> FakeWeights:
        assert not self.in_memory, "read while in memory"
        self.loads += 1
        self.in_memory = True
        return self

    def close(self) -> None:
        self.in_memory = False


class FakeEngine:
    """Loaded weights of nothing; it embeds whatever it is asked, or waits, or raises."""

    def __init__(self, slots: int, hold: Hold[FakeWeights] | None = None, placement: Placement = RAM) -> None:
        self.slots = slots
        self.placement = placement
        self.device = placement.device
        self.failure: str | None = None
        self.closed = False
        self.close_gate: threading.Event | None = None
        """It closes when this is set."""
        self._is_closing = False
        self._hold = hold
        self.asked = 0
        self.hangs = False
        self.error: Exception | None = None
        self.pulse: int | None = None
        """Set it to make it work on something; left as it is, it hangs, and does not close."""
        self.spoils = False
        """Once it is given up, nobody else can use its weights."""
        self.given_up: ApplianceError | None = None
        self._ended = asyncio.Event()

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.hangs:
            await self._ended.wait()
            assert self.given_up is not None
            raise self.given_up
        return EmbeddingResult(vectors=(), tokens=1)

    def stats(self) -> EngineStats:
        return EngineStats()

    @property
    def is_at_gate(self) -> bool:
        return self._is_closing and self.close_gate is not None and not self.close_gate.is_set()

    def give_up(self, error: ApplianceError) -> None:
        self.given_up = error
        self._ended.set()
        self.failure = error.message
        if self.spoils and self._hold is not None:
            self._hold.spoil()
            self._hold.weights.in_memory = False  # this copy is; the next one may be read beside it

    def close(self) -> None:
        if self.pulse is not None:
            raise Internal("the thread did not end")
        if self.close_gate is not None:
            self._is_closing = True
            assert self.close_gate.wait(timeout=30)
        if self._hold is not None:
            self._hold.release()
        self.closed = True


class FakeTrial:
    """A trial of nothing, which ends when it is let go or told to end."""

    def __init__(self, passed: Callable[[], None], error: ApplianceError | None) -> None:
        self.error = error
        self.is_stuck = False
        """Its process does not even end when it is killed, like one that waits for a disk."""
        self._is_running = False
        self.was_ended = False
        self._passed = passed
        self._over = threading.Event()

    def run(self) -> None:
        self._is_running = True
        assert self._over.wait(timeout=30)
        if self.was_ended:
            raise NotReady("the trial was ended")
        if self.error is not None:
            raise self.error
        self._passed()

    def end(self) -> None:
        self.was_ended = True
        if not self.is_stuck:
            self._over.set()

    @property
    def is_under_way(self) -> bool:
        return self._is_running and not self._over.is_set()

    def let_go(self) -> None:
        self._over.set()


class FakeBackend:
    """Loads ``FakeEngine``s of a given size, if need be over shared weights; a load waits while ``gate`` is shut.

    With more layers than one it may be laid out over several devices. What is ``untried`` has a trial before its first
    load, which waits while ``trial_gate`` is shut.
    """

    version = "0"

    def __init__(self, need_bytes: int = 10, over: FakeWeights | None = None, layers: int = 1) -> None:
        self.need_bytes = need_bytes
        self.over = over
        self.layers = layers
        self.gate = threading.Event()
        self.gate.set()
        self.error: ApplianceError | None = None
        self.hangs = False
        """Its engines hang in their first step."""
        self.begun = 0
        self._loading = 0
        self.close_gate: threading.Event | None = None
        """That of its engines."""
        self.loads: list[FakeEngine] = []
        self.untried = False
        self.trial_gate = True
        """Open."""
        self.trials_are_stuck = False
        self.trial_error: ApplianceError | None = None
        self.trials: list[FakeTrial] = []

    def check(self, spec: EngineSpec) -> None:
        pass

    def asks(self, spec: EngineSpec) -> Resources:
        return spec.resources

    def estimate(self, spec: EngineSpec) -> Need:
        if self.over is None:
            return Need(weights_bytes=self.need_bytes, layers=self.layers)
        return Need(
            weights_bytes=self.over.weights_bytes,
            cache_bytes=self.need_bytes,
            weights_key=self.over.key,
            layers=self.layers,
        )

    @property
    def at_gate(self) -> int:
        """Loads that wait there."""
        return 0 if self.gate.is_set() else self._loading

    def trial(self, spec: EngineSpec) -> FakeTrial | None:
        if not self.untried:
            return None
        trial = FakeTrial(self._passed, self.trial_error)
        trial.is_stuck = self.trials_are_stuck
        self.trials.append(trial)
        if self.trial_gate:
            trial.let_go()
        return trial

    def _passed(self) -> None:
        self.untried = False

    def load(self, spec: EngineSpec, placement: Placement = RAM) -> FakeEngine:
        self.begun += 1
        self._loading += 1
        assert self.gate.wait(timeout=30)
        self._loading -= 1
        if self.error is not None:
            raise self.error
        hold = WEIGHTS.load(placement.weights_key or self.over.key, self.over.load) if self.over is not None else None
        engine = FakeEngine(spec.slots, hold, placement)
        engine.close_gate = self.close_gate
        if self.hangs:
            engine.hangs, engine.pulse = True, 0
        self.loads.append(engine)
        return engine


def wanted(
    name: str,
    backend: FakeBackend,
    *,
    pinned: bool = False,
    slots: int = 2,
    tag: int = 0,
    high_priority: bool = False,
    **resources: Any,
) -> Wanted:
    """A deployment called ``name``; another ``tag`` means another spec. The rest are ``Resources``."""
    spec = EngineSpec(
        model_type=ModelType.COMPLETION,
        weights=Path("/nowhere"),
        card=CARD,
        slots=slots,
        parameters={"tag": tag},
        resources=Resources(**resources),
    )
    return Wanted(deployment_id=name, name=name, backend=backend, spec=spec, pinned=pinned, high_priority=high_priority)
