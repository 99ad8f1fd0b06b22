"""Fine-tuning over a real registry, store and scheduler, without a server: what it trains with is the stand-in.

Doubles: the GPUs (numbers), the disk's free bytes, the clock, the pause before another look, and what becomes of a
result. The training process is a real process, started and told as the server does it.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance.domain.errors import DiskFull
from appliance.domain.finetuning import FineTuningEvent, FineTuningJob, SchemaType
from appliance.domain.models import Account, Artifact, ArtifactFile, Model
from appliance.domain.training import TASK_FILE, TrainingEnded, TrainingTask
from appliance.lifecycle.dataset_lines import LineLimits
from appliance.lifecycle.datasets import Datasets
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.finetuning import FineTuning
from appliance.lifecycle.finetuning_attempt import Attempts, Live, TrainingOptions
from appliance.lifecycle.finetuning_line import FineTuningLine
from appliance.lifecycle.training_needs import TrainingNeeds
from appliance.lifecycle.training_process import TrainingProgram
from appliance.registry.accounts import accounts
from appliance.registry.database import Database
from appliance.registry.finetuning import fine_tuning_events, fine_tuning_jobs
from appliance.registry.migrations import REGISTRY
from appliance.registry.models import models
from appliance.registry.templates import templates
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.policy import Rules
from appliance.scheduler.scheduler import Scheduler
from appliance.store.importing import Store
from appliance.store.inspection import inspect
from appliance.wire.sgp_training import FineTuningConfiguration, FineTuningJobCreate
from tests.lifecycle import things
from tests.support.fake_engine import FakeClock, FakeMeter
from tests.support.fake_gpus import FakeGpus
from tests.support.stand_in_training import MODULE, Orders
from tests.support.tiny_models import write_llama

MIB, GIB = 1024**2, 1024**3
RESERVE_BYTES = GIB
RAM_BYTES = 8 * GIB
CALLER = things.caller("mine")
LINES = [b'{"input": "a", "output": "b"}\n'] * 100
STEPS = 12
"""Of 90 examples, eight at once."""
LIMITS = LineLimits(dataset_bytes=1 << 20, lines=1000, line_bytes=1000)


class KeptResults:
    """Stands for the registration of results: keeps them, or says that the disk is full."""

    def __init__(self) -> None:
        self.kept: list[TrainingEnded] = []
        self.full_disk = False

    async def register(self, job: FineTuningJob, result: TrainingEnded, output: Path) -> Model:
        if self.full_disk:
            raise DiskFull("the import needs 2.0 GiB, 1.5 GiB are free in the store")
        assert all((output / name).is_file() for name in result.files)
        self.kept.append(result)
        return things.model("made")


class TrainingHome:
    """An account with a model over tiny weights and a dataset, and the service over them."""

    def __init__(self, home: Path, fakes: FakeGpus, **options: Any) -> None:
        self.home = home
        self.clock = FakeClock()
        self.free: Callable[[], int] = lambda: 100 * GIB
        """Bytes of the disk."""
        self.database = Database(home / "registry.db", REGISTRY, check=False)
        self.store = Store(home, self.clock, reserve_bytes=0)
        self.directory = Directory()
        ledger = Ledger("cpu", RAM_BYTES)
        self.scheduler = Scheduler(
            self.clock,
            ledger,
            idle_seconds=600,
            queue_limit=2,
            rules=Rules(min_stay_seconds=0, max_wait_seconds=30),
            meter=FakeMeter,
            gpus=GpuBudgets(ledger, fakes),
        )
        self.results = KeptResults()
        self._looks = asyncio.Event()
        self._make(options)
        self._furnish()

    def _make(self, options: dict[str, Any]) -> None:
        chosen = TrainingOptions(
            **{
                "threads": 1,
                "gpus": 0,
                "gives_way": True,
                "stay_seconds": 0.0,
                "pause_seconds": 60.0,
                "close_seconds": 20.0,
                "reserve_bytes": RESERVE_BYTES,
                "at_once": 1,
                "most_unfinished": 10,
                **options,
            }
        )
        program = TrainingProgram(command=(sys.executable, "-m", MODULE), modules=())
        self.datasets = Datasets(self.database, self.directory, self.store, LIMITS, 10, self.clock)
        self.attempts = Attempts(
            self.database,
            self.store,
            self.scheduler,
            TrainingNeeds(self.database, self.clock),
            program,
            chosen,
            self.home / "training",
            self.clock,
            self.directory.artifact,
            free_bytes=lambda _: self.free(),
        )
        self.line = FineTuningLine(
            self.database,
            self.attempts,
            self.results,  # type: ignore[arg-type]
            chosen,
            self.clock,
            pause=self._pause,
        )
        self.service = FineTuning(
            self.database,
            self.directory,
            self.datasets,
            self.attempts,
            self.line,
            self.scheduler.placer,
            program,
            chosen,
            self.clock,
        )

    def _furnish(self) -> None:
        template = things.template()
        base = things.model("base", model_template_id=template.id, creation_parameters={"weights": "tiny"})
        account = Account(id="mine", name="mine", created_at=self.clock.now())

        def work(db: Any) -> None:
            accounts.insert(db, account)
            templates.insert(db, template)
            models.insert(db, base)

        self.database.run_sync(work)
        self.directory.templates[template.id] = template
        self.directory.models[base.id] = base
        self.directory.artifacts["tiny"] = self._weights()

    def _weights(self) -> Artifact:
        file = write_llama(self.home / "tiny.gguf")
        contents = file.read_bytes()
        with self.store.written([contents]) as partial:
            self.store.keep(partial)
        digest = hashlib.sha256(contents).hexdigest()
        return Artifact(
            id="tiny",
            name="tiny",
            digest=digest,
            files=(ArtifactFile(name="tiny.gguf", digest=digest, size_bytes=len(contents)),),
            size_bytes=len(contents),
            card=inspect({"tiny.gguf": file}),
            created_at=self.clock.now(),
            created_by_user_id="u",
        )

    # --- what a test does ----------------------------------------------------------------------------------------

    def tell(self, orders: Orders) -> None:
        """What training processes do from now on."""
        self.go.unlink(missing_ok=True)
        (self.home / "stand-in.json").write_bytes(msgspec.json.encode(orders))

    @property
    def go(self) -> Path:
        """Lets a training go on that holds."""
        return self.home / "stand-in.go"

    async def order(self, **hyperparameters: Any) -> FineTuningJob:
        """A job over the base, of one epoch."""
        dataset = await self.datasets.create(CALLER, "examples", SchemaType.GENERATION, LINES)
        configuration = FineTuningConfiguration(hyperparameters={"epochs": 1, **hyperparameters})
        body = FineTuningJobCreate(
            training_dataset_id=dataset.id, base_model_id="base", vendor_configuration=configuration
        )
        return await self.service.create(CALLER, body)

    def look_again(self) -> None:
        """The pause is over."""
        self._looks.set()

    async def _pause(self, seconds: float) -> None:
        await self._looks.wait()
        self._looks.clear()

    async def later(self, seconds: float) -> None:
        """So much time passes, and the scheduler's upkeep comes by."""
        self.clock.seconds += seconds
        self.scheduler.sweep()
        await asyncio.sleep(0)

    async def until(self, job: FineTuningJob, **fields: Any) -> FineTuningJob:
        """The job as it is stored, once its fields are so; bounded by the test's own timeout."""
        while True:
            found = self.job(job)
            if all(getattr(found, name) == value for name, value in fields.items()):
                return found
            assert not found.is_final, found
            await asyncio.sleep(0.005)

    # --- what it sees --------------------------------------------------------------------------------------------

    def job(self, job: FineTuningJob) -> FineTuningJob:
        """As it is stored."""
        return self.database.run_sync(lambda db: fine_tuning_jobs.get(db, job.id))

    def events(self, job: FineTuningJob) -> list[FineTuningEvent]:
        """What it has reported."""
        return self.database.run_sync(lambda db: fine_tuning_events.of_job(db, job.id))

    def live(self, job: FineTuningJob) -> Live:
        """The job that runs, in memory."""
        return self.line._live[job.id]

    def task(self, job: FineTuningJob) -> TrainingTask:
        """What its process was told."""
        told = (self.home / "training" / job.id / TASK_FILE).read_bytes()
        task: TrainingTask = msgspec.json.decode(told, type=TrainingTask)
        return task

    def environment(self, job: FineTuningJob) -> dict[str, str]:
        """What its process was given."""
        process = self.live(job).process
        assert process is not None
        given = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
        return dict(entry.split("=", 1) for entry in given if entry)

    def booked(self) -> dict[str, int]:
        """Bytes by device."""
        ledger = self.scheduler.ledger
        return {device: bytes_ for device in ledger.budgets if (bytes_ := ledger.reserved_on(device))}

    async def close(self) -> None:
        """End it as a server does."""
        await self.service.close()
        await self.scheduler.close()
        self.database.close()


async def eventually(condition: Callable[[], object]) -> None:
    """Let the loop and the processes run until it holds; bounded by the test's own timeout."""
    while not condition():
        await asyncio.sleep(0.005)
