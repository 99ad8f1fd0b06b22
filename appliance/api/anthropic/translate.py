"""Bodies of the Messages dialect as the engines want them. Pure; what is not served is refused here, never ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from appliance.api.images import content_of, image_of
from appliance.domain.errors import InvalidParameter, InvalidRequest, Unsupported
from appliance.domain.inference import (
    ChatRequest,
    Constraint,
    Image,
    JsonConstraint,
    Message,
    Sampling,
    Tool,
    ToolCall,
    ToolConstraint,
)
from appliance.lifecycle.agents import check_tool_names
from appliance.wire import anthropic as wire

DEFAULT_TEMPERATURE = 1.0
BETWEEN_BLOCKS = "\n\n"
"""Blocks that stand beside each other, and turns of one role, become one text."""
EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""As chat templates know them."""


def sampling_of(body: wire.MessageCreate) -> Sampling:
    """The sampling of a request; the dialect's default temperature is 1."""
    return Sampling(
        temperature=DEFAULT_TEMPERATURE if body.temperature is None else body.temperature,
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
        top_k=body.top_k or 0,
        top_p=1.0 if body.top_p is None else body.top_p,
    )


def may_call(body: wire.MessageCreate | wire.TokensCount) -> bool:
    """Whether the model is offered tools; else what looks like a call is text."""
    return bool(body.tools) and (body.tool_choice is None or body.tool_choice.type != "none")


def chat_request(
    body: wire.MessageCreate | wire.TokensCount, cache_scope: str, sampling: Sampling | None = None
) -> ChatRequest:
    """The conversation. Raises InvalidRequest, InvalidParameter."""
    _refuse_unserved(body)
    offered = tuple(_tool(index, tool) for index, tool in enumerate(body.tools or ()))
    check_tool_names(offered)
    tools = offered if may_call(body) else ()
    constraint = _constraint(body, tools)
    messages = tuple(_messages(body))
    continues = messages[-1].role == "assistant"
    if continues:
        _check_beginning(messages[-1], constraint)
    return ChatRequest(
        messages=messages,
        tools=tools,
        sampling=sampling or Sampling(),
        constraint=constraint,
        template_arguments=_template_arguments(body),
        reasoning_effort=_effort(body),
        tells_thoughts=True,
        continues_last=continues,
        cache_scope=cache_scope,
    )


# --- what is not served ----------------------------------------------------------------------------------------------


UNSERVED = {
    "thread": "conversations are not kept here; send all of the messages",
    "container": "no code is run here; leave it out",
    "mcp_servers": "no server is called from here; call it yourself and offer its tools",
    "compaction": "conversations are not summarised here; ask for a summary in words",
}


def _refuse_unserved(body: wire.MessageCreate | wire.TokensCount) -> None:
    for name, why in UNSERVED.items():
        if getattr(body, name, None):
            raise Unsupported(f"{name}: {why}", errors=[(("body", name), why)])
    for edit in (body.context_management.edits or ()) if body.context_management else ():
        if not (edit.type.startswith("clear_thinking") and edit.keep == "all"):
            raise InvalidRequest(
                f"context_management: '{edit.type}' would leave something out of the conversation, and nothing is left "
                "out here; a prompt that is too long is refused with the numbers"
            )


# --- the conversation ------------------------------------------------------------------------------------------------


def _messages(body: wire.MessageCreate | wire.TokensCount) -> Iterator[Message]:
    """The turns, those of one role after another joined; results of tools become turns of their own."""
    names: dict[str, str] = {}
    turns = [Message(role="system", content=_text("system", body.system))] if body.system else []
    for index, message in enumerate(body.messages):
        turns += _turns(index, message, names)
    for role, group in groupby(turns, key=lambda turn: turn.role):
        same = list(group)
        if role == "tool" or len(same) == 1:
            yield from same
        else:
            yield _joined(same)


