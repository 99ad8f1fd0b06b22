"""Ollama's bodies as the engines want them. Pure; what is not served is refused here, never ignored."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from appliance.api.images import content_of, image_of
from appliance.domain.errors import InvalidParameter, InvalidRequest, Unsupported
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
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
from appliance.wire import ollama as wire

DEFAULT_TEMPERATURE = 0.8
DEFAULT_TOP_K = 40
DEFAULT_TOP_P = 0.9
WHOLE_CONTEXT = -1
"""``repeat_last_n``: the penalty looks at everything, as it does here."""

_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)?((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*")
_NOTHING = re.compile(r"[-+]?([0.]+(ns|us|µs|ms|s|m|h)?)+")


def sampling_of(body: wire.ChatCreate | wire.GenerateCreate) -> Sampling:
    """The sampling of a request, with Ollama's defaults. Raises InvalidParameter, Unsupported."""
    options = body.options or wire.Options()
    _refuse_unserved(options)
    if body.top_logprobs and not body.logprobs:
        raise InvalidParameter("top_logprobs needs logprobs: true")
    return Sampling(
        temperature=_or(options.temperature, DEFAULT_TEMPERATURE),
        max_tokens=options.num_predict if (options.num_predict or 0) > 0 else None,
        stop=(options.stop,) if isinstance(options.stop, str) else tuple(options.stop or ()),
        top_k=int(_or(options.top_k, DEFAULT_TOP_K)),
        top_p=_or(options.top_p, DEFAULT_TOP_P),
        min_p=options.min_p or 0.0,
        repetition_penalty=1.0 if options.repeat_last_n == 0 else _or(options.repeat_penalty, 1.0),
        frequency_penalty=options.frequency_penalty or 0.0,
        presence_penalty=options.presence_penalty or 0.0,
        seed=options.seed if options.seed != -1 else None,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _or(given: float | None, default: float) -> float:
    return default if given is None else given


def _refuse_unserved(options: wire.Options) -> None:
    """Ways to sample that no engine here has, unless they are off."""
    off = {
        "mirostat": options.mirostat in (None, 0),
        "typical_p": options.typical_p in (None, 1),
        "tfs_z": options.tfs_z in (None, 1),
        "penalize_newline": options.penalize_newline is not False,
    }
    for name, is_off in off.items():
        if not is_off:
            _unserved(f"options.{name}", "it is not served; leave it out")
    if options.repeat_penalty not in (None, 1) and options.repeat_last_n not in (None, 0, WHOLE_CONTEXT):
        _unserved("options.repeat_last_n", "repeat_penalty looks at all of prompt and answer here; leave it out")


def _unserved(name: str, why: str) -> None:
    raise Unsupported(f"{name}: {why}", errors=[(("body", *name.split(".")), why)])


def chat_request(body: wire.ChatCreate, cache_scope: str) -> ChatRequest:
    """A conversation. Raises InvalidRequest, InvalidParameter, Unsupported."""
    tools = tuple(_tool(tool) for tool in body.tools or ())
    check_tool_names(tools)
    names: dict[str, str] = {}
    messages = tuple(_message(index, message, names) for index, message in enumerate(body.messages or ()))
    return _chat(body, messages, tools, cache_scope)


def generate_request(
    body: wire.GenerateCreate, cache_scope: str, *, has_template: bool
) -> ChatRequest | CompletionRequest:
    """A prompt as it is (``raw``, or weights without a chat template), or as a user's turn.

    Raises InvalidRequest, InvalidParameter, Unsupported.
    """
    if body.suffix:
        _unserved("suffix", "this model does not support insert; write the text around the gap into a raw prompt")
    if body.template:
        _unserved("template", "templates in Go's language are not served; send the finished prompt with raw: true")
    if body.context:
        _unserved("context", "conversations are not kept as tokens; send the messages to /api/chat")
    if body.raw and body.system:
        raise InvalidRequest("raw: a raw prompt takes no system text; write it into the prompt")
    if body.images and (body.raw or not has_template):
        raise InvalidRequest("images: a prompt that goes to the model as it is has no place for them; leave them out")
    if body.raw or not (has_template or body.system):
        if body.think:
            raise InvalidRequest("think: a prompt that goes to the model as it is switches nothing; leave think out")
        return CompletionRequest(
            prompt=body.prompt or "",
            sampling=sampling_of(body),
            constraint=_format(body),
            context_tokens=_context(body),
            cache_scope=cache_scope,
        )
    system = (Message(role="system", content=body.system),) if body.system else ()
    content, images = _content("images", body.prompt or "", body.images)
    return _chat(body, (*system, Message(role="user", content=content, images=images)), (), cache_scope)


def _chat(
    body: wire.ChatCreate | wire.GenerateCreate, messages: tuple[Message, ...], tools: tuple[Tool, ...], scope: str
) -> ChatRequest:
    return ChatRequest(
        messages=messages,
        tools=tools,
        sampling=sampling_of(body),
        constraint=_constraint(body, tools),
        template_arguments={"enable_thinking": True} if body.think is True else {},
        reasoning_effort="none" if body.think is False else body.think if isinstance(body.think, str) else None,
        tells_thoughts=True,
        context_tokens=_context(body),
        cache_scope=scope,
    )


def _context(body: wire.ChatCreate | wire.GenerateCreate) -> int | None:
    return body.options.num_ctx if body.options is not None else None


# --- messages and tools ----------------------------------------------------------------------------------------------


def _message(index: int, message: wire.Message, names: dict[str, str]) -> Message:
    where = f"messages[{index}]"
    calls = tuple(_call(call) for call in message.tool_calls or ())
    names.update({call.id: call.name for call in calls if call.id is not None})
    name = message.tool_name or message.name or names.get(message.tool_call_id or "")
    if message.role == "tool" and not name and not message.tool_call_id:
        raise InvalidParameter(f"{where}: a tool message needs 'tool_name'")
    if message.content is None and not calls and not message.images:
        raise InvalidParameter(f"{where}: a {message.role} message needs 'content'")
    content, images = _content(f"{where}.images", message.content, message.images)
    return Message(
        role=message.role,
        content=content,
        images=images,
        name=name,
        tool_calls=calls,
        tool_call_id=message.tool_call_id,
        reasoning=message.thinking or None,
    )


def _call(call: wire.ToolCall) -> ToolCall:
    arguments = json.dumps(call.function.arguments or {}, ensure_ascii=False)
    return ToolCall(id=call.id, name=call.function.name, arguments=arguments)


def _content(where: str, text: str | None, sent: Sequence[str] | None) -> tuple[str | None, tuple[Image, ...]]:
    """The dialect has images beside the text; they are put before it, where models are used to have them."""
    if not sent:
        return text, ()
    images = [image_of(each, f"{where}[{index}]", bare=True) for index, each in enumerate(sent)]
    return content_of([*images, *([text] if text else [])], "\n")


def _tool(tool: wire.Tool) -> Tool:
    function = tool.function
    parameters = function.parameters or {"type": "object", "properties": {}}
    return Tool(name=function.name, description=function.description or "", parameters=parameters)


def _constraint(body: wire.ChatCreate | wire.GenerateCreate, tools: tuple[Tool, ...]) -> Constraint | None:
    answer_format = _format(body)
    if not tools:
        return answer_format
    loose = tuple(tool.name for tool in tools)
    return ToolConstraint(tools=tools, parallel=True, loose=loose, answer=answer_format)


def _format(body: wire.ChatCreate | wire.GenerateCreate) -> JsonConstraint | None:
    if not body.format:
        return None
    return JsonConstraint() if body.format == "json" else JsonConstraint(schema=dict(body.format))


# --- residency -------------------------------------------------------------------------------------------------------


def leaves_at_once(keep_alive: wire.KeepAlive | None) -> bool:
    """Whether the model is to leave memory after this. Raises InvalidParameter for what is no duration."""
    if not isinstance(keep_alive, str):
        return keep_alive == 0 and keep_alive is not None
    if not _DURATION.fullmatch(keep_alive):
        raise InvalidParameter(
            f"keep_alive: '{keep_alive}' is no duration; send seconds, or text like '10m' or '1h30m'"
        )
    return _NOTHING.fullmatch(keep_alive) is not None
