"""Regular expressions of schemas as GBNF: the part of them that means the same in every dialect. Pure.

What comes out is JSON text between quotes, so quotes and backslashes are written escaped where the pattern names them,
and left out of what classes and the dot stand for. Lookarounds, references back, lazy quantifiers, word boundaries and
anchors inside a pattern are refused.
"""

from __future__ import annotations

from typing import Final, TypeAlias

MAX_PATTERN_CHARACTERS: Final = 512
MAX_PATTERN_REPEATS: Final = 256
MAX_PATTERN_SIZE: Final = 1000
"""Of a pattern with its counted repetitions spelled out, as llama.cpp does."""

_NEVER: Final = '"\\\\\\x00-\\x1F\\x7F'
"""What no class stands for: in JSON it would have to be escaped."""
_PLAIN: Final = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0x80, 0x10FFFF))
"""What JSON writes as it is."""
_ASCII: Final = (0x20, 0x7E)
_SETS: Final = {
    "d": [(0x30, 0x39)],
    "w": [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
    "s": [(0x20, 0x20)],
}
"""Of ASCII alone, and so are their complements: dialects disagree about other scripts' digits and blanks."""
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}

Ranges: TypeAlias = list[tuple[int, int]]


class NotHeld(Exception):
    """No grammar holds the pattern, or it is none; the text says why."""


