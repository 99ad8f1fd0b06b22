"""SGP's requests as the engines want them, for every dialect of SGP. Pure translation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from appliance.domain.errors import InvalidParameter, InvalidRequest
from appliance.domain.inference import ChatRequest, CompletionRequest, Message, Sampling, Tool, ToolCall, Usage
from appliance.domain.models import ModelType
from appliance.lifecycle.agents import DEFAULT_INSTRUCTIONS, AgentRequest
from appliance.lifecycle.inference import Target
from appliance.wire import sgp_execute, sgp_v2

DEFAULT_TEMPERATURE = 0.2


def sampling_of(temperature: float | None, stop_sequences: Sequence[str] | None, max_tokens: int | None) -> Sampling:
    """SGP's three sampling keys; null and absent mean the default."""
    return Sampling(
        temperature=DEFAULT_TEMPERATURE if temperature is None else temperature,
        stop=tuple(stop_sequences or ()),
        max_tokens=max_tokens,
    )


def completion_requests(
    body: sgp_execute.CompletionExecute, sampling: Sampling, cache_scope: str
) -> list[CompletionRequest]:
    """One request per prompt."""
    return [CompletionRequest(prompt=prompt, sampling=sampling, cache_scope=cache_scope) for prompt in body.prompts]


def chat_request(body: sgp_execute.ChatCompletionExecute, sampling: Sampling, cache_scope: str) -> ChatRequest:
    """A conversation."""
    return ChatRequest(messages=messages_of(body.messages), sampling=sampling, cache_scope=cache_scope)


def agent_request(body: sgp_execute.AgentExecute, sampling: Sampling, cache_scope: str) -> AgentRequest:
    """One step of an agent. Absent instructions are the default ones, null is none at all."""
    return AgentRequest(
        messages=messages_of(body.messages),
        tools=tuple(_tool(tool) for tool in body.tools),
        instructions=_instructions(body.instructions),
        last_k=body.memory_strategy.params.k if body.memory_strategy else None,
        sampling=sampling,
        cache_scope=cache_scope,
    )


def messages_of(messages: Sequence[sgp_execute.Message]) -> tuple[Message, ...]:
    """SGP turns; an ``agent`` turn is the assistant's. Raises InvalidParameter naming a turn without its fields."""
    return tuple(_message(index, message) for index, message in enumerate(messages))


def _message(index: int, message: sgp_execute.Message) -> Message:
    if message.role == "tool":
        if not message.name or message.content is None:
            raise InvalidParameter(f"messages[{index}]: a tool message needs 'name' and 'content'")
        return Message(role="tool", name=message.name, content=message.content)
    if message.role == "agent" and message.tool_request is not None:
        call = ToolCall(name=message.tool_request.name, arguments=message.tool_request.arguments)
        return Message(role="assistant", content=message.content, tool_calls=(call,))
    if message.content is None:
        raise InvalidParameter(f"messages[{index}]: a {message.role} message needs 'content'")
    return Message(role="assistant" if message.role == "agent" else message.role, content=message.content)


def _tool(tool: sgp_execute.Tool) -> Tool:
    properties: dict[str, Any] = {
        name: {"type": value.type, "description": value.description}
        for name, value in tool.arguments.properties.items()
    }
    # v3 tools cannot say what is required, so every argument is; v4 says it.
    required = list(properties) if tool.arguments.required is None else tool.arguments.required
    parameters = {"type": "object", "properties": properties, "required": required}
    return Tool(name=tool.name, description=tool.description, parameters=parameters)


def _instructions(given: str | UnsetType | None) -> str | None:
    return DEFAULT_INSTRUCTIONS if given is UNSET else given


def asked(target: Target, prompt: str, sampling: Sampling, cache_scope: str) -> CompletionRequest | ChatRequest:
    """The prompt as the model expects it: for a chat model a user's turn, because a bare text it may just end."""
    if target.model.model_type is ModelType.COMPLETION:
        return CompletionRequest(prompt=prompt, sampling=sampling, cache_scope=cache_scope)
    return ChatRequest(messages=(Message(role="user", content=prompt),), sampling=sampling, cache_scope=cache_scope)


def refuse_images(model: str, images: Sequence[object] | None) -> None:
    """Raise InvalidRequest when there are any."""
    if images:
        raise InvalidRequest(
            f"'{model}' takes text only in this dialect, and {len(images)} image(s) were sent; leave them out, or ask "
            "a model that reads images at /v1/chat/completions"
        )


def token_usage(usage: Usage) -> sgp_v2.TokenUsage:
    """Tokens of a call, as the routes by name count them."""
    return sgp_v2.TokenUsage(
        total=usage.prompt_tokens + usage.response_tokens, prompt=usage.prompt_tokens, completion=usage.response_tokens
    )
