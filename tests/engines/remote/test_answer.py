"""Answers of an upstream: text, thoughts, tool calls, logprobs and counts; and everything that is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import InvalidRequest
from appliance.domain.inference import FinishReason, Usage
from appliance.engines.remote.answer import AnswerReader, Failed, Malformed, models_of, scores_of, unit, vectors_of
from appliance.engines.tools import parse_tool_calls
from tests.support.fake_upstream import counted, said


def read(*chunks: Any, logprobs: bool = False) -> tuple[str, FinishReason | None, Usage]:
    reader = AnswerReader(logprobs=logprobs)
    deltas = [reader.feed(json.dumps(chunk).encode()) for chunk in chunks]
    last = reader.end()
    return "".join(d.text for d in deltas if d) + last.text, last.finish_reason, reader.usage


def called(index: int, name: str | None, arguments: str) -> dict[str, Any]:
    return said(None, tool_calls=[{"index": index, "function": {"name": name, "arguments": arguments}}])


def test_a_chat() -> None:
    """Pieces add up, the reason is the upstream's, the counts are those it reports."""
    text, reason, usage = read(said("", role="assistant"), said("Hel"), said("lo"), said(None, "length"), counted(5, 2))

    assert (text, reason) == ("Hello", FinishReason.LENGTH)
    assert (usage.prompt_tokens, usage.response_tokens, usage.cached_tokens) == (5, 2, 0)


def test_a_completion() -> None:
    """The older form has ``text`` in the choice."""
    chunk = {"choices": [{"text": "abc", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    assert read(chunk) == ("abc", FinishReason.STOP, Usage(prompt_tokens=1))


def test_no_report_no_count() -> None:
    """Without a usage report the counts are 0, not guessed."""
    assert read(said("Hello", "stop"))[2] == Usage()


def test_cached_tokens() -> None:
    """What the upstream did not compute again is told."""
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    assert read(said("a", "stop"), {"choices": [], "usage": usage})[2].cached_tokens == 8


def test_tokens_of_thoughts() -> None:
    """As the upstream counts them."""
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert read(said("a", "stop"), {"choices": [], "usage": usage})[2].reasoning_tokens == 4


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts(field: str) -> None:
    """Thoughts stand between the marks that local models write, and are not lost."""
    text, _, _ = read(said(None, **{field: "hm"}), said(None, **{field: "m"}), said("Yes"), said(None, "stop"))
    assert text == "<think>hmm</think>Yes"
    assert read(said(None, **{field: "hm"}), said(None, "length"))[0] == "<think>hm</think>"


@pytest.mark.parametrize(("told", "stop"), [("END", "END"), (128001, None), (None, None)])
def test_the_stop_text_where_it_is_told(told: object, stop: str | None) -> None:
    """vLLM says which stop text was met; a token's number is none."""
    reader = AnswerReader()
    chunk = said("a", "stop")
    chunk["choices"][0]["stop_reason"] = told
    reader.feed(json.dumps(chunk).encode())
    assert reader.end().stop_text == stop


def test_a_refusal_is_text() -> None:
    """What a model says instead of an answer is what it says."""
    assert read(said(None, refusal="I will not."), said(None, "stop"))[0] == "I will not."


def test_tool_calls() -> None:
    """Pieces of several calls become calls as local models write them, in order, beside the text."""
    text, reason, _ = read(
        said("Let me look. "),
        called(0, "look", '{"at": '),
        called(1, "go", ""),
        called(0, None, '"ä"}'),
        said(None, "tool_calls"),
    )
    content, calls = parse_tool_calls(text)

    assert reason is FinishReason.STOP
    assert content == "Let me look."
    assert [(c.name, c.arguments) for c in calls] == [("look", '{"at": "ä"}'), ("go", "{}")]


@pytest.mark.parametrize("arguments", ["{", "[1]", '"text"', "[" * 100_000])
def test_arguments_that_are_no_object(arguments: str) -> None:
    """They cannot be a call, and stay visible as text."""
    text, _, _ = read(called(0, "look", arguments), said(None, "stop"))
    content, calls = parse_tool_calls(text)
    assert calls == ()
    assert arguments[:10] in content


def test_chat_logprobs() -> None:
    """Tokens with their bytes and alternatives; bytes left out are the text's."""
    entry = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1}]}
    chunk = said("a")
    chunk["choices"][0]["logprobs"] = {"content": [entry]}
    delta = AnswerReader(logprobs=True).feed(json.dumps(chunk).encode())

    assert delta is not None
    (logprobs,) = delta.logprobs
    assert (logprobs.chosen.token, logprobs.chosen.logprob, logprobs.chosen.raw) == ("a", -0.5, b"a")
    assert [(t.token, t.raw) for t in logprobs.top] == [("b", b"b")]