def pattern_body(pattern: str) -> str:
    """What stands between the quotes of a string in which the pattern is found. Raises NotHeld."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise NotHeld(f"it has {len(pattern)} characters, {MAX_PATTERN_CHARACTERS} are allowed")
    return _Reader(pattern).whole()


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._size = 0

    @property
    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        found = self._pattern.startswith(text, self._at)
        self._at += len(text) * found
        return found

    def whole(self) -> str:
        """Alternatives, each with anchors of its own; where there is none, anything may stand beside it."""
        branches = [self._anchored()]
        while self._take("|"):
            branches.append(self._anchored())
        if self._next:
            raise NotHeld(f"'{self._next}' at {self._at} closes nothing")
        return " | ".join(branches)

    def _anchored(self) -> str:
        before = "" if self._take("^") else "char* "
        body = self._sequence()
        after = "" if self._take("$") else " char*"
        if self._next not in ("", "|", ")"):
            raise NotHeld(f"'$' at {self._at - 1} stands before more")
        return f"{before}{body}{after}"

    def _alternatives(self) -> str:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        if '""' in branches:
            raise NotHeld(f"an alternative of the group before {self._at} is empty; use '?' instead")
        return " | ".join(branches)

    def _sequence(self) -> str:
        parts: list[str] = []
        while self._next and self._next not in "|)$":
            before = self._size
            atom = self._atom()
            self._size += 1
            parts.append(atom + self._quantifier(self._size - before))
        return " ".join(parts) or '""'

    def _quantifier(self, size: int) -> str:
        """How often what stands before it comes, which is of such a size."""
        mark = next((mark for mark in "*+?" if self._take(mark)), "") or self._counts(size)
        if mark and self._next in ("?", "+"):
            raise NotHeld(f"the quantifier '{self._next}' at {self._at} after another is not supported")
        return mark

    def _counts(self, size: int) -> str:
        if not self._take("{"):
            return ""
        end = self._pattern.find("}", self._at)
        least, comma, most = self._pattern[self._at : end].partition(",")
        if end < 0 or not least.isdecimal() or not (most.isdecimal() or not most):
            raise NotHeld(f"the counts at {self._at} are not of the form {{m}}, {{m,}} or {{m,n}}")
        if max(int(least), int(most or 0)) > MAX_PATTERN_REPEATS:
            raise NotHeld(f"it repeats more than {MAX_PATTERN_REPEATS} times")
        if most and int(most) < int(least):
            raise NotHeld(f"the counts at {self._at} are the wrong way round")
        self._size += size * (max(int(least), int(most or 0)) - 1)
        if self._size > MAX_PATTERN_SIZE:
            raise NotHeld(f"with its repetitions spelled out it has more than {MAX_PATTERN_SIZE} parts")
        self._at = end + 1
        return f"{{{int(least)}{',' if comma else ''}{int(most) if most else ''}}}"

    def _atom(self) -> str:
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._class()
        if self._take("."):
            return f"[^{_NEVER}]"
        if self._take("\\"):
            return self._escape()
        char = self._next
        if char in "*+?{^":
            raise NotHeld(f"'{char}' at {self._at} is not supported there")
        self._at += 1
        return _literal(char)

    def _group(self) -> str:
        if self._take("?") and not self._take(":"):
            raise NotHeld(f"the group '(?{self._next}' at {self._at} is not supported")
        inner = self._alternatives()
        if not self._take(")"):
            raise NotHeld("a group is not closed, or an anchor stands inside it")
        return f"({inner})"

    def _escape(self) -> str:
        char = self._next
        self._at += 1
        if char.lower() in _SETS:
            chosen = _SETS[char.lower()]
            return _class_of(chosen if char in _SETS else _others(chosen))
        if char in _CONTROLS:
            return f'"\\\\{char}"'
        return _literal(self._plain(char))

    def _plain(self, char: str) -> str:
        """An escaped character that stands for itself."""
        if not char or (char.isalnum() and char.isascii()):
            raise NotHeld(f"'\\{char}' at {self._at - 1} is not supported")
        return char

    def _class(self) -> str:
        negated = self._take("^")
        chosen: Ranges = []
        has_set = False
        start = self._at
        while not self._take("]"):
            if not self._next:
                raise NotHeld("a class is not closed")
            one = self._char_or_set()
            has_set |= isinstance(one, list)
            chosen += one if isinstance(one, list) else [self._range_from(one)]
        if self._at == start + 1:
            raise NotHeld(f"the class at {start} is empty")
        if negated and not has_set:
            return f"[^{_joined(_without_escaped(chosen))}{_NEVER}]"
        return _class_of(_others(chosen) if negated else chosen)

    def _range_from(self, first: str) -> tuple[int, int]:
        """A character of a class, or the range that it begins."""
        if self._next != "-" or self._pattern[self._at + 1 : self._at + 2] in ("]", ""):
            return ord(first), ord(first)
        self._at += 1
        last = self._char_or_set()
        if not isinstance(last, str) or last < first:
            raise NotHeld(f"the range before {self._at} is none")
        return ord(first), ord(last)

    def _char_or_set(self) -> str | Ranges:
        char = self._next
        self._at += 1
        if char != "\\":
            return char
        char = self._next
        self._at += 1
        if char in _SETS:
            return _SETS[char]
        return _CONTROLS.get(char) or self._plain(char)


def _literal(char: str) -> str:
    if char in ('"', "\\"):
        return '"\\\\\\' + char + '"'
    if char < " " or char == "\x7f":
        raise NotHeld("it holds a control character; write it as an escape")
    return f'"{char}"'


def _class_of(chosen: Ranges) -> str:
    inside = _joined(_without_escaped(chosen))
    if not inside:
        raise NotHeld("a class with nothing but characters that JSON escapes is not supported")
    return f"[{inside}]"


def _without_escaped(chosen: Ranges) -> Ranges:
    """What of it JSON writes as it is."""
    pieces = ((max(first, low), min(last, high)) for first, last in chosen for low, high in _PLAIN)
    return [(first, last) for first, last in pieces if first <= last]


def _others(chosen: Ranges) -> Ranges:
    """The rest of ASCII."""
    others, start = [], _ASCII[0]
    for first, last in sorted(chosen):
        if start < first:
            others.append((start, min(first - 1, _ASCII[1])))
        start = max(start, last + 1)
    return [*others, (start, _ASCII[1])] if start <= _ASCII[1] else others


def _joined(chosen: Ranges) -> str:
    return "".join(
        _in_class(first) if first == last else f"{_in_class(first)}-{_in_class(last)}" for first, last in chosen
    )


def _in_class(code: int) -> str:
    return f"\\x{code:02X}" if chr(code) in "\\]^-[" else chr(code)
