"""Execution: the body's type follows the model's; the answer holds exactly the keys the v3 client knows.

The route is v3's; what runs a body serves async tasks and dialect v4 too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from litestar import Controller, Request, post

from appliance.api.bodies import decode
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.images import text_or_image
from appliance.api.sgp import translate
from appliance.api.streaming import while_connected
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    FinishReason,
    RerankingRequest,
    Sampling,
)
from appliance.domain.models import Caller, ModelType, Parameters
from appliance.engines.tools import parse_tool_calls
from appliance.lifecycle.agents import step_from, to_chat
from appliance.lifecycle.inference import Inference, Target
from appliance.lifecycle.requests import bindings_of, with_sampling
from appliance.lifecycle.schemas import REQUESTS
from appliance.wire import sgp_execute

DIALECT = "sgp_v3"


class ExecuteController(Controller):
    """Run a deployment."""

    path = "/v3/models/{model_id:str}/deployments/{deployment_id:str}"
    tags = ("v3 model deployments",)

    @post("/execute", operation_id="v3ExecuteModelDeployment", status_code=200)
    async def execute(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, model_id: PathId, deployment_id: PathId
    ) -> (
        sgp_execute.CompletionResult
        | sgp_execute.ChatCompletionResult
        | sgp_execute.EmbeddingResult
        | sgp_execute.RerankingResult
        | sgp_execute.AgentResult
    ):
        """Execute; the model's ``request_schema`` describes the body, its ``response_schema`` the answer."""
        target = node.inference.by_id(caller, model_id, deployment_id)
        body = decode(await request.body(), REQUESTS[target.model.model_type])
        work = RUNNERS[target.model.model_type]
        return await while_connected(request, work(node.inference, caller, target, body, DIALECT))


async def _completion(
    inference: Inference, caller: Caller, target: Target, body: sgp_execute.CompletionExecute, dialect: str
) -> sgp_execute.CompletionResult:
    requests = _completion_requests(target, body, caller.account_id)
    execution = await inference.generate(caller, target, requests, model_type=ModelType.COMPLETION, dialect=dialect)
    texts = await execution.texts()
    usage = execution.usage
    cut = any(text.finish_reason is FinishReason.LENGTH for text in texts)
    return sgp_execute.CompletionResult(
        completions=[(prompt, [text.text]) for prompt, text in zip(body.prompts, texts, strict=True)],
        finish_reason="length" if cut else "stop",
        prompt_tokens=usage.prompt_tokens,
        response_tokens=usage.response_tokens,
    )


def _completion_requests(
    target: Target, body: sgp_execute.CompletionExecute, cache_scope: str
) -> list[CompletionRequest]:
    return translate.completion_requests(body, _sampling(target, body), cache_scope)


async def _chat(
    inference: Inference, caller: Caller, target: Target, body: sgp_execute.ChatCompletionExecute, dialect: str
) -> sgp_execute.ChatCompletionResult:
    request = _chat_request(target, body, caller.account_id)
    execution = await inference.generate(
        caller, target, [request], model_type=ModelType.CHAT_COMPLETION, dialect=dialect
    )
    (text,) = await execution.texts()
    return sgp_execute.ChatCompletionResult(
        message=sgp_execute.AssistantMessage(content=text.text), finish_reason=text.finish_reason.value
    )


def _chat_request(target: Target, body: sgp_execute.ChatCompletionExecute, cache_scope: str) -> ChatRequest:
    return translate.chat_request(body, _sampling(target, body), cache_scope)


async def _embedding(
    inference: Inference, caller: Caller, target: Target, body: sgp_execute.EmbeddingExecute, dialect: str
) -> sgp_execute.EmbeddingResult:
    request = _embedding_request(target, body, caller.account_id)
    result = await inference.embed(caller, target, request, dialect=dialect)
    return sgp_execute.EmbeddingResult(
        embeddings=list(zip(body.texts, result.vectors, strict=True)), tokens_used=result.tokens
    )


def _embedding_request(target: Target, body: sgp_execute.EmbeddingExecute, _: str) -> EmbeddingRequest:
    normalize = _bindings(target, body).get("normalize")
    texts = tuple(text_or_image(text, f"texts[{index}]") for index, text in enumerate(body.texts))
    return EmbeddingRequest(texts=texts, normalize=None if normalize is None else bool(normalize))


async def _reranking(
    inference: Inference, caller: Caller, target: Target, body: sgp_execute.RerankingExecute, dialect: str
) -> sgp_execute.RerankingResult:
    request = _reranking_request(target, body, caller.account_id)
    result = await inference.rerank(caller, target, request, dialect=dialect)
    return sgp_execute.RerankingResult(chunk_scores=result.scores, tokens_used=result.tokens)


def _reranking_request(target: Target, body: sgp_execute.RerankingExecute, _: str) -> RerankingRequest:
    _bindings(target, body)
    return RerankingRequest(query=body.query, chunks=tuple(body.chunks))


async def _agent(
    inference: Inference, caller: Caller, target: Target, body: sgp_execute.AgentExecute, dialect: str
) -> sgp_execute.AgentResult:
    return await agent_step(inference, caller, target, _agent_request(target, body, caller.account_id), dialect)


async def agent_step(
    inference: Inference, caller: Caller, target: Target, request: ChatRequest, dialect: str
) -> sgp_execute.AgentResult:
    """Ask for an agent's next step, and read what it wants."""
    execution = await inference.generate(caller, target, [request], model_type=ModelType.AGENT, dialect=dialect)
    (text,) = await execution.texts()
    step = step_from(*parse_tool_calls(text.text))
    if step.tool_request is not None:
        wanted = sgp_execute.ToolRequest(name=step.tool_request.name, arguments=step.tool_request.arguments)
        return sgp_execute.AgentResult(action="tool_request", context=sgp_execute.ActionContext(tool_request=wanted))
    return sgp_execute.AgentResult(action="content", context=sgp_execute.ActionContext(content=step.content))


def _agent_request(target: Target, body: sgp_execute.AgentExecute, cache_scope: str) -> ChatRequest:
    sampling = with_sampling(translate.sampling_of(None, None, None), _bindings(target, body))
    return to_chat(translate.agent_request(body, sampling, cache_scope))


def _sampling(target: Target, body: sgp_execute.CompletionExecute | sgp_execute.ChatCompletionExecute) -> Sampling:
    sampling = translate.sampling_of(body.temperature, body.stop_sequences, body.max_tokens)
    return with_sampling(sampling, _bindings(target, body))


def _bindings(target: Target, body: Any) -> Parameters:
    given = body.model_request_parameters
    return bindings_of(target.request_parameters, given.bindings if given else None)


Runner: TypeAlias = Callable[[Inference, Caller, Target, Any, str], Awaitable[Any]]

RUNNERS: dict[ModelType, Runner] = {
    ModelType.COMPLETION: _completion,
    ModelType.CHAT_COMPLETION: _chat,
    ModelType.EMBEDDING: _embedding,
    ModelType.RERANKING: _reranking,
    ModelType.AGENT: _agent,
}
"""Answer a body of the model's type."""

REQUESTS_OF: dict[ModelType, Callable[[Target, Any, str], Any]] = {
    ModelType.COMPLETION: _completion_requests,
    ModelType.CHAT_COMPLETION: _chat_request,
    ModelType.EMBEDDING: _embedding_request,
    ModelType.RERANKING: _reranking_request,
    ModelType.AGENT: _agent_request,
}
"""A body as the engines want it, which shows whether it is sound."""
