"""What dialects v3 and v4 share of datasets and fine-tuning jobs: uploads in, records out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import UploadFile
from msgspec import structs

from appliance.domain.errors import InvalidParameter
from appliance.domain.finetuning import FineTuningEvent, FineTuningJob, SchemaType, TrainingDataset
from appliance.domain.models import Caller
from appliance.lifecycle import hyperparameters
from appliance.lifecycle.builtins import SYSTEM_USER_ID
from appliance.lifecycle.node import Node
from appliance.wire import sgp
from appliance.wire import sgp_training as wire
from appliance.wire.limits import MAX_NAME_LENGTH, Name

FIELDS = {"file", "name", "schema_type", "account_id"}
CHUNK_BYTES = 1024 * 1024
_REPR_OF_BYTES = re.compile(r"""b(['"]).*\1""", re.DOTALL)
_REPR_OF_FILE = re.compile(r"<_?io\.\w+.*>|<\w*(File|IO)\w* .*>")


# --- datasets --------------------------------------------------------------------------------------------------------


async def create_dataset(request: Request[Any, Any, Any], node: Node, caller: Caller) -> TrainingDataset:
    """Store what a multipart form holds, its file as a file or as text. Raises InvalidParameter, and what that raises.

    Bytes that arrive as text keep their line ends.
    """
    form = await request.form()
    try:
        unknown = sorted(set(form.keys()) - FIELDS)
        if unknown:
            raise InvalidParameter(
                f"form: the field '{unknown[0][:64]}' is not known; there are {', '.join(sorted(FIELDS))}"
            )
        return await node.datasets.create(
            caller,
            _name(form.get("name")),
            _schema_type(form.get("schema_type")),
            _contents(form.get("file")),
            _text_or_none(form.get("account_id"), "account_id"),
        )
    finally:
        await form.close()


def _name(given: Any) -> str:
    try:
        return msgspec.convert(_text_or_none(given, "name") or "", Name)
    except msgspec.ValidationError as error:
        raise InvalidParameter(
            f"name: {error}; send printable text of at most {MAX_NAME_LENGTH} characters",
            errors=[(("name",), str(error))],
        ) from error


def _schema_type(given: Any) -> SchemaType:
    try:
        return SchemaType(_text_or_none(given, "schema_type") or "")
    except ValueError as error:
        words = " or ".join(SchemaType)
        raise InvalidParameter(f"schema_type must be {words}", errors=[(("schema_type",), "unknown")]) from error


def _text_or_none(given: Any, name: str) -> str | None:
    if given is not None and not isinstance(given, str):
        raise InvalidParameter(f"form: '{name}' must be one text", errors=[((name,), "not one text")])
    return given


def _contents(given: Any) -> Iterable[bytes]:
    if isinstance(given, UploadFile):
        return _pieces(given)
    if not isinstance(given, str):
        raise InvalidParameter("form: send one 'file' with the examples, and it must not be empty")
    if _REPR_OF_BYTES.fullmatch(given):
        raise InvalidParameter(
            "file: this is how Python shows bytes, not what is in them; this client sends text only: "
            "give it file=data.decode()",
            errors=[(("file",), "the repr of bytes")],
        )
    if _REPR_OF_FILE.fullmatch(given):
        raise InvalidParameter(
            "file: this is how Python shows a file object, not what is in the file; this client sends text only: "
            "give it file=Path(...).read_text()",
            errors=[(("file",), "the repr of a file object")],
        )
    return [given.encode("utf-8", "surrogateescape")]


def _pieces(upload: UploadFile) -> Iterator[bytes]:
    while piece := upload.file.read(CHUNK_BYTES):
        yield piece


async def delete_dataset(node: Node, caller: Caller, dataset_id: str) -> sgp.Deleted:
    """It is gone, unless a job stands on it. Raises NotFound, Conflict."""
    await node.datasets.delete(caller, dataset_id)
    return sgp.Deleted(count=1)


def dataset_view(dataset: TrainingDataset) -> wire.TrainingDataset:
    """As v3 shows it."""
    return wire.TrainingDataset(**_dataset_fields(dataset))


def dataset_view_v4(dataset: TrainingDataset) -> wire.TrainingDatasetV4:
    """As v4 shows it."""
    return wire.TrainingDatasetV4(**_dataset_fields(dataset), created_by_identity_type=_identity(dataset))


def _dataset_fields(dataset: TrainingDataset) -> dict[str, Any]:
    return {**structs.asdict(dataset), "schema_type": dataset.schema_type.value, "training_dataset_id": dataset.id}


def content_of(row: dict[str, Any]) -> dict[str, Any]:
    """A line as v4's client reads it, which knows inputs and outputs only; what else there is stands beside them."""
    if "messages" in row:
        turns = row["messages"]
        asked = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns[:-1])
        return {"input": asked, "output": turns[-1]["content"], "schema_type": "GENERATION", **row}
    if "question" in row:
        return {"input": row["question"], "output": row["chunk"], "schema_type": None, **row}
    return {**row, "schema_type": "GENERATION"}


# --- jobs ------------------------------------------------------------------------------------------------------------


def job_view(node: Node, job: FineTuningJob) -> wire.FineTuningJob:
    """As v3 shows it."""
    return wire.FineTuningJob(**_job_fields(node, job))


def job_view_v4(node: Node, job: FineTuningJob) -> wire.FineTuningJobV4:
    """As v4 shows it."""
    return wire.FineTuningJobV4(**_job_fields(node, job), created_by_identity_type=_identity(job))


def _job_fields(node: Node, job: FineTuningJob) -> dict[str, Any]:
    of_wire = wire.FineTuningJob.__struct_fields__
    fields = {name: getattr(job, name) for name in of_wire if hasattr(job, name)}
    promotion, evaluation = job.promotion, job.evaluation
    return {
        **fields,
        "status": job.status.value,
        "kind": job.kind.value,
        "hyperparameters": msgspec.to_builtins(hyperparameters.complete(job.hyperparameters)),
        "evaluation": wire.Evaluation(**structs.asdict(evaluation)) if evaluation is not None else None,
        "promotion": wire.Promotion(**structs.asdict(promotion), is_pending=node.promotions.is_pending(promotion))
        if promotion is not None
        else None,
    }


async def delete_job(node: Node, caller: Caller, job_id: str) -> sgp.Deleted:
    """Cancelled if it has not ended, removed if it has. Raises NotFound."""
    await node.finetuning.delete(caller, job_id)
    return sgp.Deleted(count=1)


async def events(node: Node, caller: Caller, job_id: str) -> list[wire.FineTuningEvent]:
    """What a job has reported, oldest first, as both show it. Raises NotFound."""
    return [_event_view(event) for event in await node.finetuning.events(caller, job_id)]


def _event_view(event: FineTuningEvent) -> wire.FineTuningEvent:
    figures = {name: getattr(event, name) for name in wire.FineTuningEvent.__struct_fields__ if name != "timestamp"}
    return wire.FineTuningEvent(**figures, timestamp=event.at.timestamp())


def _identity(record: TrainingDataset | FineTuningJob) -> Any:
    return "service_account" if record.created_by_user_id == SYSTEM_USER_ID else "user"