def test_completion_logprobs() -> None:
    """Parallel lists, the alternatives most likely first."""
    lists = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"c": -3, "a": -0.5}]}
    delta = AnswerReader().feed(json.dumps({"choices": [{"text": "a", "logprobs": lists}]}).encode())

    assert delta is not None
    assert [t.token for t in delta.logprobs[0].top] == ["a", "c"]


def test_logprobs_that_do_not_come() -> None:
    """Asked for and not given is a refusal at the first text, not an answer without them."""
    with pytest.raises(InvalidRequest, match="logprobs"):
        read(said("a"), logprobs=True)


def test_an_answer_that_breaks_off() -> None:
    """Without a reason to end it is no answer."""
    with pytest.raises(Malformed, match="broke off"):
        read(said("Hel"))


def test_a_filtered_answer() -> None:
    """A content filter is said; the rest is not passed off as the end."""
    with pytest.raises(InvalidRequest, match="filter"):
        read(said("a"), said(None, "content_filter"))


def test_an_unknown_end() -> None:
    """A reason that nobody knows is said."""
    with pytest.raises(Malformed, match="abort"):
        read(said(None, "abort"))


def test_a_failure_in_the_middle() -> None:
    """An error object between the pieces ends the answer."""
    with pytest.raises(Failed):
        read(said("a"), {"error": {"message": "out of memory"}})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"[]",
        b'"text"',
        b'{"choices": {}}',
        b'{"choices": [{"delta": "a"}]}',
        b'{"choices": [{"delta": {"content": 1}}]}',
        b'{"choices": [], "usage": {"prompt_tokens": -1}}',
        b'{"choices": [], "usage": {"prompt_tokens": 1e30}}',
        b'{"choices": [{"delta": {"tool_calls": [{"index": 100000}]}}]}',
        b'{"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": []}}]}',
        b'{"choices": [{"text": "\xff"}]}',
        b"[" * 100_000,
    ],
)
def test_no_answer(data: bytes) -> None:
    """What is not OpenAI's form is Malformed and nothing else."""
    with pytest.raises(Malformed):
        AnswerReader().feed(data)


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["stop", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "text", "logprobs", "usage", "error", "tool_calls", "index"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(st.binary(max_size=100) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_event(data: bytes) -> None:
    """Whatever comes is read, or refused in one of the known ways."""
    try:
        AnswerReader().feed(data)
    except (Malformed, Failed):
        return


# --- whole answers ---------------------------------------------------------------------------------------------------


def vectors(*entries: tuple[int, list[float]], **usage: int) -> bytes:
    return json.dumps({"data": [{"index": i, "embedding": v} for i, v in entries], "usage": usage or None}).encode()


def test_vectors_in_the_order_of_the_texts() -> None:
    """The index decides, not the position; tokens are the prompt's, else the total."""
    body = vectors((1, [0.0, 1.0]), (0, [1.0, 0.0]), prompt_tokens=7, total_tokens=9)
    assert vectors_of(body, 2) == ([[1.0, 0.0], [0.0, 1.0]], 7)
    assert vectors_of(vectors((0, [1.0]), total_tokens=9), 1)[1] == 9
    assert vectors_of(vectors((0, [1.0])), 1)[1] == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (vectors((0, [1.0])), 2),
        (vectors((0, [1.0]), (0, [1.0])), 2),
        (vectors((0, [1.0]), (2, [1.0])), 2),
        (vectors((0, [1.0]), (1, [1.0, 2.0])), 2),
        (vectors((0, [])), 1),
        (b'{"data": [{"index": 0, "embedding": "AAAA"}]}', 1),
        (b'{"data": [{"index": 0, "embedding": [null]}]}', 1),
        (b"{}", 1),
        (b"<html>", 1),
    ],
)
def test_no_vectors(body: bytes, expected: int) -> None:
    """Too few, twice the same, other widths, other types."""
    with pytest.raises(Malformed):
        vectors_of(body, expected)


def test_scores_in_the_order_of_the_chunks() -> None:
    """An upstream sorts by relevance; we do not."""
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": -2}]
    assert scores_of(json.dumps({"results": results, "usage": {"total_tokens": 4}}).encode(), 2) == ([-2, 0.9], 4)
    with pytest.raises(Malformed):
        scores_of(json.dumps({"results": results[:1]}).encode(), 2)


def test_a_list_of_models() -> None:
    """Names, and what some servers tell beside them."""
    (model,) = models_of(b'{"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096, "root": "x"}]}')
    assert (model.id, model.owned_by, model.max_model_len) == ("m", "vllm", 4096)


def test_unit() -> None:
    """Length 1; zeros stay zeros."""
    assert unit([3.0, 4.0]) == [0.6, 0.8]
    assert unit([0.0, 0.0]) == [0.0, 0.0]