def _joined(turns: Sequence[Message]) -> Message:
    return Message(
        role=turns[0].role,
        content=BETWEEN_BLOCKS.join(turn.content for turn in turns if turn.content) or None,
        tool_calls=tuple(call for turn in turns for call in turn.tool_calls),
        reasoning=BETWEEN_BLOCKS.join(turn.reasoning for turn in turns if turn.reasoning) or None,
        images=tuple(image for turn in turns for image in turn.images),
    )


def _turns(index: int, message: wire.Message, names: dict[str, str]) -> list[Message]:
    where = f"messages[{index}]"
    if message.role == "assistant":
        return [_assistant(where, message.content, names)]
    if isinstance(message.content, str) or message.role == "system":
        return [Message(role=message.role, content=_text(where, message.content))]
    results = [_result(where, block, names) for block in message.content if block.type == "tool_result"]
    rest = [block for block in message.content if block.type != "tool_result"]
    return [*results, _said(where, rest)] if rest or not results else results


def _said(where: str, blocks: Sequence[wire.Block]) -> Message:
    """A user's texts and images."""
    parts = [_image(where, block) if block.type == "image" else _text(where, [block]) for block in blocks]
    if not parts:
        raise InvalidParameter(f"{where}: the content is empty; give some text")
    text, images = content_of(parts, BETWEEN_BLOCKS)
    return Message(role="user", content=text, images=images)


def _image(where: str, block: wire.Block) -> Image:
    try:
        source = msgspec.convert(block.source, wire.Source)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{where}: a block of type 'image' needs 'source': {error}") from None
    if source.type == "base64" and source.data is not None:
        return image_of(f"data:{source.media_type or 'image/png'};base64,{source.data}", f"{where}: image")
    if source.type == "url" and source.url is not None:
        return image_of(source.url, f"{where}: image")
    raise InvalidRequest(
        f"{where}: an image's source of type '{source.type}' is not served; send type base64 with media_type and data"
    )


def _assistant(where: str, content: str | list[wire.Block], names: dict[str, str]) -> Message:
    if isinstance(content, str):
        return Message(role="assistant", content=content)
    calls = [_call(where, block) for block in content if block.type == "tool_use"]
    names.update({call.id: call.name for call in calls if call.id is not None})
    thoughts = [block.thinking or "" for block in content if block.type == "thinking"]
    said = [block for block in content if block.type not in ("tool_use", "thinking")]
    if not calls and not said:
        raise InvalidParameter(f"{where}: an assistant message needs text or a tool_use block")
    return Message(
        role="assistant",
        content=_text(where, said) if said else None,
        tool_calls=tuple(calls),
        reasoning=BETWEEN_BLOCKS.join(thoughts) or None,
    )


def _call(where: str, block: wire.Block) -> ToolCall:
    if not block.id or not block.name or block.input is None:
        raise InvalidParameter(f"{where}: a tool_use block needs 'id', 'name' and 'input'")
    return ToolCall(id=block.id, name=block.name, arguments=json.dumps(block.input, ensure_ascii=False))


def _result(where: str, block: wire.Block, names: dict[str, str]) -> Message:
    if not block.tool_use_id:
        raise InvalidParameter(f"{where}: a tool_result block needs 'tool_use_id'")
    name = names.get(block.tool_use_id)
    if name is None:
        raise InvalidRequest(f"{where}: no tool_use block before it has the id '{block.tool_use_id[:64]}'")
    text, images = _result_content(where, block.content or "")
    # the roles of chat templates have no place for "it failed"; models are told in words
    content = f"Error: {text}" if block.is_error else text
    return Message(role="tool", content=content, name=name, tool_call_id=block.tool_use_id, images=images)


def _result_content(where: str, content: str | Sequence[wire.Block]) -> tuple[str, tuple[Image, ...]]:
    if isinstance(content, str) or not any(block.type == "image" for block in content):
        return _text(where, content), ()
    said = _said(where, content)
    return said.content or "", said.images


