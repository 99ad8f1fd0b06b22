"""Dialect v3: execution. The body's type follows the model's; the answer holds exactly the keys the client knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Controller, Request, post

from appliance.api.bodies import decode
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.sgp import views
from appliance.api.streaming import while_connected
from appliance.domain.inference import EmbeddingRequest, FinishReason, RerankingRequest, Sampling
from appliance.domain.models import Caller, ModelType, Parameters
from appliance.engines.tools import parse_tool_calls
from appliance.lifecycle.agents import step_from, to_chat
from appliance.lifecycle.inference import Target
from appliance.lifecycle.node import Node
from appliance.lifecycle.requests import bindings_of, with_sampling
from appliance.lifecycle.schemas import REQUESTS
from appliance.wire import sgp_v3

DIALECT = "sgp_v3"


class ExecuteController(Controller):
    """Run a deployment."""

    path = "/v3/models/{model_id:str}/deployments/{deployment_id:str}"
    tags = ("v3 model deployments",)

    @post("/execute", operation_id="v3ExecuteModelDeployment", status_code=200)
    async def execute(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, model_id: PathId, deployment_id: PathId
    ) -> (
        sgp_v3.CompletionResult
        | sgp_v3.ChatCompletionResult
        | sgp_v3.EmbeddingResult
        | sgp_v3.RerankingResult
        | sgp_v3.AgentResult
    ):
        """Execute; the model's ``request_schema`` describes the body, its ``response_schema`` the answer."""
        target = node.inference.by_id(caller, model_id, deployment_id)
        body = decode(await request.body(), REQUESTS[target.model.model_type])
        work = RUNNERS[target.model.model_type]
        return await while_connected(request, work(node, caller, target, body))


async def _completion(
    node: Node, caller: Caller, target: Target, body: sgp_v3.CompletionExecute
) -> sgp_v3.CompletionResult:
    requests = views.completion_requests(body, _sampling(target, body), caller.account_id)
    execution = await node.inference.generate(
        caller, target, requests, model_type=ModelType.COMPLETION, dialect=DIALECT
    )
    texts = await execution.texts()
    usage = execution.usage
    cut = any(text.finish_reason is FinishReason.LENGTH for text in texts)
    return sgp_v3.CompletionResult(
        completions=[(prompt, [text.text]) for prompt, text in zip(body.prompts, texts, strict=True)],
        finish_reason="length" if cut else "stop",
        prompt_tokens=usage.prompt_tokens,
        response_tokens=usage.response_tokens,
    )


async def _chat(
    node: Node, caller: Caller, target: Target, body: sgp_v3.ChatCompletionExecute
) -> sgp_v3.ChatCompletionResult:
    request = views.chat_request(body, _sampling(target, body), caller.account_id)
    execution = await node.inference.generate(
        caller, target, [request], model_type=ModelType.CHAT_COMPLETION, dialect=DIALECT
    )
    (text,) = await execution.texts()
    return sgp_v3.ChatCompletionResult(
        message=sgp_v3.AssistantMessage(content=text.text), finish_reason=text.finish_reason.value
    )


async def _embedding(
    node: Node, caller: Caller, target: Target, body: sgp_v3.EmbeddingExecute
) -> sgp_v3.EmbeddingResult:
    normalize = _bindings(target, body).get("normalize")
    request = EmbeddingRequest(texts=tuple(body.texts), normalize=None if normalize is None else bool(normalize))
    result = await node.inference.embed(caller, target, request, dialect=DIALECT)
    return sgp_v3.EmbeddingResult(
        embeddings=list(zip(body.texts, result.vectors, strict=True)), tokens_used=result.tokens
    )


async def _reranking(
    node: Node, caller: Caller, target: Target, body: sgp_v3.RerankingExecute
) -> sgp_v3.RerankingResult:
    _bindings(target, body)
    request = RerankingRequest(query=body.query, chunks=tuple(body.chunks))
    result = await node.inference.rerank(caller, target, request, dialect=DIALECT)
    return sgp_v3.RerankingResult(chunk_scores=result.scores, tokens_used=result.tokens)


async def _agent(node: Node, caller: Caller, target: Target, body: sgp_v3.AgentExecute) -> sgp_v3.AgentResult:
    sampling = with_sampling(views.sampling_of(None, None, None), _bindings(target, body))
    request = views.agent_request(body, sampling, caller.account_id)
    execution = await node.inference.generate(
        caller, target, [to_chat(request)], model_type=ModelType.AGENT, dialect=DIALECT
    )
    (text,) = await execution.texts()
    step = step_from(*parse_tool_calls(text.text))
    if step.tool_request is not None:
        wanted = sgp_v3.ToolRequest(name=step.tool_request.name, arguments=step.tool_request.arguments)
        return sgp_v3.AgentResult(action="tool_request", context=sgp_v3.ActionContext(tool_request=wanted))
    return sgp_v3.AgentResult(action="content", context=sgp_v3.ActionContext(content=step.content))


def _sampling(target: Target, body: sgp_v3.CompletionExecute | sgp_v3.ChatCompletionExecute) -> Sampling:
    sampling = views.sampling_of(body.temperature, body.stop_sequences, body.max_tokens)
    return with_sampling(sampling, _bindings(target, body))


def _bindings(target: Target, body: Any) -> Parameters:
    given = body.model_request_parameters
    return bindings_of(target.request_parameters, given.bindings if given else None)


RUNNERS: dict[ModelType, Callable[[Node, Caller, Target, Any], Awaitable[Any]]] = {
    ModelType.COMPLETION: _completion,
    ModelType.CHAT_COMPLETION: _chat,
    ModelType.EMBEDDING: _embedding,
    ModelType.RERANKING: _reranking,
    ModelType.AGENT: _agent,
}
