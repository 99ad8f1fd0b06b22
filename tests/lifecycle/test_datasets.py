"""Datasets in the store: kept once by digest, gone with the last that refers to them, never half made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from appliance.domain.errors import Busy, DiskFull, Forbidden, InUse, InvalidParameter, NotFound
from appliance.domain.finetuning import SchemaType
from appliance.domain.models import Account, Role
from appliance.domain.training import Hyperparameters, TrainingKind
from appliance.lifecycle.dataset_lines import LineLimits
from appliance.lifecycle.dataset_tokens import statistics_of
from appliance.lifecycle.datasets import Datasets
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.training_needs import HEADROOM, TrainingNeeds, TrainingSize, estimated_bytes
from appliance.registry.accounts import accounts
from appliance.registry.artifacts import artifacts
from appliance.registry.database import Database
from appliance.registry.finetuning import fine_tuning_jobs
from appliance.registry.migrations import REGISTRY
from appliance.store.importing import Store
from tests.lifecycle import things
from tests.registry import registry_samples as samples
from tests.support.fake_engine import FakeClock

LINE = json.dumps({"input": "a", "output": "b"}).encode() + b"\n"
LIMITS = LineLimits(dataset_bytes=10_000, lines=100, line_bytes=1000)
MINE, THEIRS = things.caller("mine"), things.caller("theirs")


class Home:
    """A registry, a store, and the service over both."""

    def __init__(self, folder: Path) -> None:
        self.free_bytes = 1 << 40
        self.clock = FakeClock()
        self.database = Database(folder / "registry.db", REGISTRY, check=False)
        for name in ("mine", "theirs"):
            account = Account(id=name, name=name, created_at=self.clock.now())
            self.database.run_sync(lambda db, account=account: accounts.insert(db, account))  # type: ignore[misc]
        self.store = Store(folder, self.clock, reserve_bytes=10, free_bytes=lambda _: self.free_bytes)
        self.datasets = Datasets(self.database, Directory(), self.store, LIMITS, 3, self.clock)

    @property
    def blobs(self) -> list[str]:
        return list(self.store.digests())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.database.close()


async def test_the_same_bytes_are_kept_once(home):
    """Two datasets, one blob, whoever they belong to; it goes with the last of them."""
    first = await home.datasets.create(MINE, "one", SchemaType.GENERATION, [LINE])
    second = await home.datasets.create(THEIRS, "two", SchemaType.GENERATION, [LINE[:5], LINE[5:]])
    assert home.blobs == [first.digest] == [second.digest]
    assert home.datasets.path(first).read_bytes() == LINE
    assert home.database.run_sync(artifacts.referenced_blobs) == {first.digest}
    await home.datasets.delete(MINE, first.id)
    assert home.blobs == [second.digest]
    await home.datasets.delete(THEIRS, second.id)
    assert home.blobs == []


async def test_what_is_refused_leaves_nothing(home):
    """Neither wrong lines, nor a full disk, nor one too many leave bytes behind."""
    with pytest.raises(InvalidParameter):
        await home.datasets.create(MINE, "bad", SchemaType.GENERATION, [LINE, b"{}"])
    home.free_bytes = 12
    with pytest.raises(DiskFull, match="disk_reserve_bytes"):
        await home.datasets.create(MINE, "full", SchemaType.GENERATION, [LINE])
    home.free_bytes = 1 << 40
    for number in range(3):
        await home.datasets.create(MINE, "x", SchemaType.GENERATION, [LINE * (number + 1)])
    with pytest.raises(Busy, match="dataset_limit"):
        await home.datasets.create(MINE, "x", SchemaType.GENERATION, [LINE * 9])
    assert len(home.blobs) == 3
    assert home.store.space().leftover_bytes == 0


async def test_accounts_are_apart(home):
    """Another's dataset is not found; admins see all, and may make one for any account."""
    made = await home.datasets.create(MINE, "one", SchemaType.GENERATION, [LINE])
    for work in (home.datasets.get, home.datasets.delete):
        with pytest.raises(NotFound):
            await work(THEIRS, made.id)
    assert await home.datasets.list(THEIRS) == []
    admin = structs.replace(THEIRS, role=Role.ADMIN)
    assert await home.datasets.list(admin) == [made]
    assert await home.datasets.list(admin, "theirs") == []
    with pytest.raises(Forbidden):
        await home.datasets.create(MINE, "x", SchemaType.GENERATION, [LINE], "theirs")


async def test_a_dataset_that_a_job_names_stays(home):
    """As training and as validation dataset; the refusal names the jobs."""
    training = await home.datasets.create(MINE, "one", SchemaType.GENERATION, [LINE])
    validation = await home.datasets.create(MINE, "two", SchemaType.GENERATION, [LINE * 2])
    job = structs.replace(
        samples.FINE_TUNING_JOB,
        account_id="mine",
        training_dataset_id=training.id,
        validation_dataset_id=validation.id,
    )
    home.database.run_sync(lambda db: fine_tuning_jobs.insert(db, job))
    for dataset in (training, validation):
        with pytest.raises(InUse, match=f"fine tuning job '{job.id}'"):
            await home.datasets.delete(MINE, dataset.id)
    assert len(home.blobs) == 2
    home.database.run_sync(lambda db: fine_tuning_jobs.delete(db, job.id))
    await home.datasets.delete(MINE, training.id)


def test_statistics():
    """Percentiles are those of examples that are there."""
    found = statistics_of(Counter([5, 1, 9, 3]), 4)
    assert (found.min_tokens, found.median_tokens, found.p95_tokens, found.max_tokens) == (1, 3, 9, 9)
    assert (found.examples, found.total_tokens, found.longer) == (4, 18, 2)
    assert statistics_of({7: 1}, 7).longer == 0


async def test_needs_learn_upwards(home):
    """What a training took is booked the next time, if it was more than the guess; another training's is not."""
    card = structs.replace(samples.ARTIFACT.card, parameter_count=10**9, embedding_length=512, layer_count=8)
    size = TrainingSize(
        kind=TrainingKind.GENERATION,
        base_digest="a",
        dataset_digest="b",
        hyperparameters=Hyperparameters(),
        device="cpu",
    )
    needs, guess = TrainingNeeds(home.database, home.clock), estimated_bytes(size, card)
    assert await needs.of(size, card) == guess
    await needs.learn(size, guess // 2)
    assert await needs.of(size, card) == guess
    await needs.learn(size, guess * 2)
    await needs.learn(size, guess)
    assert await needs.of(size, card) == int(guess * 2 * HEADROOM)
    longer = structs.replace(size, hyperparameters=Hyperparameters(epochs=99.0, seed=4))
    assert await needs.of(longer, card) == int(guess * 2 * HEADROOM), "neither epochs nor seed take memory"
    other = structs.replace(size, hyperparameters=Hyperparameters(rank=64))
    assert await needs.of(other, card) == estimated_bytes(other, card) > guess
