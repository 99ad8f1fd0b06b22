"""The AGENT model type: one stateless step. The model answers, or asks the caller to run one of its tools."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import ChatRequest, Message, Sampling, Tool, ToolCall, ToolConstraint

DEFAULT_INSTRUCTIONS = (
    "You are an AI assistant that helps users with their questions. You can answer questions directly or acquire "
    "information from any of the attached tools to assist you. Always answer the user's most recent query to the best "
    "of your knowledge.\n\nWhen asked about what tools are available, you must list each attached tool's name and "
    "description. When asked about what you can do, mention that in addition to your normal capabilities, you can "
    "also use the attached tools by listing their names and descriptions. You cannot use any other tools other than "
    "the ones provided to you explicitly."
)
"""What the official clients send when the caller gives no instructions."""


class AgentRequest(Struct, frozen=True, kw_only=True):
    """One step of an agent."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    instructions: str | None = DEFAULT_INSTRUCTIONS
    """None: no instructions at all."""
    last_k: int | None = None
    """Keep only the last k messages, system messages apart."""
    sampling: Sampling = Sampling()
    cache_scope: str = ""


class AgentStep(Struct, frozen=True, kw_only=True):
    """What the agent decided: exactly one of the two is set."""

    content: str | None = None
    tool_request: ToolCall | None = None


def to_chat(request: AgentRequest) -> ChatRequest:
    """The conversation that asks a chat model for the agent's next step. Raises InvalidParameter."""
    check_tool_names(request.tools)
    kept = remember(request.messages, request.last_k)
    if not any(m.role != "system" for m in kept):
        raise InvalidParameter("messages: an agent needs at least one message beside the system's")
    return ChatRequest(
        messages=(*_system(request.instructions, kept), *(m for m in kept if m.role != "system")),
        tools=request.tools,
        sampling=request.sampling,
        constraint=ToolConstraint(tools=request.tools) if request.tools else None,
        cache_scope=request.cache_scope,
    )


def check_tool_names(tools: Sequence[Tool]) -> None:
    """Raise InvalidParameter when two tools bear one name: a call could not say which is meant."""
    names = [tool.name for tool in tools]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidParameter(f"tools: the name '{twice[0]}' is given twice; tool names are unique within a call")


def remember(messages: Sequence[Message], last_k: int | None) -> tuple[Message, ...]:
    """Memory strategy ``last_k``: the last k turns beside the system's, never starting on a tool's orphan answer."""
    system = [m for m in messages if m.role == "system"]
    turns = [m for m in messages if m.role != "system"]
    if last_k is not None:
        turns = turns[-last_k:]
        while len(turns) > 1 and turns[0].role == "tool":
            turns = turns[1:]
    return (*system, *turns)


def step_from(content: str, calls: Sequence[ToolCall]) -> AgentStep:
    """Read the model's answer. A step runs one tool: of several calls the first."""
    if calls:
        return AgentStep(tool_request=calls[0])
    return AgentStep(content=content)


def _system(instructions: str | None, messages: Sequence[Message]) -> tuple[Message, ...]:
    parts = [instructions or "", *(m.content or "" for m in messages if m.role == "system")]
    text = "\n\n".join(part for part in parts if part)
    return (Message(role="system", content=text),) if text else ()
