"""The node: everything that one process holds, put together, started and stopped in order.

Intent is in the registry, reality in memory: what should be resident is rebuilt here at every start. A crash loses
the requests in flight and nothing else.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO

from msgspec import structs

from appliance.config import Config
from appliance.domain.clock import Clock, SystemClock
from appliance.domain.errors import ApplianceError, Conflict, Internal
from appliance.domain.models import Artifact, Caller, Deployment, DeploymentStatus, LearnedNeed, Role
from appliance.engines.backends import all_backends
from appliance.engines.base import Backend
from appliance.engines.remote.backend import RemoteBackend
from appliance.hardware.devices import CPU_ID
from appliance.hardware.gpu import order_by_bus
from appliance.hardware.meter import PeakMeter
from appliance.hardware.probe import Probe
from appliance.lifecycle.answers import Answers
from appliance.lifecycle.artifacts import Artifacts
from appliance.lifecycle.async_tasks import AsyncTasks, TaskLimits
from appliance.lifecycle.background import Dialect
from appliance.lifecycle.batches import Batches, BatchLimits
from appliance.lifecycle.benchmarks import Benchmarks
from appliance.lifecycle.builtins import Builtins, starters_folder
from appliance.lifecycle.contents import Contents
from appliance.lifecycle.dataset_tokens import DatasetTokens
from appliance.lifecycle.datasets import Datasets
from appliance.lifecycle.deployments import Deployments, Statuses, not_made
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.execution import settle
from appliance.lifecycle.files import Files
from appliance.lifecycle.finetuning_parts import FineTuningParts, line_limits_of, options_of
from appliance.lifecycle.finetuning_result import Results
from appliance.lifecycle.groups import Groups
from appliance.lifecycle.importing import Importer
from appliance.lifecycle.inference import Inference
from appliance.lifecycle.jobs import ImportJobs
from appliance.lifecycle.keys import Keys
from appliance.lifecycle.model_servers import ModelServers
from appliance.lifecycle.models import Models
from appliance.lifecycle.patience import Patience
from appliance.lifecycle.promotion import Promotions
from appliance.lifecycle.quotas import Accepted, Quotas
from appliance.lifecycle.recipes import Recipes
from appliance.lifecycle.refresh import Refresher
from appliance.lifecycle.retention import Retention
from appliance.lifecycle.served_models import ServedModels
from appliance.lifecycle.templates import Templates
from appliance.lifecycle.training_process import TrainingProgram
from appliance.lifecycle.upstream_watch import UpstreamWatch
from appliance.lifecycle.upstreams import Upstreams
from appliance.lifecycle.usage import Counters, Reports
from appliance.registry.answers import ClaimingDatabase
from appliance.registry.calls import CallLog
from appliance.registry.deployments import loading_marks
from appliance.registry.migrations import REGISTRY
from appliance.registry.needs import needs
from appliance.registry.vault import Vault
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.canary import Watch
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.needs import Learned
from appliance.scheduler.policy import Rules
from appliance.scheduler.scheduler import Scheduler
from appliance.scheduler.turns import BackgroundLeases, RequestLeases, Turns
from appliance.store.files import FileStore
from appliance.store.importing import Store

log = logging.getLogger(__name__)

UPKEEP_SECONDS = 1.0
BUDGET_SHARE = 0.8
LEFTOVER_SECONDS = 7 * 86_400
"""How long an interrupted import can be continued."""


class Node:
    """One appliance in one process. Use ``start`` and ``close``; closing twice is fine."""

    def __init__(
        self,
        home: Path,
        config: Config,
        clock: Clock | None = None,
        training: TrainingProgram = TrainingProgram(),  # noqa: B008 - frozen
    ) -> None:
        self.home = home
        self.config = config
        self.clock = clock or SystemClock()
        self.started_at: datetime = self.clock.now()
        self._lock = _lock_home(home)
        self.backends: Mapping[str, Backend] = all_backends()
        self.directory = Directory()
        order_by_bus()
        self.probe = Probe()
        self.database = ClaimingDatabase(home / "registry.db", REGISTRY, "FULL")
        self.answers = Answers(self.database, self.clock)
        self.calls = CallLog(home / "calls.db")
        self.quotas = Quotas(self.directory, self.clock)
        self.counters = Counters(self.calls, self.quotas)
        self.retention = Retention(self.calls, config.call_retention_seconds, config.call_log_bytes, self.clock)
        self.usage = Reports(self.calls, self.directory)
        self.contents = Contents(config.call_content_bytes)
        self.store = Store(home, self.clock, reserve_bytes=config.disk_reserve_bytes)
        self.refresher = Refresher(self.database, self.directory)
        self.upstreams = Upstreams(self.database, self.directory, Vault(home), config.upstream_hosts, self.clock)
        remote = RemoteBackend(self.upstreams.key_of, config.upstream_hosts)
        self.recipes = Recipes(self.directory, self.backends, Artifacts.paths(self.store), remote)
        self.statuses = Statuses(self.database, self.directory, self.clock)
        budget_bytes = config.memory_budget_bytes
        ledger = Ledger(CPU_ID, self._default_budget_bytes() if budget_bytes is None else budget_bytes)
        self.scheduler = Scheduler(
            self.clock,
            ledger,
            idle_seconds=config.idle_seconds,
            queue_limit=config.queue_limit,
            rules=Rules(min_stay_seconds=config.min_stay_seconds, max_wait_seconds=config.max_wait_seconds),
            watch=Watch(
                every_seconds=config.canary_seconds,
                patience_seconds=config.canary_patience_seconds,
                step_seconds=config.stall_seconds,
                first_step_seconds=config.load_timeout_seconds,
                load_seconds=config.load_stall_seconds,
            ),
            hooks=self.statuses,
            meter=lambda: PeakMeter(self.probe.gpu_held_bytes),
            gpus=GpuBudgets(ledger, self.probe, config.gpu_reserve_bytes),
        )
        self.importer = Importer(self.database, self.store, self.clock)
        self.builtins = Builtins(self.database, self.importer, self.backends, self.clock, config.builtin_gpus)
        self.turns = Turns(self.scheduler, self.clock)
        self._make_services()
        self._make_background()
        self._make_finetuning(training)
        self._upkeep: asyncio.Task[None] | None = None
        self._closed = False

    def _make_services(self) -> None:
        database, directory, clock = self.database, self.directory, self.clock
        self.keys = Keys(database, directory, clock, self.refresher)
        self.templates = Templates(database, directory, clock)
        self.groups = Groups(database, directory, clock)
        self.models = Models(database, directory, self.recipes, clock)
        self.deployments = Deployments(database, directory, self.recipes, self.scheduler, self.statuses, clock)
        self.served_models = ServedModels(
            database, directory, self.models, self.deployments, self.recipes, self.scheduler
        )
        self.model_servers = ModelServers(database, directory, self.scheduler, clock)
        self.patience = Patience(self.deployments, directory, self.statuses)
        self.upstream_watch = UpstreamWatch(
            directory, self.recipes, self.scheduler, self.deployments, self.statuses, clock
        )
        self.benchmarks = Benchmarks(database, directory, self.recipes, self.scheduler, self.probe.machine, clock)
        self.imports = ImportJobs(database, self.importer, clock, self._imported)
        self.artifacts = Artifacts(database, directory, self.store, self.importer, clock)
        leases = RequestLeases(self.turns, self.config.load_timeout_seconds)
        self.inference = Inference(directory, leases, self.counters, clock, self.contents, self.quotas)
        self.task_inference = Inference(directory, leases, self.counters, clock, self.contents, Accepted(self.quotas))

    def _make_background(self) -> None:
        """What is accepted now and answered later; ``start_background`` begins it."""
        config, database, clock, turns = self.config, self.database, self.clock, self.turns
        files = FileStore(self.home / "files", reserve_bytes=config.disk_reserve_bytes)
        self.background_inference = Inference(
            self.directory, BackgroundLeases(turns), self.counters, clock, self.contents, self.quotas
        )
        task_limits = TaskLimits(
            kept=config.async_task_limit,
            body_bytes=config.async_task_bytes,
            retention_seconds=config.async_task_retention_seconds,
        )
        self.async_tasks = AsyncTasks(database, self.keys, turns.slots_of, task_limits, clock, admission=self.quotas)
        self.files = Files(database, files, config.file_limit, clock)
        batch_limits = BatchLimits(
            unfinished=config.batch_limit,
            lines=config.batch_lines,
            retention_seconds=config.batch_retention_seconds,
        )
        self.batches = Batches(database, files, self.keys, self._slots_of_named, batch_limits, clock)

    def _make_finetuning(self, training: TrainingProgram) -> None:
        database, directory, clock = self.database, self.directory, self.clock
        limits = line_limits_of(self.config)
        self.datasets = Datasets(database, directory, self.store, limits, self.config.dataset_limit, clock)
        self.dataset_tokens = DatasetTokens(self.datasets, directory, self.store)
        results = Results(database, directory, self.importer, self.models, self.store, self._imported)
        parts = FineTuningParts(database, directory, self.datasets, self.store, self.scheduler, training, clock)
        self.finetuning = parts.service(self.home / "training", options_of(self.config), results)
        self.promotions = Promotions(database, directory, self.finetuning, self.deployments, self.model_servers, clock)

    def _slots_of_named(self, caller: Caller, model: str) -> int:
        return self.turns.slots_of(self.inference.by_name(caller, model).deployment.id)

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the registry, make what is built in, and bring back what should be in memory."""
        await asyncio.to_thread(self.builtins.ensure, starters_folder())
        await self.refresher.load()
        self.refresher.on_change = self._reconcile
        self.scheduler.needs.recall([_recalled(row) for row in await self.database.run(needs.list)])
        await self.benchmarks.load()
        await self.imports.load()
        await self.quotas.load(self.calls)
        await asyncio.to_thread(self.store.clean_incoming, LEFTOVER_SECONDS)
        await self._condemn_marked()
        await self._reconcile()
        self._upkeep = asyncio.create_task(self._keep_up())

    async def start_background(self, executions: Dialect, batch_lines: Dialect) -> None:
        """Answer stored requests, first those that an earlier process left. The dialects read and answer them."""
        await self.async_tasks.start(executions)
        await self.batches.start(batch_lines)
        await self.finetuning.start()

    async def close(self) -> None:
        """Stop serving, unload, commit what is under way, and close the files."""
        if self._closed:
            return
        self._closed = True
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await self.finetuning.close()
        await self.batches.close()
        await self.async_tasks.close()
        await self.upstream_watch.close()
        await self.imports.close()
        await self.patience.close()
        await self.model_servers.close()
        await self.deployments.close()
        await self.scheduler.close()
        await settle()
        await asyncio.to_thread(self.calls.close)
        await asyncio.to_thread(self.database.close)
        self.probe.close()
        self._lock.close()

    async def _keep_up(self) -> None:
        """Once a second: unload who is idle, and see what the command line has changed."""
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            try:
                self.upstream_watch.look()
                self.scheduler.sweep()
                self.turns.sweep()
                for deployment_id in self.scheduler.missing_pinned():
                    self.deployments.warm(deployment_id)
                await self.refresher.refresh_if_changed()
                await self.async_tasks.sweep()
                await self.batches.sweep()
                await self.retention.sweep()
                await self.answers.sweep()
            except Exception:
                log.exception("upkeep failed; it is tried again in %.0f s", UPKEEP_SECONDS)

    async def _condemn_marked(self) -> None:
        """A loading mark found at start: that load took the process down. FAILED instead of a crash loop; if it was the
        load of a change, the change is condemned and not the engine that served."""
        for mark in await self.database.run(loading_marks.list):
            ended = f"ended the server on {mark.started_at:%Y-%m-%d %H:%M} UTC"
            if mark.for_change:
                reason = not_made(f"loading the new engine {ended}")
                await self.statuses.set(mark.deployment_id, DeploymentStatus.READY, reason)
            else:
                reason = f"loading it {ended}; change its parameters or weights, or restart the appliance, to try again"
                await self.statuses.set(mark.deployment_id, DeploymentStatus.FAILED, reason)
                self.scheduler.fail(mark.deployment_id, Internal(reason))
            await self.database.run(lambda db, mark=mark: loading_marks.clear(db, mark.deployment_id))  # type: ignore[misc]

    async def _reconcile(self) -> None:
        """Make the scheduler know every deployment of the directory, and forget those that are gone."""
        for deployment in list(self.directory.deployments.values()):
            if not self.scheduler.knows(deployment.id):
                await self._bring_back(deployment)
        for deployment_id in self.scheduler.known() - set(self.directory.deployments):
            self.scheduler.forget(deployment_id)

    async def _bring_back(self, deployment: Deployment) -> None:
        condemned = self.scheduler.failure_of(deployment.id)
        try:
            wanted = self.recipes.wanted(deployment, self.directory.models[deployment.model_id])
        except ApplianceError as error:
            await self.statuses.set(deployment.id, DeploymentStatus.FAILED, error.message)
            return
        self.scheduler.want(wanted)
        if condemned is not None:
            self.scheduler.fail(deployment.id, condemned.error)
        elif wanted.pinned or deployment.status is not DeploymentStatus.READY:
            self.deployments.warm(deployment.id)

    async def _imported(self, artifact: Artifact) -> None:
        """A new artifact: make its built-in models callable."""
        await asyncio.to_thread(self.builtins.adopt, artifact)
        await self.refresher.load()
        await self._reconcile()

    async def delete_artifact(self, caller: Caller, name: str) -> None:
        """Remove an artifact; built-in models that stood on it are no longer callable."""
        await self.artifacts.delete(caller, name)
        await self.refresher.load()
        await self._reconcile()

    # --- questions -----------------------------------------------------------------------------------------------

    def not_ready_reasons(self) -> list[str]:
        """Why the node is not ready: each pinned deployment that cannot answer yet."""
        reasons = []
        for deployment in self.directory.deployments.values():
            if not self.scheduler.is_pinned(deployment.id) or self.scheduler.is_resident(deployment.id):
                continue
            why = f": {deployment.status_reason}" if deployment.status_reason else ""
            reasons.append(f"pinned deployment '{deployment.name}' is {deployment.status.value}{why}")
        if self._upkeep is None:
            reasons.append("the node is starting")
        return reasons

    def callable_deployments(self, caller: Caller) -> list[Deployment]:
        """Everything this caller may call by name: built-ins first, then its account's deployments."""
        visible = self.directory.visible(structs.replace(caller, role=Role.MEMBER), self.directory.deployments.values())
        allowed = [deployment for deployment in visible if self.quotas.allows(caller, deployment)]
        return sorted(allowed, key=lambda d: (not d.built_in, d.name))

    def import_roots(self) -> list[Path]:
        """Folders that imports over HTTP may read."""
        return [self.home / "import", *(Path(root) for root in self.config.import_roots)]

    def _default_budget_bytes(self) -> int:
        return int(self.probe.ram().total_bytes * BUDGET_SHARE)


def _lock_home(home: Path) -> IO[str]:
    """One server per home: two would fight over the registry and the memory. Raises Conflict."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / "import").mkdir(exist_ok=True, mode=0o700)
    handle = (home / "server.lock").open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise Conflict(f"another server (process {holder}) runs on {home}; stop it, or choose another --home") from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def _recalled(record: LearnedNeed) -> Learned:
    return Learned(id=record.id, peak_bytes=record.peak_bytes, loads=record.loads)
