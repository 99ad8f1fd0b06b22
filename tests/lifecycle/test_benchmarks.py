"""What a kept benchmark says: how long a typical request takes, and whether the figures still hold."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from appliance.domain.clock import SystemClock
from appliance.domain.models import Benchmark, BenchmarkPoint
from appliance.lifecycle.benchmarks import Benchmarks, load_times_of, speed_of, why_stale
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.recipes import Recipes
from appliance.registry.benchmarks import benchmarks as rows
from appliance.registry.database import Database
from appliance.registry.deployments import deployments
from appliance.registry.migrations import REGISTRY
from appliance.scheduler.load_watch import LoadTime, LoadTimes
from appliance.scheduler.needs import key_of
from appliance.scheduler.pace import FIRST_GUESS_SECONDS, Speeds
from appliance.scheduler.scheduler import Scheduler
from tests.lifecycle.things import NOW
from tests.registry import registry_samples as samples
from tests.support.fake_engine import FakeBackend, wanted

MACHINE = "AMD EPYC 9354, 2 cores, 8 GiB"


def point(clients: int = 1, prompt_tokens: int = 512, **rates: float) -> BenchmarkPoint:
    return BenchmarkPoint(clients=clients, requests=clients, prompt_tokens=prompt_tokens, **rates)


def text(clients: int, prompt_tokens: int, prompt_rate: float, answer_rate: float) -> BenchmarkPoint:
    rates = {"prompt_tokens_per_second": prompt_rate, "response_tokens_per_second": answer_rate}
    return point(clients, prompt_tokens, **rates)


def kept(*points: BenchmarkPoint, **fields: Any) -> Benchmark:
    asked = wanted("a", FakeBackend())
    return replace(
        Benchmark(
            id="b",
            deployment_id="a",
            deployment_name="a",
            kind=key_of(asked),
            weights=asked.spec.weights.name,
            parameters=asked.spec.parameters,
            slots=asked.spec.slots,
            engine_version=FakeBackend.version,
            device="cpu",
            machine=MACHINE,
            appliance_version="0.1.0",
            load_seconds=1.0,
            points=list(points),
            measured_at=NOW,
        ),
        **fields,
    )


@pytest.mark.parametrize(
    ("points", "seconds"),
    [
        ([text(1, 512, 512.0, 128.0)], 2.0),
        ([text(1, 512, 1.0, 1.0), text(4, 512, 1024.0, 256.0)], 1.0),
        ([text(4, 128, 1.0, 1.0), text(4, 500, 256.0, 128.0), text(4, 2048, 1.0, 1.0)], 3.0),
        ([text(1, 512, 512.0, 128.0), point(4, prompt_tokens_per_second=100.0)], 2.0),
        ([point(2, texts_per_second=32.0, prompt_tokens_per_second=4096.0)], 0.5),
        ([point(4, prompt_tokens_per_second=100.0)], None),
        ([], None),
    ],
    ids=["one", "most-clients", "nearest-prompt", "the-whole-of-a-request", "texts", "answers-unknown", "nothing"],
)
def test_seconds_of_a_typical_request(points: list[BenchmarkPoint], seconds: float | None) -> None:
    """512 tokens of prompt and 128 of answer, or 16 texts, at the rates of the most clients."""
    speed = speed_of(kept(*points))
    assert (speed.seconds_per_request if speed else None) == seconds


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"engine_version": "0.3.35"}, ("engine version 0.3.35", "now it is 0")),
        ({"device": "gpu0"}, ("gpu0", "cpu")),
        ({"machine": "another"}, ("another machine (another)",)),
        ({"weights": "f" * 64}, ("other weights",)),
        ({"slots": 7}, ("7 slots", "now it has 2")),
        ({"parameters": {"tag": 3}}, ("tag 3", "now it is 0")),
        ({"parameters": {"tag": 0, "threads": 2}}, ("threads 2", "now it is unset")),
        ({"kind": "other"}, ("another adapter",)),
    ],
)
def test_a_stale_result_says_why(fields: dict[str, Any], words: tuple[str, ...]) -> None:
    """Whatever decides the speed and has changed since is named, with what it was and what it is."""
    asked = wanted("a", FakeBackend())
    why = why_stale(kept(**fields), asked, "cpu", MACHINE)
    assert why is not None
    assert all(word in why for word in words)


def test_a_result_holds_while_nothing_changes() -> None:
    """The same engine on the same machine: the figures hold."""
    assert why_stale(kept(), wanted("a", FakeBackend()), "cpu", MACHINE) is None


def test_how_long_loads_took_on_this_machine() -> None:
    """By engine and device, so that after a restart a load has the patience that it had before; not what another
    machine took, from which the home was carried."""
    here, there = kept(load_seconds=40.0), kept(load_seconds=900.0, machine="another")
    on_gpu = kept(load_seconds=7.0, device="gpu0")
    assert load_times_of([here, there, on_gpu], MACHINE) == [
        LoadTime(kind=here.kind, device="cpu", seconds=40.0),
        LoadTime(kind=here.kind, device="gpu0", seconds=7.0),
    ]


async def test_another_machines_pace_is_no_guess(tmp_path: Path) -> None:
    """A Retry-After is not computed from what the machine took from which the home was carried."""
    speeds = Speeds()
    scheduler = cast("Scheduler", SimpleNamespace(speeds=speeds, load_times=LoadTimes()))
    here = kept(text(1, 512, 512.0, 128.0), deployment_id=samples.DEPLOYMENT.id)
    with Database(tmp_path / "registry.db", REGISTRY) as database:
        database.run_sync(samples.add_model)
        database.run_sync(lambda db: deployments.insert(db, samples.DEPLOYMENT))
        parts = Directory(), cast("Recipes", None), scheduler
        benchmarks = Benchmarks(database, *parts, lambda: MACHINE, SystemClock())
        database.run_sync(lambda db: rows.insert(db, replace(here, machine="another")))
        await benchmarks.load()
        assert speeds.seconds_held(here.kind, "cpu", 1) == FIRST_GUESS_SECONDS
        database.run_sync(lambda db: rows.insert(db, replace(here, id="c")))
        await benchmarks.load()
        assert speeds.seconds_held(here.kind, "cpu", 1) == 2.0
