"""Dialect v3: training datasets and fine-tuning jobs."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, delete, get, post
from litestar.params import JSONBody

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp import training
from appliance.api.sgp.v3 import AccountFilter
from appliance.wire import sgp
from appliance.wire import sgp_training as wire


class TrainingDatasetController(Controller):
    """Training datasets."""

    path = "/v3/training-datasets"
    tags = ("v3 fine-tuning",)

    @get(operation_id="v3ListTrainingDatasets")
    async def list_datasets(
        self, node: TheNode, caller: TheCaller, account_id: AccountFilter = None
    ) -> list[wire.TrainingDataset]:
        """All training datasets."""
        return [training.dataset_view(dataset) for dataset in await node.datasets.list(caller, account_id)]

    @post(operation_id="v3CreateTrainingDataset", status_code=200, opt=CREATES)
    async def create_dataset(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller
    ) -> wire.TrainingDataset:
        """Upload examples, one JSON object a line: a form with `file`, `name` and `schema_type`. Each is checked."""
        return training.dataset_view(await training.create_dataset(request, node, caller))

    @get("/{dataset_id:str}", operation_id="v3GetTrainingDataset")
    async def get_dataset(self, node: TheNode, caller: TheCaller, dataset_id: PathId) -> wire.TrainingDataset:
        """One training dataset."""
        return training.dataset_view(await node.datasets.get(caller, dataset_id))

    @delete("/{dataset_id:str}", operation_id="v3DeleteTrainingDataset", status_code=200)
    async def delete_dataset(self, node: TheNode, caller: TheCaller, dataset_id: PathId) -> sgp.Deleted:
        """Delete a training dataset that no job stands on."""
        return await training.delete_dataset(node, caller, dataset_id)


class FineTuningJobController(Controller):
    """Fine-tuning jobs."""

    path = "/v3/fine-tuning-jobs"
    tags = ("v3 fine-tuning",)

    @get(operation_id="v3ListFineTuningJobs")
    async def list_jobs(
        self, node: TheNode, caller: TheCaller, account_id: AccountFilter = None
    ) -> list[wire.FineTuningJob]:
        """All fine-tuning jobs."""
        return [training.job_view(node, job) for job in await node.finetuning.list(caller, account_id)]

    @post(operation_id="v3CreateFineTuningJob", status_code=200, opt=CREATES)
    async def create_job(
        self, node: TheNode, caller: TheCaller, data: JSONBody[wire.FineTuningJobCreate]
    ) -> wire.FineTuningJob:
        """Fine-tune a model on a dataset, behind all other traffic. Survives a restart."""
        return training.job_view(node, await node.finetuning.create(caller, data))

    @get("/{job_id:str}", operation_id="v3GetFineTuningJob")
    async def get_job(self, node: TheNode, caller: TheCaller, job_id: PathId) -> wire.FineTuningJob:
        """One fine-tuning job, with how far it is."""
        return training.job_view(node, await node.finetuning.get(caller, job_id))

    @delete("/{job_id:str}", operation_id="v3DeleteFineTuningJob", status_code=200)
    async def delete_job(self, node: TheNode, caller: TheCaller, job_id: PathId) -> sgp.Deleted:
        """Cancel a job that has not ended, remove one that has. Its model stays."""
        return await training.delete_job(node, caller, job_id)

    @get("/{job_id:str}/events", operation_id="v3ListFineTuningEvents")
    async def list_events(self, node: TheNode, caller: TheCaller, job_id: PathId) -> list[wire.FineTuningEvent]:
        """What a job has reported, oldest first."""
        return await training.events(node, caller, job_id)
