"""Tool calls as text, the way they stand in a model's answer.

The format is the one Hermes, Qwen and the starter model use: each call as one JSON object between two marks. The
grammar that forces it is in ``engines/llama/grammar.py``; this module reads whole texts back and imports nothing
native, ``engines/parts.py`` takes an answer apart while it comes.
"""

from __future__ import annotations

import json

from appliance.domain.inference import ToolCall

OPENING = "<tool_call>"
CLOSING = "</tool_call>"

_decoder = json.JSONDecoder()


def parse_tool_calls(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """The text outside of tool calls, and the calls in order.

    What only looks like a call (cut off, no JSON, no name, arguments that are no object) stays in the text.
    """
    content: list[str] = []
    calls: list[ToolCall] = []
    position = 0
    while (start := text.find(OPENING, position)) >= 0:
        content.append(text[position:start])
        call, position = _parse_call(text, start)
        if call is None:
            content.append(text[start:position])
        else:
            calls.append(call)
    content.append(text[position:])
    joined = "".join(content)
    return (joined.strip() if calls else joined), tuple(calls)


def _parse_call(text: str, start: int) -> tuple[ToolCall | None, int]:
    """The call whose mark stands at ``start`` and the position after it; None and the position after the mark."""
    after_mark = start + len(OPENING)
    body = _skip_blanks(text, after_mark)
    try:
        value, stop = _decoder.raw_decode(text, body)
    except (ValueError, RecursionError):
        return None, after_mark
    stop = _skip_blanks(text, stop)
    if not text.startswith(CLOSING, stop):
        return None, after_mark
    call = _call_from(value)
    return call, stop + len(CLOSING) if call else after_mark


def _call_from(value: object) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        return None
    return ToolCall(name=value["name"], arguments=json.dumps(arguments, ensure_ascii=False))


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position
