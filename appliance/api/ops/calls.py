"""The call log and usage under ``/admin``, for admins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from litestar import Controller, get, patch
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Stream
from msgspec import structs

from appliance.api.auth import require_admin
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.spans import Chunks, EndDate, StartDate, span
from appliance.domain.contents import ContentLevel
from appliance.domain.models import Call
from appliance.lifecycle.exports import call_view, json_lines, moment_or_none
from appliance.lifecycle.node import Node
from appliance.lifecycle.usage import Selection
from appliance.wire import calls as wire

DEPLOYMENT_ID = QueryParameter(name="deployment_id", description="only this deployment's calls")
Deployment: TypeAlias = Annotated[str | None, DEPLOYMENT_ID]
Model: TypeAlias = Annotated[str | None, QueryParameter(name="model_id")]
Group: TypeAlias = Annotated[str | None, QueryParameter(name="model_group_id", description="models in it now")]
Account: TypeAlias = Annotated[str | None, QueryParameter(name="account_id")]
Key: TypeAlias = Annotated[str | None, QueryParameter(name="key_id")]
From: TypeAlias = Annotated[str | None, QueryParameter(name="start_date", description="ISO 8601, included")]
Until: TypeAlias = Annotated[str | None, QueryParameter(name="end_date", description="ISO 8601, not included")]
Dimension: TypeAlias = Literal["deployment", "model", "model_group", "account", "key"]


class CallsController(Controller):
    """What was called, by whom, and what it took."""

    path = "/admin"
    tags = ("administration",)
    guards = (require_admin,)

    @get("/usage", operation_id="adminUsage")
    async def usage(
        self,
        node: TheNode,
        start_date: StartDate,
        end_date: EndDate,
        chunks: Chunks = 1,
        deployment: Deployment = None,
        model: Model = None,
        group: Group = None,
        account: Account = None,
        key: Key = None,
    ) -> list[wire.UsageBucket]:
        """Calls, errors, tokens and milliseconds in equal slices of a span; also of what was deleted since."""
        selection = _selection(deployment, model, group, account, key)
        found = await node.usage.of(selection, span(start_date, end_date, chunks))
        return [wire.UsageBucket(date=bucket.start, **_sums(bucket)) for bucket in found]

    @get("/usage/{dimension:str}", operation_id="adminUsageBy")
    async def usage_by(
        self,
        node: TheNode,
        dimension: FromPath[Dimension],
        start_date: StartDate,
        end_date: EndDate,
        deployment: Deployment = None,
        model: Model = None,
        group: Group = None,
        account: Account = None,
        key: Key = None,
    ) -> list[wire.UsageOf]:
        """The same of a whole span by `deployment`, `model`, `model_group`, `account` or `key`; most tokens first."""
        selection = _selection(deployment, model, group, account, key)
        found = await node.usage.by(dimension, selection, span(start_date, end_date, 1))
        names = _names(node, dimension)
        rows = [wire.UsageOf(id=one, name=names.get(one), **_sums(sums)) for one, sums in found.items()]
        return sorted(rows, key=lambda row: -(row.prompt_tokens + row.response_tokens))

    @get("/calls/export", operation_id="adminExportCalls")
    async def export(
        self,
        node: TheNode,
        deployment: Deployment = None,
        model: Model = None,
        group: Group = None,
        account: Account = None,
        key: Key = None,
        start: From = None,
        end: Until = None,
    ) -> Stream:
        """Calls as JSON Lines, oldest first, with what is kept of their contents."""
        selection = _selection(deployment, model, group, account, key)
        pages = node.usage.export(selection, moment_or_none("start_date", start), moment_or_none("end_date", end))
        return Stream(_lines(pages), media_type="application/jsonl", status_code=200)

    @get("/calls/{call_id:str}", operation_id="adminCall")
    async def call(self, node: TheNode, call_id: PathId) -> wire.Call:
        """One call, with what is kept of its content."""
        return call_view(await node.calls.get(call_id))

    @patch("/deployments/{deployment_id:str}", operation_id="adminUpdateDeployment")
    async def update_deployment(
        self, node: TheNode, caller: TheCaller, deployment_id: PathId, data: JSONBody[wire.ContentUpdate]
    ) -> wire.ContentSetting:
        """Say what the log keeps of a deployment's calls from now on; of a built-in one too."""
        level = ContentLevel(data.call_content)
        changed = await node.deployments.set_call_content(caller, deployment_id, level)
        return wire.ContentSetting(id=changed.id, name=changed.name, call_content=data.call_content)


async def _lines(pages: AsyncIterator[list[Call]]) -> AsyncIterator[bytes]:
    async for page in pages:
        yield json_lines(page)


def _selection(
    deployment: str | None, model: str | None, group: str | None, account: str | None, key: str | None
) -> Selection:
    return Selection(deployment_id=deployment, model_id=model, model_group_id=group, account_id=account, key_id=key)


def _sums(found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in structs.asdict(found) if name in wire.Usage.__struct_fields__}


def _names(node: Node, dimension: Dimension) -> Mapping[str, str]:
    kinds: dict[Dimension, Mapping[str, Any]] = {
        "deployment": node.directory.deployments,
        "model": node.directory.models,
        "model_group": node.directory.groups,
        "account": node.directory.accounts,
        "key": node.directory.keys,
    }
    return {one: record.name for one, record in kinds[dimension].items()}
