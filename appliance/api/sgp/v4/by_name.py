"""Dialect v4: completions, chat completions and agents of models called by name."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import TheCaller, TheNode
from appliance.api.sgp.execute import agent_step
from appliance.api.sgp.translate import agent_request, asked, refuse_images, token_usage
from appliance.api.sgp.v4.pieces import named_chat_events, named_completion_events
from appliance.api.sgp.v4.translate import conversation, named_sampling, plain, with_template
from appliance.api.streaming import EventStream, while_connected
from appliance.domain.inference import ChatRequest
from appliance.domain.models import Caller, ModelType
from appliance.lifecycle.agents import to_chat
from appliance.lifecycle.node import Node
from appliance.wire import sgp_execute, sgp_v2
from appliance.wire import sgp_v4_execute as wire

DIALECT = "sgp_v4"
TAGS = ["v4 built-in models by name"]


@post("/v4/completions", operation_id="v4CreateCompletion", status_code=200, tags=TAGS)
async def create_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.CompletionRequest]
) -> Response[sgp_v2.CompletionResponse] | Stream:
    """Complete a prompt by a model's name; `stream` true sends the pieces as they come."""
    refuse_images(data.model, data.images)
    caller = node.keys.select_account(caller, data.account_id)
    target = node.inference.by_name(caller, data.model)
    completion = with_template(
        asked(target, data.prompt, named_sampling(data.model_parameters), caller.account_id),
        effort=_effort(data.model_parameters),
    )
    work = node.inference.generate(caller, target, [completion], model_type=ModelType.COMPLETION, dialect=DIALECT)
    execution = await while_connected(request, work)
    if data.stream:
        return EventStream.of(request, execution, named_completion_events(execution, data.prompt))
    (text,) = await while_connected(request, execution.texts())
    answer = sgp_v2.CompletionResponse(
        completion=sgp_v2.Completion(text=text.text, finish_reason=text.finish_reason.value),
        token_usage=token_usage(execution.usage),
    )
    return Response(answer, status_code=200)


@post("/v4/chat-completions", operation_id="v4CreateChatCompletion", status_code=200, tags=TAGS)
async def create_chat_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChatCompletionRequest]
) -> Response[wire.ChatCompletionResponse] | Stream:
    """Answer a conversation by a model's name; `stream` true sends the pieces as they come."""
    return await _chat(request, node, caller, data, DIALECT)


@post("/v4/agents/execute", operation_id="v4ExecuteAgent", status_code=200, tags=TAGS)
async def execute_agent(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.AgentRequest]
) -> sgp_execute.AgentResult:
    """One step of an agent by a model's name: an answer, or one of the caller's tools to run."""
    return await _agent(request, node, caller, data, DIALECT)


@post("/egp/v1/chat-completions", operation_id="egpV1CreateChatCompletion", status_code=200, tags=TAGS)
async def create_chat_completion_egp_v1(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChatCompletionRequest]
) -> Response[wire.ChatCompletionResponse] | Stream:
    """Answer a conversation, under the older prefix; `model` and `messages` are enough."""
    return await _chat(request, node, caller, data, "egp_v1")


@post("/egp/v1/agents/execute", operation_id="egpV1ExecuteAgent", status_code=200, tags=TAGS)
async def execute_agent_egp_v1(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.AgentRequest]
) -> sgp_execute.AgentResult:
    """One step of an agent, under the older prefix."""
    return await _agent(request, node, caller, data, "egp_v1")


async def _chat(
    request: Request[Any, Any, Any], node: Node, caller: Caller, body: wire.ChatCompletionRequest, dialect: str
) -> Response[wire.ChatCompletionResponse] | Stream:
    caller = node.keys.select_account(caller, body.account_id)
    target = node.inference.by_name(caller, body.model)
    messages = conversation(body)
    chat = ChatRequest(messages=messages, sampling=named_sampling(body.model_parameters), cache_scope=caller.account_id)
    chat = with_template(chat, chat_template=body.chat_template, effort=_effort(body.model_parameters))
    work = node.inference.generate(caller, target, [chat], model_type=ModelType.CHAT_COMPLETION, dialect=dialect)
    execution = await while_connected(request, work)
    if body.stream:
        return EventStream.of(request, execution, named_chat_events(execution, messages[-1].content or ""))
    (text,) = await while_connected(request, execution.texts())
    answer = wire.ChatCompletion(
        message=sgp_execute.AssistantMessage(content=text.text), finish_reason=text.finish_reason.value
    )
    return Response(
        wire.ChatCompletionResponse(chat_completion=answer, token_usage=token_usage(execution.usage)), status_code=200
    )


async def _agent(
    request: Request[Any, Any, Any], node: Node, caller: Caller, body: wire.AgentRequest, dialect: str
) -> sgp_execute.AgentResult:
    caller = node.keys.select_account(caller, body.account_id)
    target = node.inference.by_name(caller, body.model)
    executed = sgp_execute.AgentExecute(
        messages=plain(body.messages),
        tools=body.tools,
        instructions=body.instructions,
        memory_strategy=body.memory_strategy,
    )
    step = to_chat(agent_request(executed, named_sampling(body.model_parameters), caller.account_id))
    step = with_template(step, effort=_effort(body.model_parameters))
    return await while_connected(request, agent_step(node.inference, caller, target, step, dialect))


def _effort(given: wire.ModelParameters | None) -> str | None:
    return given.reasoning_effort if given else None
