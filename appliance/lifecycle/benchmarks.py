"""Benchmarks: what clients measured of engines on this machine, kept with all that the figures depend on.

The server measures no speed itself: a client drives the routes that everybody uses and hands in what it saw. What
stood behind the figures (engine, slots, context, load, machine) is read here, from the engine that was measured. A kept
result is the scheduler's first guess for Retry-After, and says by itself when it no longer holds.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence

import msgspec

import appliance
from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, Conflict
from appliance.domain.ids import new_id
from appliance.domain.models import Benchmark, BenchmarkPoint, Caller
from appliance.engines.base import Engine, TextEngine
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.recipes import Recipes
from appliance.registry.benchmarks import benchmarks as rows
from appliance.registry.database import Database
from appliance.scheduler.load_watch import LoadTime
from appliance.scheduler.needs import key_of
from appliance.scheduler.pace import TYPICAL_PROMPT_TOKENS, TYPICAL_RESPONSE_TOKENS, TYPICAL_TEXTS, Speed
from appliance.scheduler.resident import Resident, Wanted
from appliance.scheduler.scheduler import Scheduler
from appliance.wire import admin


class Benchmarks:
    """The service over HTTP. ``machine`` names the hardware."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        recipes: Recipes,
        scheduler: Scheduler,
        machine: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._database = database
        self._directory = directory
        self._recipes = recipes
        self._scheduler = scheduler
        self._machine = machine
        self._clock = clock
        self._kept: list[Benchmark] = []

    async def load(self) -> None:
        """Read what was kept, and let the scheduler guess from it; also how long loads took on this machine."""
        found = await self._database.run(rows.list)
        self._kept = sorted(found, key=lambda benchmark: benchmark.measured_at)
        here = [kept for kept in self._kept if kept.machine == self._machine()]
        speeds = [speed for kept in here if (speed := speed_of(kept)) is not None]
        self._scheduler.speeds.recall(sorted(speeds, key=lambda speed: speed.clients))
        self._scheduler.load_times.recall(load_times_of(here, self._machine()))

    def list(self, caller: Caller) -> Sequence[tuple[Benchmark, str | None]]:
        """Kept results, oldest first, each with what has changed since; None while its figures hold."""
        visible = {d.id for d in self._directory.visible(caller, self._directory.deployments.values())}
        return [(kept, self._why_stale(kept)) for kept in self._kept if kept.deployment_id in visible]

    async def keep(self, caller: Caller, body: admin.BenchmarkCreate) -> Benchmark:
        """Keep a result of the engine that serves the deployment now.

        Raises NotFound; Conflict when another engine than the measured one is in memory, or none.
        """
        deployment = self._directory.get(caller, self._directory.deployments, body.deployment_id, "model deployment")
        resident = self._scheduler.serving(deployment.id)
        if resident is None or resident.loaded_at != body.loaded_at:
            raise Conflict(
                f"the engine of '{deployment.name}' that was measured is no longer in memory; measure it again"
            )
        points = msgspec.convert(msgspec.to_builtins(body.points), list[BenchmarkPoint])
        made = self._record(resident, points)
        await self._database.run(lambda db: rows.insert(db, made))
        await self.load()
        return made

    def _record(self, resident: Resident, points: builtins.list[BenchmarkPoint]) -> Benchmark:
        wanted, engine = resident.wanted, resident.engine
        assert engine is not None, "a serving resident has an engine"
        return Benchmark(
            id=new_id(),
            deployment_id=wanted.deployment_id,
            deployment_name=wanted.name,
            kind=key_of(wanted),
            weights=wanted.spec.weights.name,
            parameters=wanted.spec.parameters,
            slots=engine.slots,
            context_length_tokens=context_length_tokens(engine),
            engine_version=wanted.backend.version,
            device=engine.device,
            machine=self._machine(),
            appliance_version=appliance.__version__,
            load_seconds=resident.load_took_seconds,
            points=points,
            measured_at=self._clock.now(),
        )

    def _why_stale(self, kept: Benchmark) -> str | None:
        deployment = self._directory.deployments[kept.deployment_id]
        try:
            wanted = self._recipes.wanted(deployment, self._directory.models[deployment.model_id])
        except ApplianceError as error:
            return f"the deployment cannot be loaded: {error.message}"
        resident = self._scheduler.serving(deployment.id)
        device = resident.engine.device if resident is not None and resident.engine is not None else kept.device
        return why_stale(kept, wanted, device, self._machine())


def why_stale(kept: Benchmark, wanted: Wanted, device: str, machine: str) -> str | None:
    """What differs between the engine that was measured and the one that would serve now; None for nothing."""
    spec = wanted.spec
    if kept.engine_version != wanted.backend.version:
        return f"measured with engine version {kept.engine_version}, now it is {wanted.backend.version}"
    if kept.device != device:
        return f"measured on {kept.device}, now it runs on {device}"
    if kept.machine != machine:
        return f"measured on another machine ({kept.machine})"
    if kept.weights != spec.weights.name:
        return "measured with other weights"
    if kept.slots != spec.slots:
        return f"measured with {kept.slots} slots, now it has {spec.slots}"
    for name in sorted(kept.parameters.keys() | spec.parameters.keys()):
        before, now = kept.parameters.get(name, "unset"), spec.parameters.get(name, "unset")
        if before != now:
            return f"measured with {name} {before}, now it is {now}"
    return None if kept.kind == key_of(wanted) else "measured with another adapter or for another model type"


def context_length_tokens(engine: Engine | None) -> int | None:
    """Tokens that one request may use, where something is generated."""
    return engine.context_length_tokens if isinstance(engine, TextEngine) else None


def speed_of(kept: Benchmark) -> Speed | None:
    """What the scheduler may guess from a result; None when it says nothing about a typical request.

    The figures count that were taken with the most clients, for the prompts nearest to a typical one.
    """
    for point in sorted(
        kept.points, key=lambda point: (-point.clients, abs(point.prompt_tokens - TYPICAL_PROMPT_TOKENS))
    ):
        seconds = _seconds_per_request(point)
        if seconds is not None:
            return Speed(kind=kept.kind, device=kept.device, clients=point.clients, seconds_per_request=seconds)
    return None


def load_times_of(kept: Sequence[Benchmark], machine: str) -> builtins.list[LoadTime]:
    """What the loads of the engines took that were measured on this machine; another's disk says nothing here."""
    here = [each for each in kept if each.machine == machine]
    return [LoadTime(kind=each.kind, device=each.device, seconds=each.load_seconds) for each in here]


def _seconds_per_request(point: BenchmarkPoint) -> float | None:
    if point.texts_per_second:
        return TYPICAL_TEXTS / point.texts_per_second
    if point.prompt_tokens_per_second and point.response_tokens_per_second:
        return (
            TYPICAL_PROMPT_TOKENS / point.prompt_tokens_per_second
            + TYPICAL_RESPONSE_TOKENS / point.response_tokens_per_second
        )
    return None
