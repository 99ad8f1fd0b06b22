"""Answers as messages and events of the Messages dialect."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.anthropic.render import BlockWriter, content_blocks, stop_object, usage_object
from appliance.domain.inference import FinishReason, Usage
from appliance.engines.parts import AnswerSplitter, split

ANSWER = '<think>\nhm, so\n</think>\n\nI look.\n<tool_call>\n{"name": "look", "arguments": {"at": "}é"}}\n</tool_call>'
SECOND = '\n<tool_call>\n{"name": "go", "arguments": {}}\n</tool_call>'


def whole(text: str) -> list[dict[str, Any]]:
    return content_blocks(split(text, thoughts=True, calls=True))


def streamed(pieces: list[str]) -> list[dict[str, Any]]:
    """The events of an answer that comes in pieces."""
    splitter, writer, events = AnswerSplitter(thoughts=True, calls=True), BlockWriter(), []
    for number, piece in enumerate(pieces, start=1):
        events += writer.write(splitter.feed(piece, last=number == len(pieces)))
    return [*events, *writer.end()]


def joined(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that a client makes of the events; asserts that they come in order."""
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in events:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(blocks)
            blocks.append({**event["content_block"], "json": ""})
            is_open = True
            continue
        assert is_open
        assert event["index"] == len(blocks) - 1
        if event["type"] == "content_block_stop":
            is_open = False
            continue
        delta = dict(event["delta"])
        blocks[-1]["json"] += delta.pop("partial_json", "")
        kind = delta.pop("type").removesuffix("_delta")
        if kind in ("text", "thinking"):
            blocks[-1][kind] += delta[kind]
    assert not is_open
    for block in blocks:
        arguments = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(arguments)
    return blocks


def without_ids(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in block.items() if name != "id"} for block in blocks]


def test_a_whole_answer() -> None:
    """Thoughts, words and calls each have a block; ids are unlike."""
    blocks = whole(ANSWER + SECOND)
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "tool_use"]
    assert blocks[0] == {"type": "thinking", "thinking": "hm, so", "signature": ""}
    assert blocks[1]["text"] == "I look."
    assert (blocks[2]["name"], blocks[2]["input"]) == ("look", {"at": "}é"})
    assert blocks[2]["id"] != blocks[3]["id"]


@given(st.lists(st.integers(0, len(ANSWER + SECOND)), max_size=12))
def test_pieces_join_to_the_whole(places: list[int]) -> None:
    """However an answer is cut, its events are the blocks of the whole answer."""
    text = ANSWER + SECOND
    points = sorted({0, *places, len(text)})
    pieces = [text[start:stop] for start, stop in itertools.pairwise(points)]
    assert without_ids(joined(streamed(pieces))) == without_ids(whole(text))


def test_a_call_that_was_cut_is_none() -> None:
    """Half of an input must not be run: the answer has no such block, and its ``stop_reason`` says that it was cut."""
    assert [block["type"] for block in whole(ANSWER[: ANSWER.index("é")])] == ["thinking", "text"]


def test_a_call_whose_input_cannot_be_read_is_text() -> None:
    """An upstream constrains nothing: what it writes is shown, and is no fault of ours."""
    (block,) = whole('<tool_call>\n{"name": "look", "arguments": {at: 1}}\n</tool_call>')
    assert (block["type"], block["text"]) == ("text", "look({at: 1})")


@pytest.mark.parametrize(
    ("reason", "stop_text", "called", "tokens", "expected"),
    [
        (FinishReason.STOP, None, False, 3, ("end_turn", None)),
        (FinishReason.STOP, None, True, 3, ("tool_use", None)),
        (FinishReason.STOP, "END", False, 3, ("stop_sequence", "END")),
        (FinishReason.LENGTH, None, False, 9, ("max_tokens", None)),
        (FinishReason.LENGTH, None, True, 9, ("max_tokens", None)),
        (FinishReason.LENGTH, None, False, 3, ("model_context_window_exceeded", None)),
    ],
)
def test_why_it_ended(
    reason: FinishReason, stop_text: str | None, called: bool, tokens: int, expected: tuple[str, str | None]
) -> None:
    """The dialect's word for each end."""
    stop = stop_object(reason, stop_text, called=called, usage=Usage(response_tokens=tokens), max_tokens=9)
    assert (stop["stop_reason"], stop["stop_sequence"]) == expected


def test_cached_tokens_are_counted_apart() -> None:
    """Together with those that were computed they are the prompt."""
    usage = usage_object(Usage(prompt_tokens=10, cached_tokens=4, response_tokens=2))
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (6, 4, 2)
