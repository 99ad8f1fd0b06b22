"""From tokens' bytes to text that may leave: whole characters, never a part of a stop string.

Used by the batching loop, one ``Assembler`` per generation and one ``Pieces`` per model.
"""

from __future__ import annotations

import codecs
import threading
from typing import Protocol


class Assembler:
    """Joins pieces. Text is held back while it could still become a stop string or is half a character.

    ``opening`` comes before all of it, and holds no stop string.
    """

    def __init__(self, stops: tuple[str, ...] = (), opening: str = "") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self._opening = opening
        self.stop: str | None = None
        """The stop string that was met; nothing comes after it."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self.stop is not None

    def feed(self, piece: bytes) -> str:
        """Add a token's bytes; return the text that may leave now."""
        opening, self._opening = self._opening, ""
        return opening + self._feed(piece)

    def _feed(self, piece: bytes) -> str:
        fresh = self._decoder.decode(piece)
        if not self._stops:
            return fresh
        if self.stopped or not fresh:
            return ""
        text = self._held + fresh
        found = [(position, -len(stop), stop) for stop in self._stops if (position := text.find(stop)) >= 0]
        if found:
            position, _, self.stop = min(found)  # the first one met; of those that begin there, the longest
            self._held = ""
            return text[:position]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back and turned out to be plain text. Half a character at the end is dropped."""
        held, self._held = self._opening + self._held, ""
        self._opening = ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that a stop string could begin with."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class ThoughtMeter:
    """Which tokens of an answer are its thoughts, the marks around them included."""

    def __init__(self, *, begun: bool) -> None:
        self._read = b"<think>" if begun else b""
        self._is_thinking = begun
        self._is_over = False
        self._pending = 0

    def tokens_with(self, piece: bytes) -> int:
        """Tokens of thoughts up to and with this one that are not counted yet."""
        if self._is_over:
            return 0
        self._read += piece
        if not self._is_thinking:
            return self._begin()
        self._is_over = b"</think>" in self._read
        self._read = self._read[-len(b"</think>") :]
        return 1

    def _begin(self) -> int:
        begun = self._read.lstrip()
        self._is_thinking = begun.startswith(b"<think>")
        self._is_over = b"</think>" in begun if self._is_thinking else not b"<think>".startswith(begun)
        self._pending += 1
        return self._pending if self._is_thinking else 0


class Lexicon(Protocol):
    """What is asked of a vocabulary."""

    size: int

    def piece(self, token: int, *, special: bool) -> bytes:
        """Bytes of one token; a control token has some only when ``special``."""

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation."""

    def is_control(self, token: int) -> bool:
        """Whether the token is a mark that stands for no text."""


class Pieces:
    """A vocabulary's tokens as a reader should see them, remembered once looked up.

    Control tokens have no text, except the marks around tool calls and thoughts: some weights declare those as control
    tokens, others as plain ones, and a reader must see them in both cases.
    """

    SHOWN = frozenset(
        {b"<tool_call>", b"</tool_call>", b"<tool_response>", b"</tool_response>", b"<think>", b"</think>"}
    )

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._shown: dict[int, bytes] = {}
        self._raw: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}
        self._walking = threading.Lock()
        self._all_ends: tuple[int, ...] | None = None
        self._all_hidden: tuple[int, ...] | None = None

    def shown(self, token: int) -> bytes:
        """The bytes that a reader gets for a token."""
        piece = self._shown.get(token)
        if piece is None:
            piece = self._shown[token] = self._look_up(token)
        return piece

    def _look_up(self, token: int) -> bytes:
        piece = self._lexicon.piece(token, special=False)
        if piece or not self._lexicon.is_control(token):
            return piece
        mark = self._lexicon.piece(token, special=True)
        return mark if mark in self.SHOWN else b""

    def raw(self, token: int) -> bytes:
        """The bytes of a token, control tokens included."""
        piece = self._raw.get(token)
        if piece is None:
            piece = self._raw[token] = self._lexicon.piece(token, special=True)
        return piece

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation."""
        known = self._ends.get(token)
        if known is None:
            known = self._ends[token] = self._lexicon.is_end(token)
        return known

    def ends(self) -> tuple[int, ...]:
        """Tokens that end a generation. The first call walks the vocabulary, and others wait for it."""
        with self._walking:
            if self._all_ends is None:
                self._all_ends = tuple(token for token in range(self._lexicon.size) if self._lexicon.is_end(token))
            return self._all_ends

    def hidden(self) -> tuple[int, ...]:
        """Tokens that a grammar would read as text and a reader would not see. The first call walks the vocabulary."""
        with self._walking:
            if self._all_hidden is None:
                self._all_hidden = tuple(token for token in range(self._lexicon.size) if self._is_hidden(token))
            return self._all_hidden

    def _is_hidden(self, token: int) -> bool:
        lexicon = self._lexicon
        return lexicon.is_control(token) and not lexicon.is_end(token) and not self.shown(token)
