"""Tools, which of them may be called, and the answer's format, as one constraint. For chats and responses alike."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import Constraint, JsonConstraint, Tool, ToolConstraint
from appliance.lifecycle.agents import check_tool_names


class Choice(Struct, frozen=True, kw_only=True):
    """What the caller says about calling tools."""

    may_call: bool = True
    must_call: bool = False
    names: tuple[str, ...] | None = None
    """Only these; None: all that are offered."""
    is_named: bool = False
    """One tool was named, which is called once."""


def offered(
    tools: Sequence[Tool], choice: Choice, *, parallel: bool, answer: JsonConstraint | None
) -> tuple[tuple[Tool, ...], Constraint | None]:
    """The tools that the model is told of, and what its answer must be. Raises InvalidParameter."""
    check_tool_names(tools)
    if not tools or not choice.may_call:
        if choice.must_call or choice.names:
            raise InvalidParameter("tool_choice asks for a tool call, and no tools are given")
        return (), answer
    allowed = _allowed(tools, choice.names)
    constraint = ToolConstraint(
        tools=allowed,
        required=choice.must_call,
        parallel=parallel and not choice.is_named,
        answer=None if choice.must_call else answer,
    )
    return tuple(tools), constraint


def _allowed(tools: Sequence[Tool], names: tuple[str, ...] | None) -> tuple[Tool, ...]:
    if names is None:
        return tuple(tools)
    known = {tool.name for tool in tools}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidParameter(f"tool_choice names '{unknown[0][:64]}', which is not among the tools")
    return tuple(tool for tool in tools if tool.name in names)
