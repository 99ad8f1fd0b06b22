"""Dialect v4: chunks of text by their relevance to a query."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from litestar import Request, Response, post
from litestar.params import JSONBody
from msgspec import structs

from appliance.api.handlers import TheCaller, TheNode
from appliance.api.sgp.v4.by_name import DIALECT
from appliance.api.streaming import while_connected
from appliance.domain.errors import InvalidParameter, InvalidRequest, NotFound
from appliance.domain.inference import RerankingRequest
from appliance.domain.models import Caller
from appliance.lifecycle import rouge
from appliance.lifecycle.inference import Target
from appliance.lifecycle.node import Node
from appliance.lifecycle.requests import bindings_of
from appliance.wire import sgp_v4_chunks as wire

DEFAULT_RERANKER = "starter-rerank"
CLIENTS_CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L-12-v2"
"""What v2's client sends where nobody has chosen a cross encoder; it cannot leave the name out."""
RANKED_BY = "x-ranked-by"
"""Header of an answer: the name of the model that ranked."""
PARAMETERS_OF: dict[wire.Method, set[str]] = {
    "cross_encoder": {"cross_encoder_model"},
    "rouge": {"metric", "score"},
    "model": {"model_deployment_id", "model_id", "base_model_name", "model_params"},
    "azure_ai_foundry": {"endpoint_url", "endpoint_api_key"},
}
"""Ranking methods and their parameters."""


TAGS = ["v4 chunks"]


@post("/v4/chunks/rank", operation_id="v4RankChunks", status_code=200, tags=TAGS)
async def rank_chunks(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChunksRank]
) -> Response[wire.RankedChunks]:
    """The chunks in descending order of their new scores, cut to `top_k`."""
    return await _rank(request, node, caller, data, DIALECT)


@post("/v2/chunks/rank", operation_id="v2RankChunks", status_code=200, tags=TAGS)
async def rank_chunks_v2(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChunksRank]
) -> Response[wire.RankedChunks]:
    """The chunks in descending order; v2's client always names a cross encoder."""
    return await _rank(request, node, caller, data, "sgp_v2")


@post("/egp/v1/chunks/rank", operation_id="egpV1RankChunks", status_code=200, tags=TAGS)
async def rank_chunks_egp_v1(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChunksRank]
) -> Response[wire.RankedChunks]:
    """The chunks in descending order, under the older prefix."""
    return await _rank(request, node, caller, data, "egp_v1")


async def _rank(
    request: Request[Any, Any, Any], node: Node, caller: Caller, body: wire.ChunksRank, dialect: str
) -> Response[wire.RankedChunks]:
    caller = node.keys.select_account(caller, body.account_id)
    scores, ranked_by = await while_connected(request, _scores(node, caller, body, dialect))
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_k]
    ranked = wire.RankedChunks(
        relevant_chunks=[structs.replace(body.relevant_chunks[index], score=scores[index]) for index in order]
    )
    return Response(ranked, headers={} if ranked_by is None else {RANKED_BY: quote(ranked_by)})


async def _scores(node: Node, caller: Caller, body: wire.ChunksRank, dialect: str) -> tuple[list[float], str | None]:
    """A score for each chunk, and the name of the model that gave it, if one did."""
    method, given = _method(body.rank_strategy), body.rank_strategy.params or wire.RankParameters()
    texts = tuple(chunk.text for chunk in body.relevant_chunks)
    if method == "azure_ai_foundry":
        raise InvalidRequest(
            "azure_ai_foundry ranks at an endpoint on the internet, which this appliance does not call; an "
            "administrator can add a reranker elsewhere as an upstream, and the method model ranks with it"
        )
    if method == "rouge":
        work = asyncio.to_thread(rouge.rank, body.query, texts, given.metric or "rouge2", given.score or "recall")
        return await work, None
    target = _cross_encoder(node, caller, given) if method == "cross_encoder" else _model(node, caller, given)
    if not texts:
        return [], None
    asked = RerankingRequest(query=body.query, chunks=texts)
    return (await node.inference.rerank(caller, target, asked, dialect=dialect)).scores, target.deployment.name


def _method(strategy: wire.RankStrategy) -> wire.Method:
    """The method; where it is left out, the one that the parameters belong to. Raises InvalidParameter."""
    params = strategy.params or wire.RankParameters()
    given = {name for name in params.__struct_fields__ if getattr(params, name) is not None}
    method = strategy.method or next((m for m, known in PARAMETERS_OF.items() if given <= known), None)
    if method is None:
        raise InvalidParameter(f"rank_strategy: parameters of several methods ({', '.join(sorted(given))}); say which")
    foreign = sorted(given - PARAMETERS_OF[method])
    if foreign:
        known = ", ".join(sorted(PARAMETERS_OF[method]))
        raise InvalidParameter(f"rank_strategy: {method} has no parameter '{foreign[0]}'; it knows: {known}")
    return method


def _cross_encoder(node: Node, caller: Caller, given: wire.RankParameters) -> Target:
    """The named cross encoder. The client writes publishers' names, the zoo writes them in lower case.

    The name that nobody has chosen means whichever ranks here, unless there is a model that is called so.
    """
    name = given.cross_encoder_model
    if name is None:
        return node.inference.by_name(caller, DEFAULT_RERANKER)
    for spelling in (name, name.lower()):
        try:
            return node.inference.by_name(caller, spelling)
        except NotFound as error:
            refusal = error
    if name == CLIENTS_CROSS_ENCODER:
        return node.inference.by_name(caller, DEFAULT_RERANKER)
    raise NotFound(f"{refusal.message}; without params {DEFAULT_RERANKER} ranks") from refusal


def _model(node: Node, caller: Caller, given: wire.RankParameters) -> Target:
    names = [n for n in (given.model_deployment_id, given.model_id, given.base_model_name) if n is not None]
    if len(names) != 1:
        raise InvalidParameter("rank_strategy: method model needs either model_deployment_id or base_model_name")
    target = node.inference.by_name(caller, names[0])
    # One official client puts the query and the chunks in here as well; they are taken from their own fields.
    bound = {key: value for key, value in (given.model_params or {}).items() if key not in ("query", "chunks")}
    bindings_of(target.request_parameters, bound)
    return target
