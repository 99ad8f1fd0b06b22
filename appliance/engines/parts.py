"""An answer taken apart while it comes: thoughts, text, and calls of tools with their arguments piece by piece.

Above the engines every answer is text: thoughts stand at its beginning between ``<think>`` and ``</think>``, calls as
``engines/tools.py`` says. Pieces joined are the same parts, however the text was cut.
"""

from __future__ import annotations

import json
import re
from typing import Final

from msgspec import Struct

from appliance.domain.inference import ToolCall
from appliance.engines.tools import CLOSING, OPENING, parse_tool_calls

THOUGHT_OPENING: Final = "<think>"
THOUGHT_CLOSING: Final = "</think>"

_HEAD = re.compile(rf'{OPENING}\s*\{{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{{)')
_STRUCTURE = re.compile(r'["\\{}]')


class CallDelta(Struct, frozen=True, kw_only=True):
    """An increment of the ``number``-th call: its name first and once, then pieces of the JSON of its arguments."""

    number: int
    name: str | None = None
    arguments: str = ""


class Parts(Struct, frozen=True, kw_only=True):
    """What a piece of an answer adds to each of its parts."""

    thought: str = ""
    text: str = ""
    calls: tuple[CallDelta, ...] = ()


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer's parts."""

    thought: str
    text: str
    calls: tuple[ToolCall, ...]
    is_cut: bool = False
    """It ended in the middle of the last call, whose arguments are then no JSON."""


