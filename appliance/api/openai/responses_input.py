"""Bodies of ``/v1/responses`` as the engines want them. Pure; what is not served is refused here, never ignored."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.api import images
from appliance.api.openai import fields, tools
from appliance.api.openai.translate import DEFAULT_TEMPERATURE
from appliance.domain.errors import InvalidParameter, InvalidRequest
from appliance.domain.inference import ChatRequest, Image, JsonConstraint, Message, Sampling, Tool, ToolCall
from appliance.wire import openai_responses as wire

LOGPROBS = "message.output_text.logprobs"
_TEXT_PARTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


def chat_request(body: wire.ResponseCreate, cache_scope: str) -> ChatRequest:
    """The conversation to answer. Raises InvalidParameter, InvalidRequest."""
    fields.check(body)
    text, reasoning = body.text or wire.TextConfig(), body.reasoning or wire.Reasoning()
    fields.check(text, "text.")
    fields.check(reasoning, "reasoning.")
    told, constraint = tools.offered(
        [_tool(index, tool) for index, tool in enumerate(body.tools or ())],
        _choice(body.tool_choice),
        parallel=body.parallel_tool_calls is not False,
        answer=_format(text.format),
    )
    return ChatRequest(
        messages=_conversation(body),
        tools=told,
        sampling=_sampling(body),
        constraint=constraint,
        reasoning_effort=reasoning.effort,
        tells_thoughts=True,
        cache_scope=cache_scope,
    )


def _sampling(body: wire.ResponseCreate) -> Sampling:
    return Sampling(
        temperature=DEFAULT_TEMPERATURE if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        max_tokens=body.max_output_tokens,
        logprobs=(body.top_logprobs or 0) if wants_logprobs(body) else None,
    )


def wants_logprobs(body: wire.ResponseCreate) -> bool:
    """Whether the text is to come with logprobs."""
    return bool(body.top_logprobs) or LOGPROBS in (body.include or ())


# --- tools and format ------------------------------------------------------------------------------------------------


def _tool(index: int, tool: wire.Tool) -> Tool:
    if tool.type != "function":
        raise fields.not_served(f"tools[{index}].type", f"'{tool.type[:32]}' is a hosted tool; offer functions")
    if tool.name is None:
        raise InvalidParameter(f"tools[{index}]: a function needs 'name'")
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return Tool(name=tool.name, description=tool.description or "", parameters=parameters)


def _choice(choice: str | wire.ToolChoice | None) -> tools.Choice:
    if not isinstance(choice, wire.ToolChoice):
        return tools.Choice(may_call=choice != "none", must_call=choice == "required")
    if choice.type == "function":
        if choice.name is None:
            raise InvalidParameter("tool_choice: of type function it needs 'name'")
        return tools.Choice(must_call=True, names=(choice.name,), is_named=True)
    if choice.type == "allowed_tools":
        if choice.mode is None or choice.tools is None:
            raise InvalidParameter("tool_choice: of type allowed_tools it needs 'mode' and 'tools'")
        names = tuple(_name(index, tool) for index, tool in enumerate(choice.tools))
        return tools.Choice(must_call=choice.mode == "required", names=names)
    raise fields.not_served("tool_choice.type", f"'{choice.type[:32]}' is none of ours; function or allowed_tools")


def _name(index: int, tool: wire.NamedTool) -> str:
    if tool.type != "function" or tool.name is None:
        raise fields.not_served(f"tool_choice.tools[{index}]", "only functions, by their names, are")
    return tool.name


def _format(asked: wire.TextFormat | None) -> JsonConstraint | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return JsonConstraint()
    if asked.schema is None:
        raise InvalidParameter("text.format: json_schema needs 'schema'")
    return JsonConstraint(schema=asked.schema)


# --- the conversation ------------------------------------------------------------------------------------------------


def _conversation(body: wire.ResponseCreate) -> tuple[Message, ...]:
    talk = _Talk()
    if body.instructions:
        talk.say("system", body.instructions)
    if isinstance(body.input, str):
        talk.say("user", body.input)
    else:
        for index, item in enumerate(body.input):
            _add(talk, f"input[{index}]", item)
    messages = talk.messages()
    if not messages:
        raise InvalidParameter("input is empty; send a text, or items with at least one message")
    return messages


def _add(talk: _Talk, where: str, item: wire.Item) -> None:
    kind = item.type or ("message" if item.role is not None else "")
    if kind == "message":
        if item.role is None:
            raise InvalidParameter(f"{where}: a message needs 'role'")
        role = "system" if item.role == "developer" else item.role
        talk.say(role, *_content(where, role, item.content))
    elif kind == "function_call":
        if item.name is None or item.call_id is None:
            raise InvalidParameter(f"{where}: a function call needs 'name' and 'call_id'")
        talk.call(ToolCall(id=item.call_id, name=item.name, arguments=item.arguments or "{}"))
    elif kind == "function_call_output":
        if item.call_id is None:
            raise InvalidParameter(f"{where}: a function call's output needs 'call_id'")
        talk.result(item.call_id, _text(where, item.output, "output"))
    elif kind == "reasoning":
        talk.think(_text(where, item.content or item.summary or [], "content"))
    elif kind == "item_reference":
        raise fields.not_served(f"{where}.type", "no item is kept here; send the item itself")
    else:
        raise fields.not_served(
            f"{where}.type",
            f"'{kind[:32]}' is none of ours; send message, function_call, function_call_output or reasoning",
        )


def _content(where: str, role: str, content: str | Sequence[wire.Part] | None) -> tuple[str, tuple[Image, ...]]:
    """A message's content: text, and a user's images."""
    if role != "user" or content is None or isinstance(content, str):
        return _text(where, content, "content"), ()
    return images.content_of([_part(where, part) for part in content])


def _part(where: str, part: wire.Part) -> str | Image:
    if part.type == "input_image" and part.image_url is not None:
        return images.image_of(part.image_url, f"{where}: input_image")
    return _part_text(where, part)


def _text(where: str, content: str | Sequence[wire.Part] | None, name: str) -> str:
    if content is None:
        raise InvalidParameter(f"{where} needs '{name}'")
    if isinstance(content, str):
        return content
    return "".join(_part_text(where, part) for part in content)


def _part_text(where: str, part: wire.Part) -> str:
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in (*_TEXT_PARTS, "refusal") or text is None:
        raise InvalidRequest(
            f"{where}: text is taken here, and a user's images as input_image with a data URL; a part of type "
            f"'{part.type[:32]}' was sent"
        )
    return text


class _Talk:
    """Items become turns: an assistant's thoughts, words and calls are one, as chat templates have them."""

    def __init__(self) -> None:
        self._done: list[Message] = []
        self._thought: str | None = None
        self._text: str | None = None
        self._calls: list[ToolCall] = []
        self._names: dict[str, str] = {}

    def think(self, thought: str) -> None:
        """Thoughts before what follows."""
        self._end_turn()
        self._thought = thought or None

    def say(self, role: str, text: str, pictures: tuple[Image, ...] = ()) -> None:
        """A message."""
        if role != "assistant":
            self._end_turn()
            self._done.append(Message(role=role, content=text, images=pictures))
            return
        if self._text is not None or self._calls:
            self._end_turn()
        self._text = text

    def call(self, call: ToolCall) -> None:
        """A call by the assistant."""
        self._calls.append(call)
        self._names[call.id or ""] = call.name

    def result(self, call_id: str, output: str) -> None:
        """What a call gave."""
        self._end_turn()
        self._done.append(Message(role="tool", content=output, tool_call_id=call_id, name=self._names.get(call_id)))

    def messages(self) -> tuple[Message, ...]:
        """All turns."""
        self._end_turn()
        return tuple(self._done)

    def _end_turn(self) -> None:
        """The assistant's turn under way, if there is one. Thoughts that led to nothing are left out."""
        if self._text is not None or self._calls:
            turn = Message(role="assistant", content=self._text, reasoning=self._thought, tool_calls=tuple(self._calls))
            self._done.append(turn)
        self._thought, self._text, self._calls = None, None, []
