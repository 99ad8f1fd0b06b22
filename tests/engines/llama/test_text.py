"""Whole characters, no stop strings, nothing lost in between."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.text import Assembler, Pieces, ThoughtMeter


def cut(data: bytes, places: list[int]) -> list[bytes]:
    points = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(points)]


@given(st.text(), st.lists(st.integers(0, 60)))
def test_characters_come_whole_wherever_tokens_end(text: str, places: list[int]) -> None:
    """However the bytes are cut, every increment is valid text and together they are the text."""
    assembler = Assembler()
    said = [assembler.feed(piece) for piece in cut(text.encode(), places)]
    assert "".join(said) + assembler.finish() == text
    assert all("\ufffd" not in part or "\ufffd" in text for part in said)


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 30)),
)
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str], places: list[int]) -> None:
    """A stop string is never said, not even its beginning, also when tokens cut it; without one all is said."""
    assembler = Assembler(tuple(stops))
    said = ""
    for piece in cut(text.encode(), places):
        said += assembler.feed(piece)
        if assembler.stopped:
            break
    found = [text.find(stop) for stop in stops if stop in text]
    if found:
        assert assembler.stopped
        assert not any(stop in said for stop in stops)
        assert text.startswith(said)
    else:
        assert said + assembler.finish() == text


def test_what_might_become_a_stop_string_is_held_back() -> None:
    """The half of a stop string is said once it turns out to be plain text."""
    assembler = Assembler(("END",))
    assert assembler.feed(b"the EN") == "the "
    assert assembler.feed(b"JOY") == "ENJOY"
    assert assembler.feed(b" EN") == " "
    assert assembler.finish() == "EN"


def test_half_a_character_at_the_end_is_dropped() -> None:
    """A generation that is cut inside a character says only whole ones."""
    assembler = Assembler()
    assert assembler.feed("é".encode()[:1]) == ""
    assert assembler.finish() == ""


def test_an_opening_comes_first_and_holds_no_stop_string() -> None:
    """It leaves with the first token, or at the end of an answer without one."""
    assembler = Assembler(("END",), "the END ")
    assert assembler.feed(b"of it") == "the END of it"
    assert not assembler.stopped
    assert assembler.feed(b"END") == ""
    assert assembler.stopped
    assert Assembler((), "prompt").finish() == "prompt"


@pytest.mark.parametrize(
    ("pieces", "begun", "counts"),
    [
        ([b"<think>", b"hm", b"</think>", b"yes"], False, [1, 1, 1, 0]),
        ([b"\n", b"<th", b"ink>hm", b"</th", b"ink>", b"yes"], False, [0, 0, 3, 1, 1, 0]),
        ([b"hm", b"</think>", b"yes"], True, [1, 1, 0]),
        ([b"yes", b"<think>", b"hm"], False, [0, 0, 0]),
        ([b"<", b"b>"], False, [0, 0]),
        ([b"<think></think>", b"a"], False, [1, 0]),
    ],
)
def test_tokens_of_thoughts_are_told_apart(pieces: list[bytes], begun: bool, counts: list[int]) -> None:
    """Those up to the closing mark, however the marks are cut into tokens; only where an answer begins with them."""
    meter = ThoughtMeter(begun=begun)
    assert [meter.tokens_with(piece) for piece in pieces] == counts


class _Lexicon:
    size = 4
    table = (b"hi", b"<|im_end|>", b"<tool_call>", b"<|im_start|>")

    def piece(self, token: int, *, special: bool) -> bytes:
        return self.table[token] if special or token == 0 else b""

    def is_end(self, token: int) -> bool:
        return token == 1

    def is_control(self, token: int) -> bool:
        return token > 0


def test_marks_of_tool_calls_are_shown_even_where_they_are_control_tokens() -> None:
    """A reader sees the marks around a tool call; other control tokens stay hidden."""
    pieces = Pieces(_Lexicon())
    assert [pieces.shown(token) for token in range(4)] == [b"hi", b"", b"<tool_call>", b""]
    assert pieces.raw(3) == b"<|im_start|>"
    assert pieces.is_end(1)
    assert pieces.hidden() == (3,)
    assert pieces.ends() == (1,)


class _Counting(_Lexicon):
    size = 20_000
    asked = 0

    def is_end(self, token: int) -> bool:
        self.asked += 1
        return token == 1


def test_a_burst_of_requests_walks_the_vocabulary_once() -> None:
    """Who comes while another walks waits for what that one finds."""
    lexicon = _Counting()
    pieces = Pieces(lexicon)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: pieces.ends(), range(16)))
    assert found == [(1,)] * 16
    assert lexicon.asked == lexicon.size


def test_the_stop_string_that_was_met_is_known() -> None:
    """Of several that begin at one place the longest that is there; none while none was met."""
    assembler = Assembler(("never", "en", "end"))
    assert assembler.feed(b"the ") == "the "
    assert assembler.stop is None
    assert assembler.feed(b"end") == ""
    assert assembler.stop == "end"
