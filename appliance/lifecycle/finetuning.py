"""Fine-tuning jobs as callers order, follow and end them. What runs is in ``finetuning_line``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlite_utils
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import Busy, InUse, InvalidParameter, NameTaken, NotFound, Unsupported
from appliance.domain.finetuning import FineTuningEvent, FineTuningJob
from appliance.domain.ids import new_id
from appliance.domain.models import Artifact, Caller, Model
from appliance.domain.training import TrainingKind
from appliance.lifecycle import hyperparameters
from appliance.lifecycle.datasets import Datasets
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.finetuning_attempt import Attempts, TrainingOptions
from appliance.lifecycle.finetuning_line import FineTuningLine
from appliance.lifecycle.trainable import check_schema, kind_of, weights_of
from appliance.lifecycle.training_needs import TrainingSize
from appliance.lifecycle.training_process import TrainingProgram
from appliance.registry.database import Database
from appliance.registry.finetuning import fine_tuning_events as event_rows
from appliance.registry.finetuning import fine_tuning_jobs as rows
from appliance.registry.models import models
from appliance.scheduler.placer import Placer
from appliance.wire.limits import MAX_NAME_LENGTH
from appliance.wire.sgp_training import FineTuningConfiguration, FineTuningJobCreate

ELSEWHERE = "OPENAI"


class _Order(Struct, frozen=True, kw_only=True):
    """What was found out about a job before it is stored."""

    base: Model
    weights: Artifact
    kind: TrainingKind
    chosen: dict[str, Any]


class FineTuning:
    """The service over HTTP. Every method raises NotInstalled where nothing can be trained."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        datasets: Datasets,
        attempts: Attempts,
        line: FineTuningLine,
        placer: Placer,
        program: TrainingProgram,
        options: TrainingOptions,
        clock: Clock,
    ) -> None:
        self._database = database
        self._directory = directory
        self._datasets = datasets
        self._attempts = attempts
        self._line = line
        self._placer = placer
        self._program = program
        self._options = options
        self._clock = clock

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Go on with what an earlier process left; where nothing can be trained, it waits until that is installed."""
        if self._program.is_installed:
            await self._line.start()

    async def close(self) -> None:
        """Stop what runs; it goes on after the next start."""
        await self._line.close()

    # --- questions -----------------------------------------------------------------------------------------------

    async def list(self, caller: Caller, account_id: str | None = None) -> Sequence[FineTuningJob]:
        """Jobs the caller may see, oldest first."""
        self._program.check_installed()
        found = await self._database.run(rows.list)
        return [
            job for job in found if self._may_see(caller, job) and (account_id is None or job.account_id == account_id)
        ]

    async def get(self, caller: Caller, job_id: str) -> FineTuningJob:
        """One job. Raises NotFound."""
        self._program.check_installed()
        found = await self._database.run(lambda db: rows.one(db, {"id": job_id}))
        if found is None or not self._may_see(caller, found):
            raise NotFound(f"no fine-tuning job with the id '{job_id[:64]}' in this account")
        return found

    async def events(self, caller: Caller, job_id: str) -> Sequence[FineTuningEvent]:
        """What a job has reported, oldest first. Raises NotFound."""
        job = await self.get(caller, job_id)
        return await self._database.run(lambda db: event_rows.of_job(db, job.id))

    @staticmethod
    def _may_see(caller: Caller, job: FineTuningJob) -> bool:
        return caller.is_admin or job.account_id == caller.account_id

    # --- changes -------------------------------------------------------------------------------------------------

    async def create(self, caller: Caller, body: FineTuningJobCreate) -> FineTuningJob:
        """Order a training.

        Raises InvalidRequest for a base that cannot be trained and for one too large for this machine, InvalidParameter
        (hyperparameters, datasets), NotFound, NameTaken, DiskFull, Busy when the account has too many.
        """
        self._program.check_installed()
        account_id = self._directory.account_for(caller, body.account_id)
        order = self._order(caller, body)
        await self._check_datasets(caller, order, body)
        job = self._job(caller, account_id, body, order)
        self._check_result(caller, job, order)
        await asyncio.to_thread(self._attempts.check_disk)

        def work(db: sqlite_utils.Database) -> None:
            unfinished = [each for each in rows.unfinished(db) if each.account_id == account_id]
            if len(unfinished) >= self._options.most_unfinished:
                raise Busy(
                    f"this account has {len(unfinished)} fine-tuning jobs that have not ended, and may have "
                    f"{self._options.most_unfinished} (finetuning_limit); delete one, or come back later",
                    retry_after_seconds=60,
                )
            if any(each.result_name == job.result_name for each in unfinished):
                raise NameTaken(f"another job makes a model named '{job.result_name}'; choose another suffix")
            for model_id in filter(None, (job.base_model_id, job.fine_tuned_model_id)):
                models.get(db, model_id)  # it may have been deleted since it was looked up
            rows.insert(db, job)

        await self._database.run(work)
        self._line.take(job)
        return job

    async def delete(self, caller: Caller, job_id: str) -> None:
        """Cancel a job that has not ended; remove one that has. Raises NotFound, Conflict.

        The model that came of it stays, and so does whatever was moved to it.
        """
        job = await self.get(caller, job_id)
        if self._line.knows(job.id):
            await self._line.cancel(job.id)
            return
        await self._database.run(lambda db: rows.delete(db, job.id))

    # --- what is ordered -----------------------------------------------------------------------------------------

    def _order(self, caller: Caller, body: FineTuningJobCreate) -> _Order:
        if body.base_model_id is None:
            raise InvalidParameter("base_model_id is required", errors=[(("base_model_id",), "missing")])
        base = self._directory.get(caller, self._directory.models, body.base_model_id, "model")
        configuration = body.vendor_configuration or FineTuningConfiguration()
        _refuse_elsewhere(configuration)
        kind = kind_of(self._directory, base)
        chosen = hyperparameters.check(configuration.hyperparameters)
        weights = weights_of(self._directory, base)
        hyperparameters.check_kind(kind, chosen)
        hyperparameters.check_precision(chosen, base.name, weights.card.architecture)
        if kind is TrainingKind.GENERATION:
            hyperparameters.check_targets(chosen, base.name, weights.card.architecture)
        return _Order(base=base, weights=weights, kind=kind, chosen=chosen)

    async def _check_datasets(self, caller: Caller, order: _Order, body: FineTuningJobCreate) -> None:
        training = await self._datasets.get(caller, body.training_dataset_id)
        check_schema(order.kind, training.schema_type, "training_dataset_id")
        if body.validation_dataset_id is not None:
            validation = await self._datasets.get(caller, body.validation_dataset_id)
            check_schema(order.kind, validation.schema_type, "validation_dataset_id")
        size = TrainingSize(
            kind=order.kind,
            base_digest=order.weights.digest,
            dataset_digest=training.digest,
            hyperparameters=hyperparameters.complete(order.chosen),
            device="gpu" if self._options.gpus else "cpu",
        )
        needed_bytes = await self._attempts.needs.of(size, order.weights.card)
        work = self._attempts.work(order.base.name, needed_bytes)
        self._placer.check_gpus(work)
        self._placer.check_possible(work)
        hyperparameters.check_length(order.chosen, order.base.name, order.weights.card.context_length_tokens)

    def _job(self, caller: Caller, account_id: str, body: FineTuningJobCreate, order: _Order) -> FineTuningJob:
        job_id, configuration = new_id(), body.vendor_configuration
        suffix = (configuration.suffix if configuration is not None else None) or job_id[:8]
        return FineTuningJob(
            id=job_id,
            account_id=account_id,
            key_id=caller.key_id,
            kind=order.kind,
            base_model_id=order.base.id,
            base_artifact=order.weights.name,
            base_digest=order.weights.digest,
            training_dataset_id=body.training_dataset_id,
            validation_dataset_id=body.validation_dataset_id,
            fine_tuned_model_id=body.fine_tuned_model_id,
            result_name=f"{order.base.name[: MAX_NAME_LENGTH - 1 - len(suffix)]}-{suffix}",
            vendor_configuration=_shown(configuration),
            hyperparameters=order.chosen,
            created_at=self._clock.now(),
            created_by_user_id=caller.user_id,
        )

    def _check_result(self, caller: Caller, job: FineTuningJob, order: _Order) -> None:
        if job.fine_tuned_model_id is None:
            models = self._directory.models.values()
            self._directory.check_name_free(models, job.account_id, job.result_name, "model")
            return
        model = self._directory.get_own(caller, self._directory.models, job.fine_tuned_model_id, "model")
        if (model.account_id, model.model_template_id) != (job.account_id, order.base.model_template_id):
            raise InvalidParameter(
                f"fine_tuned_model_id: '{model.name}' is of another account or template than '{order.base.name}'; "
                "leave it out to make a new model"
            )
        if model.id == order.base.id or self._directory.deployments_of(model.id):
            raise InUse(
                f"'{model.name}' is deployed, or the base itself: its weights cannot change under it; "
                "leave fine_tuned_model_id out to make a new model"
            )


def _refuse_elsewhere(configuration: FineTuningConfiguration) -> None:
    if configuration.vendor == ELSEWHERE:
        raise Unsupported("vendor_configuration.vendor OPENAI trains elsewhere; send LAUNCH or LLMENGINE, or nothing")
    for name in ("wandb_config", "output"):
        if getattr(configuration, name):
            raise Unsupported(
                f"vendor_configuration.{name} is not served: what a job reports is in its events, and what comes of it "
                "in the model that it makes; leave it out"
            )


def _shown(configuration: FineTuningConfiguration | None) -> dict[str, Any] | None:
    """What clients get back: the words they know, and always a vendor, without which v3's cannot read it."""
    if configuration is None:
        return None
    given: dict[str, Any] = msgspec.to_builtins(configuration)
    return {
        **{name: value for name, value in given.items() if value is not None},
        "vendor": given["vendor"] or "LAUNCH",
    }
