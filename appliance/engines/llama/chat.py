"""From a conversation to the prompt text that the model was trained to answer.

Called off the event loop. Messages become the dictionaries that templates written for transformers expect. Weights
without a template get a plain one; a template that knows nothing of tools, or writes calls in another form than the one
that is forced and read here, gets them described in the system turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from appliance.domain.errors import InvalidParameter, Unsupported
from appliance.domain.inference import ChatRequest, Message, Tool, ToolCall
from appliance.engines.llama.grammar import Thoughts
from appliance.engines.llama.jinja import render
from appliance.engines.parts import THOUGHT_CLOSING, THOUGHT_OPENING
from appliance.engines.tools import CLOSING, OPENING

PLAIN_TEMPLATE = """\
{%- for message in messages -%}
{{- message.role | capitalize + ': ' + (message.content or '') + '\\n\\n' -}}
{%- endfor -%}
{{- 'Assistant:' if add_generation_prompt else '' -}}"""
"""For weights that bring no template: ``Role: text`` paragraphs."""

_TOOLS_SECTION = """\
You may call one or more functions to assist with the user's query. The functions are:
<tools>
{listing}
</tools>

To call a function, answer with its name and arguments as JSON between marks and nothing else:
{opening}
{{"name": <function>, "arguments": <object>}}
{closing}"""

_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})

_QUOTED_ARGUMENTS = re.compile(r"""["']arguments\\?["']|\\"arguments""")
"""In a template that writes calls as JSON with a name and arguments."""
_SWITCHES = ("enable_thinking", "reasoning_effort")

Turn = dict[str, Any]


class Marks(Struct, frozen=True):
    """Texts of the tokens that begin and end a document; templates write them."""

    bos: str = ""
    eos: str = ""


def prompt_text(request: ChatRequest, template: str | None, marks: Marks) -> str:
    """The prompt. Raises InvalidParameter when the template cannot render it."""
    source = source_of(request, template)
    reserved = sorted(_RESERVED & request.template_arguments.keys())
    if reserved:
        raise InvalidParameter(f"template_arguments: '{reserved[0]}' is set by the server")
    turns = [_turn(message) for message in request.messages]
    tools = [_tool(tool) for tool in request.tools]
    if tools and not _tells_tools(source):
        turns, tools = _with_tools_described(turns, tools), []
    variables = {
        **_effort(request, source),
        **request.template_arguments,
        "messages": turns,
        "tools": tools or None,
        "add_generation_prompt": not request.continues_last,
        "bos_token": marks.bos,
        "eos_token": marks.eos,
    }
    text = render(source, variables)
    return _up_to_last(text, request.messages[-1]) if request.continues_last else text


def _up_to_last(text: str, last: Message) -> str:
    """The prompt without what the template writes behind the last message. Raises InvalidParameter."""
    beginning = (last.content or "").strip()
    place = text.rfind(beginning) if beginning and last.role == "assistant" and not last.tool_calls else -1
    if place < 0:
        raise InvalidParameter(
            "messages: the last message cannot be continued: it is no assistant's text, or the model's chat template "
            "writes it otherwise; leave it out"
        )
    return text[:place] + (last.content or "").lstrip()


def _marks_thoughts(source: str) -> bool:
    return THOUGHT_OPENING in source or THOUGHT_CLOSING in source


def _effort(request: ChatRequest, source: str) -> Turn:
    """The template's switches for thinking. Raises Unsupported for a model that thinks and has none."""
    effort = request.reasoning_effort
    if effort is None or not (_marks_thoughts(source) or any(name in source for name in _SWITCHES)):
        return {}  # a model that does not think can do it with any effort
    if not any(name in source for name in _SWITCHES):
        raise Unsupported(
            f"reasoning_effort: '{effort[:32]}' cannot be had, this model always thinks as much as it does: "
            "its chat template has no switch for it; leave the field out"
        )
    return {"reasoning_effort": effort, "enable_thinking": effort != "none"}


def source_of(request: ChatRequest, template: str | None) -> str:
    """The Jinja source: the request's own, else the weights', else a plain one."""
    return request.chat_template or template or PLAIN_TEMPLATE


def thoughts_of(prompt: str, source: str) -> Thoughts:
    """Whether an answer to this prompt begins with thoughts, as far as the template marks them."""
    if prompt.rstrip().endswith(THOUGHT_OPENING):
        return Thoughts.OPEN
    if not _marks_thoughts(source) or prompt.rstrip().endswith(THOUGHT_CLOSING):
        return Thoughts.NONE
    return Thoughts.MAY


def _tells_tools(source: str) -> bool:
    """Whether the template describes tools, and does not make the model write calls in a form that is not read here."""
    if "tools" not in source:
        return False
    return "tool_calls" not in source or (OPENING in source and _QUOTED_ARGUMENTS.search(source) is not None)


def _turn(message: Message) -> Turn:
    turn: Turn = {"role": message.role, "content": message.content or ""}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning is not None:
        turn["reasoning_content"] = message.reasoning
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    return turn


def _call(call: ToolCall) -> Turn:
    try:
        arguments = json.loads(call.arguments)
    except ValueError as error:
        raise InvalidParameter(f"messages: the arguments of a call of '{call.name}' are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise InvalidParameter(f"messages: the arguments of a call of '{call.name}' must be a JSON object")
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tool(tool: Tool) -> Turn:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _with_tools_described(turns: Sequence[Turn], tools: Sequence[Turn]) -> list[Turn]:
    """For a template without tools: they are described in the system turn, calls and their results become text."""
    listing = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    section = _TOOLS_SECTION.format(listing=listing, opening=OPENING, closing=CLOSING)
    plain = [_as_text(turn) for turn in turns]
    if plain and plain[0]["role"] == "system":
        first, *rest = plain
        return [{**first, "content": f"{first['content']}\n\n{section}"}, *rest]
    return [{"role": "system", "content": section}, *plain]


def _as_text(turn: Turn) -> Turn:
    if turn["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{turn['content']}\n</tool_response>"}
    calls = [
        f"{OPENING}\n{json.dumps(call['function'], ensure_ascii=False)}\n{CLOSING}"
        for call in turn.get("tool_calls", ())
    ]
    text = "\n".join(part for part in (turn["content"], *calls) if part)
    return {"role": turn["role"], "content": text}
