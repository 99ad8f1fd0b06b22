"""Datasets and fine-tuning jobs, as the console's client asks for them."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from appliance.wire import sgp, sgp_v3
from appliance.wire import sgp_training as wire
from tui.client import INFERENCE_SECONDS, Client
from tui.format import without_controls
from tui.problems import Refused

DATASETS, JOBS = "/v4/training-datasets", "/v4/fine-tuning-jobs"
MOST_LISTED = 10_000
MOST_NAMED = 20
MOST_CONTENT_BYTES = 256 * 1024
"""What is fetched of a dataset at most to show how it begins."""


class TrainingClient:
    """The routes of fine-tuning, over a connection that somebody else closes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def upload(self, file_name: str, content: BinaryIO, name: str, schema_type: str) -> wire.TrainingDatasetV4:
        """Send examples, in pieces; each line is checked."""
        fields = {"name": name, "schema_type": schema_type}
        return await self._client.send_file(DATASETS, wire.TrainingDatasetV4, file_name, content, fields)

    async def datasets(self) -> list[wire.TrainingDatasetV4]:
        """All datasets, oldest first."""
        found = await self._client.ask("GET", f"{DATASETS}?limit={MOST_LISTED}", wire.TrainingDatasetPage)
        return found.items

    async def dataset(self, dataset_id: str) -> wire.TrainingDatasetV4:
        """One dataset."""
        return await self._client.ask("GET", f"{DATASETS}/{_segment(dataset_id)}", wire.TrainingDatasetV4)

    async def first_examples(self, dataset_id: str, most: int) -> list[dict[str, Any]]:
        """How a dataset begins, at most so many examples; none when the first is longer than what is fetched."""
        begun = bytearray()
        async with aclosing(self._client.pieces(f"{DATASETS}/{_segment(dataset_id)}/contents")) as pieces:
            async for piece in pieces:
                begun += piece
                if len(begun) >= MOST_CONTENT_BYTES:
                    break
        found: list[dict[str, Any]] = without_controls(first_of_array(begun.decode(errors="ignore"), most))
        return found

    async def delete_dataset(self, dataset_id: str) -> sgp.Deleted:
        """Remove a dataset that no job stands on."""
        return await self._client.ask("DELETE", f"{DATASETS}/{_segment(dataset_id)}", sgp.Deleted)

    async def tokens(self, dataset_id: str, base_model: str, sequence_length: int | None) -> wire.TokenStatistics:
        """How long a dataset's examples are to a base model."""
        query = {"base_model": base_model} | ({"sequence_length": sequence_length} if sequence_length else {})
        path = f"/admin/training-datasets/{_segment(dataset_id)}/tokens?{urlencode(query)}"
        return await self._client.ask("GET", path, wire.TokenStatistics, seconds=INFERENCE_SECONDS)

    async def model_id(self, name: str) -> str:
        """Id of a model by its name or id. Raises ConsoleError naming those that there are."""
        models = await self._client.models()
        found = next((model for by in ("name", "id") for model in models if getattr(model, by) == name), None)
        if found is None:
            there = ", ".join(sorted(model.name for model in models)[:MOST_NAMED])
            raise Refused(f"no model '{name}' in this account; there are: {there}", status=404, code="not_found")
        return found.id

    async def models_by_id(self) -> dict[str, sgp_v3.Model]:
        """Models that the key may see."""
        return {model.id: model for model in await self._client.models()}

    async def create_job(self, body: wire.FineTuningJobCreate) -> wire.FineTuningJobV4:
        """Order a training."""
        return await self._client.ask("POST", JOBS, wire.FineTuningJobV4, body)

    async def jobs(self) -> list[wire.FineTuningJobV4]:
        """All jobs, oldest first."""
        return (await self._client.ask("GET", f"{JOBS}?limit={MOST_LISTED}", wire.FineTuningJobPage)).items

    async def job(self, job_id: str) -> wire.FineTuningJobV4:
        """One job, with how far it is."""
        return await self._client.ask("GET", f"{JOBS}/{_segment(job_id)}", wire.FineTuningJobV4)

    async def events(self, job_id: str) -> list[wire.FineTuningEvent]:
        """What a job has reported, oldest first."""
        return await self._client.ask("GET", f"{JOBS}/{_segment(job_id)}/events", list[wire.FineTuningEvent])

    async def delete_job(self, job_id: str) -> sgp.Deleted:
        """Cancel a job that has not ended, remove one that has."""
        return await self._client.ask("DELETE", f"{JOBS}/{_segment(job_id)}", sgp.Deleted)

    async def cancel_job(self, job_id: str) -> sgp.Deleted | wire.FineTuningJobV4:
        """Cancel a job; one that has ended meanwhile comes back as it is, for its record is worth keeping."""
        job = await self.job(job_id)
        return await self.delete_job(job_id) if job.status in ("PENDING", "RUNNING") else job

    async def deploy(self, job_id: str, name: str | None) -> sgp_v3.Deployment:
        """Serve what a job has made, under its model's name where none is given."""
        job = await self.job(job_id)
        if job.status != "COMPLETED" or job.fine_tuned_model_id is None:
            why = f"the job is {job.status}; only what a COMPLETED one has made can be deployed"
            raise Refused(why, status=409, code="conflict")
        model = await self._client.model(job.fine_tuned_model_id)
        return await self._client.create_deployment(model.id, sgp_v3.DeploymentCreate(name=name or model.name))

    async def promote(self, job_id: str, body: wire.PromotionCreate) -> wire.FineTuningJobV4:
        """Move what callers call to a job's model."""
        path = f"/admin/fine-tuning-jobs/{_segment(job_id)}/promote"
        return await self._client.ask("POST", path, wire.FineTuningJobV4, body, seconds=INFERENCE_SECONDS)

    async def roll_back(self, job_id: str) -> wire.FineTuningJobV4:
        """Move it back."""
        path = f"/admin/fine-tuning-jobs/{_segment(job_id)}/rollback"
        return await self._client.ask("POST", path, wire.FineTuningJobV4, seconds=INFERENCE_SECONDS)


def first_of_array(text: str, most: int) -> list[Any]:
    """The first elements of a JSON array that may end anywhere; the one that is cut is left out."""
    decoder, position = json.JSONDecoder(), 1  # after the bracket
    found: list[Any] = []
    while len(found) < most:
        try:
            element, end = decoder.raw_decode(text, position)
        except ValueError:
            break
        found.append(element)
        position = end + 1  # after the comma
    return found


def _segment(name: str) -> str:
    return quote(name, safe="")
