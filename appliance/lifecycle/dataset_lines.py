"""The lines of a training dataset: what they must be, and what is wrong with them, by number. Pure functions.

Read piece by piece as they come in, so that a file of any size is checked in the memory of its longest line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from appliance.domain.errors import InvalidParameter, TooLarge
from appliance.domain.finetuning import SchemaType

LISTED_FAULTS = 20
SHOWN_CHARACTERS = 64
ROLES = ("system", "user", "assistant")
TURN_KEYS = {"role", "content"}
BOUND = "dataset_line_bytes"


class LineLimits(Struct, frozen=True, kw_only=True):
    """Bounds on a dataset."""

    dataset_bytes: int
    lines: int
    line_bytes: int


class _Wrong(Exception):
    """What is wrong with a line, for people."""


class Checked:
    """Lets a dataset's bytes through while it looks at each line. ``finish`` tells what was found."""

    def __init__(self, schema_type: SchemaType, limits: LineLimits) -> None:
        self.examples = 0
        self._check = _CHECKS[schema_type]
        self._limits = limits
        self._number = 0
        self._faults: list[tuple[int, str]] = []
        self._fault_count = 0

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same bytes. Raises TooLarge, InvalidParameter naming the first lines that are wrong and how many are."""
        size_bytes, rest = 0, b""
        for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > self._limits.dataset_bytes:
                raise TooLarge(
                    f"the dataset is larger than {self._limits.dataset_bytes} bytes (dataset_bytes); split it"
                )
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            if len(rest) > self._limits.line_bytes:
                raise InvalidParameter(self._too_long(self._number + 1))
            yield chunk
        if rest:
            self._take(rest)
        self._finish()

    def _take(self, raw: bytes) -> None:
        self._number += 1
        if not raw.strip():
            return
        if len(raw) > self._limits.line_bytes:
            raise InvalidParameter(self._too_long(self._number))
        self.examples += 1
        if self.examples > self._limits.lines:
            raise TooLarge(f"the dataset has more than {self._limits.lines} examples (dataset_lines); split it")
        try:
            self._check(read_row(raw))
        except _Wrong as error:
            self._fault_count += 1
            if len(self._faults) < LISTED_FAULTS:
                self._faults.append((self._number, str(error)))

    def _finish(self) -> None:
        if self._fault_count:
            listed = [f"line {number}: {what}" for number, what in self._faults]
            more = self._fault_count - len(listed)
            text = "; ".join([*listed, *([f"and {more} more lines"] if more else [])])
            raise InvalidParameter(
                f"{self._fault_count} of {self.examples} lines are wrong: {text}",
                errors=[(("file", number), what) for number, what in self._faults],
            )
        if not self.examples:
            raise InvalidParameter(
                "the dataset has no examples; send one JSON object a line", errors=[(("file",), "empty")]
            )

    def _too_long(self, number: int) -> str:
        return f"line {number} is longer than {self._limits.line_bytes} bytes ({BOUND}); one example is one line"


def read_row(raw: bytes) -> dict[str, Any]:
    """A line as an object."""
    try:
        row = msgspec.json.decode(raw)
    except UnicodeDecodeError:
        raise _Wrong("not UTF-8 text") from None
    except (msgspec.DecodeError, RecursionError) as error:
        if raw.startswith(b"\xef\xbb\xbf"):
            raise _Wrong("it begins with a byte order mark; save the file as UTF-8 without one") from None
        raise _Wrong(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise _Wrong(f"not a JSON object, but {_kind(row)}")
    return row


def _generation(row: dict[str, Any]) -> None:
    if "messages" in row:
        _keys(row, {"messages"})
        _messages(row["messages"])
        return
    if not row.keys() & {"input", "output"}:
        _blame_missing(row, "'input' and 'output', or 'messages'")
    _keys(row, {"input", "output"})
    for name in ("input", "output"):
        _text(row[name], f"'{name}'")


def _messages(turns: Any) -> None:
    if not isinstance(turns, list) or not turns:
        raise _Wrong(f"'messages' must be a list of turns, not {_kind(turns)}")
    for index, turn in enumerate(turns):
        where = f"messages[{index}]"
        if not isinstance(turn, dict) or turn.keys() != TURN_KEYS:
            raise _Wrong(f"{where} must have 'role' and 'content' and nothing else")
        if turn["role"] not in ROLES:
            raise _Wrong(f"{where}: role is {_shown(turn['role'])}; it is one of {', '.join(ROLES)}")
        if turn["role"] == "system" and index:
            raise _Wrong(f"{where}: a system turn stands first or not at all")
        _text(turn["content"], f"{where}: 'content'")
    if turns[-1]["role"] != "assistant":
        raise _Wrong(
            f"the last turn is the {turns[-1]['role']}'s; it must be the assistant's, for that is what is learnt"
        )


def _reranking(row: dict[str, Any]) -> None:
    if not row.keys() & {"question", "chunk", "positive"}:
        _blame_missing(row, "'question', 'chunk' and 'positive'")
    _keys(row, {"question", "chunk", "positive"})
    _text(row["question"], "'question'")
    _text(row["chunk"], "'chunk'")
    if not isinstance(row["positive"], bool):
        raise _Wrong(f"'positive' must be true or false, not {_kind(row['positive'])}")


_CHECKS = {SchemaType.GENERATION: _generation, SchemaType.RERANKING_QUESTIONS: _reranking}


def _keys(row: dict[str, Any], wanted: set[str]) -> None:
    missing, unknown = sorted(wanted - row.keys()), sorted(row.keys() - wanted)
    if missing:
        raise _Wrong(f"'{missing[0]}' is missing")
    if unknown:
        raise _Wrong(f"unknown key {_shown(unknown[0])}; a line has {' and '.join(sorted(wanted))}")


def _blame_missing(row: dict[str, Any], wanted: str) -> NoReturn:
    has = ", ".join(_shown(name) for name in sorted(row)[:4]) or "nothing"
    raise _Wrong(f"it has {has}, and needs {wanted}")


def _text(value: Any, what: str) -> None:
    if not isinstance(value, str):
        raise _Wrong(f"{what} must be text, not {_kind(value)}")
    if not value.strip():
        raise _Wrong(f"{what} is empty")


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else names[type(value)]


def _shown(value: Any) -> str:
    return repr(value)[:SHOWN_CHARACTERS]
