"""Async tasks in the shape of Scale Launch: any deployment's execution, accepted at once and polled for its result."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post
from litestar.params import JSONBody, QueryParameter

from appliance.api.bodies import decode
from appliance.api.errors import describe, status_of
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp.execute import REQUESTS_OF, RUNNERS
from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Caller
from appliance.lifecycle.background import Reply
from appliance.lifecycle.inference import Inference
from appliance.lifecycle.schemas import REQUESTS
from appliance.wire import async_tasks as wire
from appliance.wire.sgp_v3 import Deleted

DIALECT = "sgp_async"

Endpoint = Annotated[str, QueryParameter(name="model_endpoint_id", description="a deployment's ID, or its name")]


class AsyncTaskController(Controller):
    """Executions that nobody waits for."""

    path = "/v1/async-tasks"
    tags = ("async tasks",)

    @post(operation_id="createAsyncTask", status_code=200, opt=CREATES)
    async def create_task(
        self, node: TheNode, caller: TheCaller, data: JSONBody[wire.AsyncTaskCreate], model_endpoint_id: Endpoint
    ) -> wire.AsyncTaskCreated:
        """Accept an execution; `args` is the body that executing the deployment takes. Survives a restart."""
        _refuse_what_is_not_served(data)
        target = node.inference.by_name(caller, model_endpoint_id)
        task = await node.async_tasks.create(caller, target.deployment.id, data.args)
        return wire.AsyncTaskCreated(task_id=task.id)

    @get("/{task_id:str}", operation_id="getAsyncTask")
    async def get_task(self, node: TheNode, caller: TheCaller, task_id: PathId) -> wire.AsyncTaskState:
        """Where a task is, and its result once it has one."""
        task = await node.async_tasks.get(caller, task_id)
        return wire.AsyncTaskState(
            task_id=task.id,
            status=task.status.value,
            result=task.result,
            traceback=task.traceback,
            status_code=task.status_code,
        )

    @delete("/{task_id:str}", operation_id="deleteAsyncTask", status_code=200)
    async def delete_task(self, node: TheNode, caller: TheCaller, task_id: PathId) -> Deleted:
        """Cancel a task that has not ended, and forget it with its result."""
        await node.async_tasks.delete(caller, task_id)
        return Deleted(count=1)


def _refuse_what_is_not_served(body: wire.AsyncTaskCreate) -> None:
    for name in ("url", "cloudpickle", "callback_url", "callback_auth", "destination_path", "return_pickled"):
        if getattr(body, name):
            raise InvalidParameter(f"{name} is not served; leave it out, and poll GET /v1/async-tasks/{{task_id}}")


class Executions:
    """``appliance.lifecycle.background.Dialect`` for bodies of ``execute``; ``where`` is the deployment's id."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def check(self, caller: Caller, where: str, body: bytes) -> None:
        """Raise what is wrong with a body."""
        target = self._inference.by_name(caller, where)
        kind = target.model.model_type
        REQUESTS_OF[kind](target, decode(body, REQUESTS[kind]), caller.account_id)

    async def answer(self, caller: Caller, where: str, body: bytes) -> Reply:
        """Execute the deployment."""
        target = self._inference.by_name(caller, where)
        kind = target.model.model_type
        result = await RUNNERS[kind](self._inference, caller, target, decode(body, REQUESTS[kind]), DIALECT)
        return Reply(200, msgspec.to_builtins(result))

    def refusal(self, error: Exception) -> Reply:
        """The error as executing the deployment would have answered it."""
        return Reply(status_of(error).value, msgspec.to_builtins(describe(error, "an async task")))
