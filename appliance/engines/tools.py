"""Tool calls as text, the way they stand in a model's answer.

The format is the one Hermes, Qwen and the starter model use: each call as one JSON object between two marks. The
grammar that forces it is in ``engines/llama/grammar.py``; this module reads it back and imports nothing native.
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


class ToolCallSplitter:
    """Takes an answer apart while it streams: text at once, each call when it is complete."""

    def __init__(self) -> None:
        self._held = ""
        self._found = 0

    @property
    def found(self) -> int:
        """Calls given out so far."""
        return self._found

    def feed(self, text: str, *, last: bool = False) -> tuple[str, tuple[ToolCall, ...]]:
        """More of the answer; the text that can be shown and the calls that are complete now.

        ``last``: nothing follows, so what was held back because it might become a call is given out as text.
        """
        self._held += text
        content: list[str] = []
        calls: list[ToolCall] = []
        while (start := self._held.find(OPENING)) >= 0:
            stop = self._held.find(CLOSING, start)
            if stop < 0:
                break
            stop += len(CLOSING)
            outside, found = parse_tool_calls(self._held[:stop])
            content.append(outside)
            calls += found
            self._held = self._held[stop:]
        content.append(self._release(start, last=last))
        self._found += len(calls)
        shown = "".join(content)
        return ("" if self._found and not shown.strip() else shown), tuple(calls)

    def _release(self, start: int, *, last: bool) -> str:
        """The held text up to where a call stands or may begin."""
        keep_from = len(self._held) if last else start if start >= 0 else len(self._held) - self._opening_overlap()
        shown, self._held = self._held[:keep_from], self._held[keep_from:]
        return shown

    def _opening_overlap(self) -> int:
        """Characters at the end that are the beginning of an opening mark."""
        longest = min(len(OPENING) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if OPENING.startswith(self._held[-n:])), 0)
