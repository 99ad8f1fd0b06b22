"""The routes by which Ollama's clients change the store. Here that is done in other ways, and each refusal says how."""

from __future__ import annotations

from litestar import delete, post

from appliance.api.handlers import PathId, TheCaller
from appliance.domain.errors import InvalidRequest

TAGS = ["Ollama"]

_IMPORT = "an administrator imports a weights file: appliance models import FILE, or POST /admin/imports"


@post("/api/pull", operation_id="ollamaPull", status_code=200, tags=TAGS)
async def pull(caller: TheCaller) -> None:
    """Refused, with how models come here."""
    raise InvalidRequest(f"models are not pulled from a network; {_IMPORT}; GET /api/tags lists those that are here")


@post("/api/push", operation_id="ollamaPush", status_code=200, tags=TAGS)
async def push(caller: TheCaller) -> None:
    """Refused: nothing leaves this machine."""
    raise InvalidRequest("models are not pushed to a network; copy the weights file where you imported it from")


@post("/api/create", operation_id="ollamaCreate", status_code=200, tags=TAGS)
async def create(caller: TheCaller) -> None:
    """Refused, with how models are made here."""
    raise InvalidRequest(
        f"models are not made from Modelfiles; {_IMPORT}, then POST /v3/models with a template and deploy it"
    )


@post("/api/copy", operation_id="ollamaCopy", status_code=200, tags=TAGS)
async def copy(caller: TheCaller) -> None:
    """Refused, with how a model gets a second name here."""
    raise InvalidRequest(
        "models are not copied; POST /v3/models/{model_id}/deployments serves one under another name, and shares its "
        "weights"
    )


@delete("/api/delete", operation_id="ollamaDelete", status_code=200, tags=TAGS)
async def delete_model(caller: TheCaller) -> None:
    """Refused, with how models are removed here."""
    raise InvalidRequest(
        "models are not removed in this dialect; DELETE /v3/models/{model_id}/deployments/{deployment_id} ends a "
        "deployment, an administrator removes weights with DELETE /admin/artifacts/{name}"
    )


@post("/api/blobs/{digest:str}", operation_id="ollamaCreateBlob", status_code=200, tags=TAGS)
async def create_blob(caller: TheCaller, digest: PathId) -> None:
    """Refused, with how weights come here."""
    raise InvalidRequest(f"weights are not uploaded in this dialect; {_IMPORT}")