class AnswerSplitter:
    """Feed it an answer's text. ``thoughts``: one may stand at its beginning; ``calls``: it may hold calls."""

    def __init__(self, *, thoughts: bool, calls: bool) -> None:
        self._has_calls = calls
        self._held = ""
        self._read = self._read_start if thoughts else self._read_text
        self._skips_blanks = False
        self._arguments = _Json()
        self._thought: list[str] = []
        self._text: list[str] = []
        self._calls: list[CallDelta] = []
        self.found = 0
        """Calls begun so far."""

    @property
    def is_inside_call(self) -> bool:
        """The last call is not complete."""
        return self._read == self._read_arguments

    def feed(self, text: str, *, last: bool = False) -> Parts:
        """More of the answer. ``last``: nothing follows, so what was held back is given out."""
        self._held += text
        while self._read(last):
            pass
        parts = Parts(thought="".join(self._thought), text="".join(self._text), calls=tuple(self._calls))
        self._thought, self._text, self._calls = [], [], []
        return parts

    # --- what is read where; each says whether there is more to read ---------------------------------------------

    def _read_start(self, last: bool) -> bool:
        begun = self._held.lstrip()
        if begun.startswith(THOUGHT_OPENING):
            self._held = begun[len(THOUGHT_OPENING) :]
            self._skips_blanks = True
            self._read = self._read_thought
            return True
        if THOUGHT_OPENING.startswith(begun) and not last:
            return False
        self._read = self._read_text
        return True

    def _read_thought(self, last: bool) -> bool:
        self._skip_blanks()
        stop = self._held.find(THOUGHT_CLOSING)
        if stop >= 0:
            self._thought.append(self._held[:stop].rstrip())
            self._held = self._held[stop + len(THOUGHT_CLOSING) :]
            self._skips_blanks = True
            self._read = self._read_text
            return True
        keep = 0 if last else _overlap(self._held, THOUGHT_CLOSING)
        self._thought.append(self._release(keep))
        return False

    def _read_text(self, last: bool) -> bool:
        self._skip_blanks()
        if not self._has_calls:
            self._text.append(self._held)
            self._held = ""
            return False
        start = self._held.find(OPENING)
        if start >= 0:
            self._text.append(self._held[:start].rstrip())
            self._held = self._held[start:]
            self._read = self._read_head
            return True
        if last:
            self._text.append(self._held)
            self._held = ""
        else:
            self._text.append(self._release(_overlap(self._held, OPENING)))
        return False

    def _read_head(self, last: bool) -> bool:
        """The mark and the name. What only looks like a call (no JSON, no name, no object) stays text."""
        head = _HEAD.match(self._held)
        if head is not None and (name := _string(head.group(1))) is not None:
            self._begin_call(name)
            self._held = self._held[head.end() :]
            self._arguments = _Json()
            self._read = self._read_arguments
            return True
        stop = self._held.find(CLOSING)
        if stop < 0 and not last:
            return False
        end = len(self._held) if stop < 0 else stop + len(CLOSING)
        text, calls = parse_tool_calls(self._held[:end])
        self._held = self._held[end:]
        self._text.append(text)
        for call in calls:
            self._begin_call(call.name, call.arguments)
        self._skips_blanks = bool(calls)
        self._read = self._read_text
        return bool(self._held)

    def _read_arguments(self, last: bool) -> bool:
        end = self._arguments.end_in(self._held)
        piece = self._held if end is None else self._held[:end]
        self._held = self._held[len(piece) :]
        if piece:
            self._add_arguments(piece)
        if end is None:
            return False
        self._read = self._read_tail
        return True

    def _read_tail(self, last: bool) -> bool:
        stop = self._held.find(CLOSING)
        if stop < 0:
            self._held = "" if last else self._held
            return False
        self._held = self._held[stop + len(CLOSING) :]
        self._skips_blanks = True
        self._read = self._read_text
        return True

    # --- what they share -----------------------------------------------------------------------------------------

    def _begin_call(self, name: str, arguments: str = "") -> None:
        self._calls.append(CallDelta(number=self.found, name=name, arguments=arguments))
        self.found += 1

    def _add_arguments(self, piece: str) -> None:
        """To the delta that began the call, if that is of the same moment."""
        number, name, known = self.found - 1, None, ""
        if self._calls and self._calls[-1].number == number:
            last = self._calls.pop()
            name, known = last.name, last.arguments
        self._calls.append(CallDelta(number=number, name=name, arguments=known + piece))

    def _skip_blanks(self) -> None:
        """Blanks around thoughts and calls belong to neither."""
        if self._skips_blanks:
            self._held = self._held.lstrip()
            self._skips_blanks = not self._held

    def _release(self, keep: int) -> str:
        """The held text but for its last characters, and for blanks before those, which a mark may follow."""
        shown = self._held[: len(self._held) - keep].rstrip()
        self._held = self._held[len(shown) :]
        return shown


class _Json:
    """Finds where an object ends in text that comes piece by piece."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end_in(self, text: str) -> int | None:
        """The place after the closing brace, or None when it is not in this piece."""
        position = 0
        if self._escaped and text:
            self._escaped, position = False, 1
        while (found := _STRUCTURE.search(text, position)) is not None:
            position = found.end()
            mark = found.group()
            if mark == "\\":
                self._escaped = self._in_string and position == len(text)
                position += self._in_string
            elif mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if mark == "{" else -1
                if self._depth <= 0:
                    return position
        return None


def split(text: str, *, thoughts: bool, calls: bool) -> Answer:
    """The parts of a whole answer."""
    splitter = AnswerSplitter(thoughts=thoughts, calls=calls)
    parts = splitter.feed(text, last=True)
    found: dict[int, ToolCall] = {}
    for delta in parts.calls:
        known = found.get(delta.number)
        name = delta.name or (known.name if known else "")
        found[delta.number] = ToolCall(name=name, arguments=(known.arguments if known else "") + delta.arguments)
    return Answer(thought=parts.thought, text=parts.text, calls=tuple(found.values()), is_cut=splitter.is_inside_call)


def _string(literal: str) -> str | None:
    try:
        value = json.loads(literal)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of ``text`` that are the beginning of ``mark``."""
    longest = min(len(mark) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if mark.startswith(text[-n:])), 0)
