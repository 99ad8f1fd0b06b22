"""Fine-tuning in a few words for the tests: examples, and jobs over HTTP from their order to their end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import httpx

from tests.support import chain

Upload: TypeAlias = Callable[..., Any]
"""Makes a dataset of a text."""
ENDED = {"COMPLETED", "FAILED", "CANCELED"}
EXAMPLES = "".join(json.dumps({"input": f"question {n}?", "output": f"answer {n}."}) + "\n" for n in range(40))
PAIRS = "".join(
    json.dumps({"question": f"what is {n}", "chunk": f"{n} is a number", "positive": n % 2 == 0}) + "\n"
    for n in range(20)
)


def base_id(admin: httpx.Client, name: str = "starter-chat") -> str:
    return next(model["id"] for model in admin.get("/v3/models").json() if model["name"] == name)


def order(admin: httpx.Client, dataset_id: str, base: str = "starter-chat", **body: Any) -> dict[str, Any]:
    """A job, as raw HTTP orders it."""
    sent = {"training_dataset_id": dataset_id, "base_model_id": base_id(admin, base), **body}
    made: dict[str, Any] = admin.post("/v3/fine-tuning-jobs", json=sent).raise_for_status().json()
    return made


def job_of(admin: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = admin.get(f"/v3/fine-tuning-jobs/{job_id}").raise_for_status().json()
    return found


def ended(admin: httpx.Client, job_id: str, status: str = "COMPLETED") -> dict[str, Any]:
    """The job once it has ended, as it should."""

    def look() -> dict[str, Any] | None:
        job = job_of(admin, job_id)
        return job if job["status"] in ENDED else None

    job = chain.until(look, f"job {job_id} ends")
    assert job["status"] == status, job
    return job


def holding(admin: httpx.Client, job_id: str, step: int) -> dict[str, Any]:
    """The job once it holds before its next step."""
    return chain.until(
        lambda: job if (job := job_of(admin, job_id))["step"] >= step and job["status"] == "RUNNING" else None,
        f"job {job_id} has come to step {step}",
    )
