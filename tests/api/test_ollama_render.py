"""Answers as Ollama's objects."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from appliance.api.ollama.render import CallCollector, Json, Piece, chat_shape, end, generate_shape, joined
from appliance.domain.inference import FinishReason, Usage
from appliance.engines.parts import AnswerSplitter

CALLS = (
    'I look.\n<tool_call>\n{"name": "look", "arguments": {"at": "}é"}}\n</tool_call>'
    '\n<tool_call>\n{"name": "go", "arguments": {}}\n</tool_call>'
)


def collected(pieces: list[str]) -> list[Json]:
    splitter, collector, found = AnswerSplitter(thoughts=True, calls=True), CallCollector(), []
    for number, piece in enumerate(pieces, start=1):
        parts = splitter.feed(piece, last=number == len(pieces))
        words, calls = collector.feed(parts, is_inside_call=splitter.is_inside_call)
        assert not words
        found += calls
    return found


@given(st.lists(st.integers(0, len(CALLS)), max_size=12))
def test_calls_come_whole_however_they_were_cut(places: list[int]) -> None:
    """Each in one object with its arguments read, in order."""
    points = sorted({0, *places, len(CALLS)})
    calls = collected([CALLS[start:stop] for start, stop in itertools.pairwise(points)])
    assert [call["function"] for call in calls] == [
        {"index": 0, "name": "look", "arguments": {"at": "}é"}},
        {"index": 1, "name": "go", "arguments": {}},
    ]


def test_a_call_that_was_cut_is_none() -> None:
    """Half of its arguments must not be run; the end of the answer says that it was cut."""
    assert collected([CALLS[: CALLS.index("é")]]) == []
    assert len(collected([CALLS[: CALLS.index('"go"') + 10]])) == 1


def test_pieces_join_to_the_whole() -> None:
    """Text, thoughts, calls and logprobs in order; the last piece says how it ended."""
    done: Json = {"done": True}
    whole = joined([Piece(thought="h"), Piece(thought="m", text="a"), Piece(text="b", calls=[{"n": 1}], end=done)])
    assert chat_shape(whole) == {
        "message": {"role": "assistant", "content": "ab", "thinking": "hm", "tool_calls": [{"n": 1}]}
    }
    assert generate_shape(whole) == {"response": "ab", "thinking": "hm"}
    assert whole.end is done


def test_times_are_nanoseconds() -> None:
    """Ours are milliseconds; the load is what the request waited for."""
    usage = Usage(
        prompt_tokens=3, response_tokens=2, queue_milliseconds=1.5, prefill_milliseconds=2, decode_milliseconds=0.25
    )
    object_ = end(FinishReason.CANCELLED, usage, total_seconds=0.5)
    assert json.loads(json.dumps(object_)) == {
        "done": True,
        "done_reason": "stop",
        "total_duration": 500_000_000,
        "load_duration": 1_500_000,
        "prompt_eval_count": 3,
        "prompt_eval_duration": 2_000_000,
        "eval_count": 2,
        "eval_duration": 250_000,
    }
    assert end(FinishReason.LENGTH, usage, 1)["done_reason"] == "length"


def test_a_call_whose_arguments_cannot_be_read_is_text() -> None:
    """An upstream constrains nothing: what it writes is shown, and is no fault of ours."""
    splitter = AnswerSplitter(thoughts=True, calls=True)
    parts = splitter.feed('<tool_call>\n{"name": "look", "arguments": {at: 1}}\n</tool_call>', last=True)
    assert CallCollector().feed(parts, is_inside_call=splitter.is_inside_call) == ("look({at: 1})", [])
