"""Dialect v4: usage statistics of a model by its name, of a deployment, of a group of models."""

from __future__ import annotations

from litestar import get

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.slashes import name_in
from appliance.api.spans import Chunks, EndDate, StartDate, span
from appliance.registry.usage import UsageBucket
from appliance.wire import sgp_v4_usage as wire

TAGS = ["v4 usage statistics"]


@get("/v4/models/{model_name:str}/usage-statistics", operation_id="v4GetModelUsage", tags=TAGS)
async def model_usage(
    node: TheNode, caller: TheCaller, model_name: PathId, start_date: StartDate, end_date: EndDate, chunks: Chunks
) -> wire.UsageStatistics:
    """Tokens of a model, by its name, in equal slices of a span."""
    return _statistics(await node.usage.of_model(caller, name_in(model_name), span(start_date, end_date, chunks)))


@get("/v4/model-deployments/{model_deployment_id:str}/usage-statistics", operation_id="v4GetDeploymentUsage", tags=TAGS)
async def deployment_usage(
    node: TheNode,
    caller: TheCaller,
    model_deployment_id: PathId,
    start_date: StartDate,
    end_date: EndDate,
    chunks: Chunks,
) -> wire.UsageStatistics:
    """Tokens of a deployment in equal slices of a span."""
    return _statistics(await node.usage.of_deployment(caller, model_deployment_id, span(start_date, end_date, chunks)))


@get("/v4/model-groups/{model_group_id:str}/usage-statistics", operation_id="v4GetModelGroupUsage", tags=TAGS)
async def group_usage(
    node: TheNode, caller: TheCaller, model_group_id: PathId, start_date: StartDate, end_date: EndDate, chunks: Chunks
) -> wire.UsageStatistics:
    """Tokens of the models that are in a group now, in equal slices of a span."""
    return _statistics(await node.usage.of_group(caller, model_group_id, span(start_date, end_date, chunks)))


def _statistics(buckets: list[UsageBucket]) -> wire.UsageStatistics:
    points = [
        wire.UsagePoint(
            date=bucket.start,
            prompt_tokens=bucket.prompt_tokens,
            response_tokens=bucket.response_tokens,
            summary_tokens=bucket.prompt_tokens + bucket.response_tokens,
        )
        for bucket in buckets
    ]
    return wire.UsageStatistics(data=points, start_date=points[0].date, end_date=points[-1].date)
