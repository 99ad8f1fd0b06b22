"""Dialect v4: training datasets, their contents, and fine-tuning jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp import training
from appliance.api.sgp.v4.pages import CUT, AccountFilter, TheCut
from appliance.wire import sgp
from appliance.wire import sgp_training as wire

PIECE_BYTES = 64 * 1024


class TrainingDatasetController(Controller):
    """Training datasets."""

    path = "/v4/training-datasets"
    tags = ("v4 fine-tuning",)
    dependencies = CUT

    @get(operation_id="v4ListTrainingDatasets")
    async def list_datasets(
        self, node: TheNode, caller: TheCaller, cut: TheCut, account_id: AccountFilter = None
    ) -> wire.TrainingDatasetPage:
        """A page of the training datasets."""
        found = await node.datasets.list(caller, account_id)
        return wire.TrainingDatasetPage(**cut.of(found, training.dataset_view_v4))

    @post(operation_id="v4CreateTrainingDataset", status_code=200, opt=CREATES)
    async def create_dataset(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller
    ) -> wire.TrainingDatasetV4:
        """Upload examples, one JSON object a line: a form with `file`, `name` and `schema_type`. Each is checked."""
        return training.dataset_view_v4(await training.create_dataset(request, node, caller))

    @get("/{training_dataset_id:str}", operation_id="v4GetTrainingDataset")
    async def get_dataset(
        self, node: TheNode, caller: TheCaller, training_dataset_id: PathId
    ) -> wire.TrainingDatasetV4:
        """One training dataset."""
        return training.dataset_view_v4(await node.datasets.get(caller, training_dataset_id))

    @delete("/{training_dataset_id:str}", operation_id="v4DeleteTrainingDataset", status_code=200)
    async def delete_dataset(self, node: TheNode, caller: TheCaller, training_dataset_id: PathId) -> sgp.Deleted:
        """Delete a training dataset that no job stands on."""
        return await training.delete_dataset(node, caller, training_dataset_id)

    @get("/{training_dataset_id:str}/contents", operation_id="v4ListTrainingDatasetContents")
    async def list_contents(self, node: TheNode, caller: TheCaller, training_dataset_id: PathId) -> Stream:
        """All examples, as a bare array of `input` and `output`; what else a line has stands beside them."""
        dataset = await node.datasets.get(caller, training_dataset_id)
        node.datasets.path(dataset)  # gone bytes are an error before the first byte leaves
        return Stream(
            _as_array(map(training.content_of, node.datasets.examples(dataset))), media_type="application/json"
        )


def _as_array(rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """A JSON array, many rows at once: each piece costs a thread's turn."""
    piece = bytearray(b"[")
    for index, row in enumerate(rows):
        if index:
            piece += b","
        piece += msgspec.json.encode(row)
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece + b"]")


class FineTuningJobController(Controller):
    """Fine-tuning jobs."""

    path = "/v4/fine-tuning-jobs"
    tags = ("v4 fine-tuning",)
    dependencies = CUT

    @get(operation_id="v4ListFineTuningJobs")
    async def list_jobs(
        self, node: TheNode, caller: TheCaller, cut: TheCut, account_id: AccountFilter = None
    ) -> wire.FineTuningJobPage:
        """A page of the fine-tuning jobs."""
        found = await node.finetuning.list(caller, account_id)
        return wire.FineTuningJobPage(**cut.of(found, lambda job: training.job_view_v4(node, job)))

    @post(operation_id="v4CreateFineTuningJob", status_code=200, opt=CREATES)
    async def create_job(
        self, node: TheNode, caller: TheCaller, data: JSONBody[wire.FineTuningJobCreate]
    ) -> wire.FineTuningJobV4:
        """Fine-tune a model on a dataset, behind all other traffic. Survives a restart."""
        return training.job_view_v4(node, await node.finetuning.create(caller, data))

    @get("/{fine_tuning_job_id:str}", operation_id="v4GetFineTuningJob")
    async def get_job(self, node: TheNode, caller: TheCaller, fine_tuning_job_id: PathId) -> wire.FineTuningJobV4:
        """One fine-tuning job, with how far it is."""
        return training.job_view_v4(node, await node.finetuning.get(caller, fine_tuning_job_id))

    @delete("/{fine_tuning_job_id:str}", operation_id="v4DeleteFineTuningJob", status_code=200)
    async def delete_job(self, node: TheNode, caller: TheCaller, fine_tuning_job_id: PathId) -> sgp.Deleted:
        """Cancel a job that has not ended, remove one that has. Its model stays."""
        return await training.delete_job(node, caller, fine_tuning_job_id)

    @get("/{fine_tuning_job_id:str}/events", operation_id="v4ListFineTuningEvents")
    async def list_events(
        self, node: TheNode, caller: TheCaller, fine_tuning_job_id: PathId
    ) -> list[wire.FineTuningEvent]:
        """What a job has reported, oldest first, as a bare array."""
        return await training.events(node, caller, fine_tuning_job_id)
