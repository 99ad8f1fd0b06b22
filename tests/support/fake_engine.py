"""Doubles for the scheduler's tables: an engine that does nothing, a backend that loads when told, a clock to turn."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from appliance.domain.errors import ApplianceError
from appliance.domain.inference import EmbeddingRequest, EmbeddingResult
from appliance.domain.models import Card, ModelType, WeightsFormat
from appliance.engines.base import EngineSpec, EngineStats, Need
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

    def __init__(self, peak_bytes: int = 0) -> None:
        self.peak_bytes = peak_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class FakeEngine:
    """Loaded weights of nothing; it embeds whatever it is asked, or waits, or raises."""

    device = "cpu"

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.failure: str | None = None
        self.closed = False
        self.asked = 0
        self.hangs = False
        self.error: Exception | None = None

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return EmbeddingResult(vectors=(), tokens=1)

    def stats(self) -> EngineStats:
        return EngineStats()

    def close(self) -> None:
        self.closed = True


class FakeBackend:
    """Loads ``FakeEngine``s of a given size; a load waits while ``gate`` is shut."""

    version = "0"

    def __init__(self, need_bytes: int = 10) -> None:
        self.need_bytes = need_bytes
        self.gate = threading.Event()
        self.gate.set()
        self.error: ApplianceError | None = None
        self.loads: list[FakeEngine] = []

    def check(self, spec: EngineSpec) -> None:
        pass

    def estimate(self, spec: EngineSpec) -> Need:
        return Need(weights_bytes=self.need_bytes)

    def load(self, spec: EngineSpec) -> FakeEngine:
        assert self.gate.wait(timeout=30)
        if self.error is not None:
            raise self.error
        engine = FakeEngine(spec.slots)
        self.loads.append(engine)
        return engine


def wanted(
    name: str, backend: FakeBackend, *, pinned: bool = False, slots: int = 2, tag: int = 0, high_priority: bool = False
) -> Wanted:
    """A deployment called ``name``; another ``tag`` means another spec."""
    spec = EngineSpec(
        model_type=ModelType.COMPLETION, weights=Path("/nowhere"), card=CARD, slots=slots, parameters={"tag": tag}
    )
    return Wanted(deployment_id=name, name=name, backend=backend, spec=spec, pinned=pinned, high_priority=high_priority)
