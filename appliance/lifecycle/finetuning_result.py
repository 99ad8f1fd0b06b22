"""What comes of a training: an artifact, imported like any other, and a model in the base's group with its card."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from msgspec import structs

from appliance.domain.errors import Internal, InUse, NameTaken
from appliance.domain.finetuning import FineTuningEvent, FineTuningJob
from appliance.domain.models import Artifact, BackendName, Caller, Model, Parameters, Role
from appliance.domain.training import TrainingEnded, TrainingKind
from appliance.engines.trial import try_load
from appliance.lifecycle import hyperparameters
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.importing import Importer, ImportRequest, trial_spec
from appliance.lifecycle.models import Models
from appliance.registry.database import Database
from appliance.registry.finetuning import fine_tuning_events, training_datasets
from appliance.store.importing import Store
from appliance.wire import sgp

CURVE_POINTS = 100
"""Steps of the loss curve on a model's card; all that were kept are in the job's events."""
DECIDED_BY_BASE = ("scoring",)
"""Creation parameters of a base that say nothing about the ONNX weights that were trained from it."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:-]+")


class Results:
    """Registers results. Twice is fine: names belong to the job, and what is there already is used."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        importer: Importer,
        models: Models,
        store: Store,
        on_import: Callable[[Artifact], Awaitable[None]],
    ) -> None:
        self._database = database
        self._directory = directory
        self._importer = importer
        self._models = models
        self._store = store
        self._on_import = on_import

    async def register(self, job: FineTuningJob, result: TrainingEnded, output: Path) -> Model:
        """The model over what ``output`` holds. Raises what imports and new models raise, Internal for no result."""
        name = artifact_name(job)
        artifact = self._directory.artifacts.get(name)
        if artifact is None:
            paths = _paths(job, result, output)
            artifact = await asyncio.to_thread(self._import, job, paths, name)
            await self._on_import(artifact)
        base = self._directory.models.get(job.base_model_id)
        if base is None:
            raise Internal(f"the base model was deleted meanwhile; its result is the artifact '{name}'")
        return await self._model(job, base, result, artifact)

    def _import(self, job: FineTuningJob, paths: tuple[Path, ...], name: str) -> Artifact:
        if job.kind is TrainingKind.GENERATION:
            base = self._directory.artifact(job.base_artifact)
            spec = trial_spec(base, self._store.path_of(base.files))
            try_load(BackendName.LLAMA.value, structs.replace(spec, adapter=paths[0]))
        return self._importer.run(ImportRequest(paths=paths, name=name, caller=owner(job), is_of_zoo=False))

    async def _model(self, job: FineTuningJob, base: Model, result: TrainingEnded, artifact: Artifact) -> Model:
        parameters = self._parameters(job, base, artifact)
        for model in self._directory.models.values():
            if model.account_id == job.account_id and model.creation_parameters == parameters:
                return model  # made before the server ended
        card, data_card = await self._cards(job, base, result)
        if job.fine_tuned_model_id is not None:
            body = sgp.ModelUpdate(model_creation_parameters=parameters, model_card=card, training_data_card=data_card)
            try:
                return await self._models.update(owner(job), job.fine_tuned_model_id, body)
            except InUse as error:  # deployed since the order
                raise InUse(f"{error.message}, over what was trained: it is kept as '{artifact.name}'") from error
        body_of = sgp.ModelCreate(
            name=job.result_name,
            model_type=base.model_type,
            account_id=job.account_id,
            model_template_id=base.model_template_id,
            model_group_id=base.model_group_id,
            base_model_id=base.id,
            model_creation_parameters=parameters,
            description=f"{base.name}, fine-tuned",
            model_card=card,
            training_data_card=data_card,
        )
        try:
            return await self._models.create(owner(job), body_of)
        except NameTaken:  # by somebody who came after the order
            return await self._models.create(owner(job), structs.replace(body_of, name=artifact.name))

    def _parameters(self, job: FineTuningJob, base: Model, artifact: Artifact) -> Parameters:
        of_base = base.creation_parameters or {}
        if job.kind is TrainingKind.GENERATION:
            return {**of_base, "adapter": artifact.name}
        return {name: value for name, value in of_base.items() if name not in DECIDED_BY_BASE} | {
            "weights": artifact.name
        }

    async def _cards(self, job: FineTuningJob, base: Model, result: TrainingEnded) -> tuple[str, str]:
        """JSON for both: where the model comes from, and what it was trained on."""
        events = await self._database.run(lambda db: fine_tuning_events.of_job(db, job.id))
        dataset = await self._database.run(lambda db: training_datasets.get(db, job.training_dataset_id))
        chosen = hyperparameters.complete(job.hyperparameters)
        card = {
            "fine_tuning_job_id": job.id,
            "kind": job.kind.value,
            "base": {"model": base.name, "weights": job.base_artifact, "digest": job.base_digest},
            "training_dataset": {"id": dataset.id, "name": dataset.name, "digest": dataset.digest},
            "hyperparameters": chosen,
            "seed": chosen.seed,
            "steps": result.steps,
            "stopped_early": result.stopped_early,
            "train_loss": result.train_loss,
            "validation_loss": result.validation_loss,
            "loss_curve": loss_curve(events),
            "evaluation": result.evaluation,
        }
        data_card = {
            "name": dataset.name,
            "digest": dataset.digest,
            "schema_type": dataset.schema_type.value,
            "examples": dataset.examples,
            "size_bytes": dataset.size_bytes,
            "validation_dataset_id": job.validation_dataset_id,
        }
        return _pretty(card), _pretty(data_card)


def owner(job: FineTuningJob) -> Caller:
    """In whose name the result is made: the one who ordered it, as far as the job's account goes."""
    return Caller(key_id=job.key_id, user_id=job.created_by_user_id, account_id=job.account_id, role=Role.MEMBER)


def artifact_name(job: FineTuningJob) -> str:
    """A name that no other job's artifact has."""
    mark = job.id[:8]
    stem = _NOT_IN_NAMES.sub("-", job.result_name).strip(".:_-")[:100] or "fine-tuned"
    return stem if stem.endswith(mark) else f"{stem}-{mark}"


def loss_curve(events: list[FineTuningEvent]) -> list[list[float | None]]:
    """Step, loss and validation loss of some steps, the first and the last among them, and all that were validated
    as long as they are not too many.
    """
    steps = [event for event in events if event.step is not None]
    validated = [event for event in steps if event.validation_loss is not None]
    chosen = {id(event) for event in [*_some(steps, CURVE_POINTS // 2), *_some(validated, CURVE_POINTS // 2)]}
    return [[event.step, event.loss, event.validation_loss] for event in steps if id(event) in chosen]


def _some(events: list[FineTuningEvent], most: int) -> list[FineTuningEvent]:
    stride = max(1, math.ceil(len(events) / (most - 1)))
    return [*events[::stride], *events[-1:]]


def _paths(job: FineTuningJob, result: TrainingEnded, output: Path) -> tuple[Path, ...]:
    """An adapter's file, or the folder of an ONNX model."""
    files, root = [output / name for name in result.files], output.resolve()
    if not files or not all(file.is_file() and file.resolve().is_relative_to(root) for file in files):
        raise Internal(f"the training process ended well and left no result ({', '.join(result.files) or 'no files'})")
    return (files[0],) if job.kind is TrainingKind.GENERATION else (output,)


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()
