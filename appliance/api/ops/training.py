"""The appliance's own routes around fine-tuning: how long examples are, and what a result is called by."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.params import JSONBody, QueryParameter
from msgspec import structs

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.sgp.training import job_view_v4
from appliance.api.sgp.v4.deployments import patience_of
from appliance.api.streaming import while_connected
from appliance.wire import sgp_training as wire

BaseModel = Annotated[str, QueryParameter(description="id or name of the model whose tokenizer counts")]
SequenceLength = Annotated[
    int | None, QueryParameter(ge=1, le=1_048_576, description="what examples are counted against")
]


class TrainingController(Controller):
    """Statistics of datasets; promotion of what jobs have made."""

    path = "/admin"
    tags = ("administration",)

    @get("/training-datasets/{dataset_id:str}/tokens", operation_id="adminDatasetTokens")
    async def tokens(
        self,
        request: Request[Any, Any, Any],
        node: TheNode,
        caller: TheCaller,
        dataset_id: PathId,
        base_model: BaseModel,
        sequence_length: SequenceLength = None,
    ) -> wire.TokenStatistics:
        """How many tokens a dataset's examples have by a base model's tokenizer; no weights are loaded for it."""
        counting = node.dataset_tokens.of(caller, dataset_id, base_model, sequence_length)
        return wire.TokenStatistics(**structs.asdict(await while_connected(request, counting)))

    @post("/fine-tuning-jobs/{job_id:str}/promote", operation_id="adminPromote", status_code=200)
    async def promote(
        self,
        request: Request[Any, Any, Any],
        node: TheNode,
        caller: TheCaller,
        job_id: PathId,
        data: JSONBody[wire.PromotionCreate],
    ) -> wire.FineTuningJobV4:
        """Move a model server or a deployment to the job's model, unless it is worse; `force` asks not."""
        patience = patience_of(request, node)
        return job_view_v4(node, await node.promotions.promote(caller, job_id, data, patience))

    @post("/fine-tuning-jobs/{job_id:str}/rollback", operation_id="adminRollBackPromotion", status_code=200)
    async def roll_back(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, job_id: PathId
    ) -> wire.FineTuningJobV4:
        """Move what was promoted back. There is no body."""
        patience = patience_of(request, node)
        return job_view_v4(node, await node.promotions.roll_back(caller, job_id, patience))