def _text(where: str, content: str | Sequence[wire.Block]) -> str:
    """The text of blocks. Raises InvalidRequest for what is no text."""
    if isinstance(content, str):
        return content
    if not content:
        raise InvalidParameter(f"{where}: the content is empty; give some text")
    for block in content:
        if block.type in ("thinking", "redacted_thinking"):
            raise InvalidRequest(f"{where}: a block of type '{block.type}' cannot be read here; leave it out")
        if block.type != "text":
            raise InvalidRequest(
                f"{where}: a block of type '{block.type}' cannot be read here; send its text, or an image"
            )
        if block.text is None:
            raise InvalidParameter(f"{where}: a text block needs 'text'")
    return BETWEEN_BLOCKS.join(block.text or "" for block in content)


def _check_beginning(last: Message, constraint: Constraint | None) -> None:
    """The answer begins with what the last message says. Raises InvalidRequest."""
    if last.tool_calls:
        raise InvalidRequest("messages: the last message calls tools; add their results as tool_result blocks")
    text = last.content or ""
    if text != text.rstrip() or not text:
        raise InvalidRequest(
            "messages: the last assistant message is the beginning of the answer, and must end in something else than "
            "a blank"
        )
    if isinstance(constraint, JsonConstraint) or (isinstance(constraint, ToolConstraint) and constraint.answer):
        raise InvalidRequest(
            "messages: an answer that follows output_config.format cannot be begun; end with a user message"
        )


# --- tools and formats -----------------------------------------------------------------------------------------------


def _tool(index: int, tool: wire.Tool) -> Tool:
    if tool.type not in (None, "custom"):
        raise InvalidRequest(
            f"tools[{index}]: '{tool.type}' is a tool of Anthropic's own service and models; offer one of yours with "
            "an input_schema"
        )
    if tool.defer_loading:
        raise InvalidRequest(f"tools[{index}]: there is no search among tools here; leave defer_loading out")
    if tool.input_schema is None:
        raise InvalidParameter(f"tools[{index}]: a tool needs 'input_schema'")
    examples = "".join(f"\n{json.dumps(example, ensure_ascii=False)}" for example in tool.input_examples or ())
    description = (tool.description or "") + (f"\n\nExamples of its input:{examples}" if examples else "")
    return Tool(name=tool.name, description=description.lstrip(), parameters=tool.input_schema)


def _constraint(body: wire.MessageCreate | wire.TokensCount, tools: tuple[Tool, ...]) -> Constraint | None:
    answer = _format(body)
    choice = body.tool_choice or wire.ToolChoice(type="auto")
    if not tools:
        if choice.type in ("any", "tool"):
            raise InvalidParameter("tool_choice asks for a tool call, and no tools are given")
        return answer
    loose = tuple(tool.name for tool in body.tools or () if not tool.strict)
    parallel = not choice.disable_parallel_tool_use
    if choice.type == "tool":
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        if not tools:
            raise InvalidParameter(f"tool_choice names '{(choice.name or '')[:64]}', which is not among the tools")
    required = choice.type in ("any", "tool")
    return ToolConstraint(tools=tools, required=required, parallel=parallel, loose=loose, answer=answer)


def _format(body: wire.MessageCreate | wire.TokensCount) -> JsonConstraint | None:
    asked = (body.output_config.format if body.output_config else None) or body.output_format
    return JsonConstraint(schema=asked.schema) if asked is not None else None


# --- thinking --------------------------------------------------------------------------------------------------------


def _effort(body: wire.MessageCreate | wire.TokensCount) -> str | None:
    if body.thinking is not None and body.thinking.type == "disabled":
        return "none"
    effort = body.output_config.effort if body.output_config else None
    return EFFORTS[effort] if effort is not None else None


def _template_arguments(body: wire.MessageCreate | wire.TokensCount) -> dict[str, Any]:
    """Templates that can switch thoughts on know this name; others do not look at it."""
    return {"enable_thinking": True} if body.thinking is not None and body.thinking.type != "disabled" else {}
