"""Ollama's bodies as requests: every option is honoured, a hint without effect, or refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.ollama.translate import chat_request, generate_request, leaves_at_once, sampling_of
from appliance.domain.errors import InvalidParameter, InvalidRequest
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    JsonConstraint,
    Message,
    Sampling,
    ToolCall,
    ToolConstraint,
)
from appliance.wire.ollama import ChatCreate, GenerateCreate, Options

HELLO: Any = {"role": "user", "content": "hello"}
LOOK: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA: Any = {"type": "object", "properties": {"a": {"type": "string"}}}


def chat_body(**fields: Any) -> ChatCreate:
    return msgspec.convert({"model": "m", "messages": [HELLO], **fields}, ChatCreate)


def chat(**fields: Any) -> ChatRequest:
    return chat_request(chat_body(**fields), "account")


def generate(*, has_template: bool = True, **fields: Any) -> ChatRequest | CompletionRequest:
    body = msgspec.convert({"model": "m", "prompt": "hello", **fields}, GenerateCreate)
    return generate_request(body, "account", has_template=has_template)


def sampling(**options: Any) -> Sampling:
    return sampling_of(chat_body(options=options))


HONOURED: dict[str, tuple[Any, str, Any]] = {
    "temperature": (0.5, "temperature", 0.5),
    "top_k": (3, "top_k", 3),
    "top_p": (0.7, "top_p", 0.7),
    "min_p": (0.1, "min_p", 0.1),
    "seed": (7, "seed", 7),
    "stop": (["a", "b"], "stop", ("a", "b")),
    "repeat_penalty": (1.2, "repetition_penalty", 1.2),
    "presence_penalty": (0.3, "presence_penalty", 0.3),
    "frequency_penalty": (0.4, "frequency_penalty", 0.4),
    "num_predict": (5, "max_tokens", 5),
}
BOUNDS = {"num_ctx"}
OFF: dict[str, tuple[Any, Any]] = {
    "mirostat": (0, 2),
    "typical_p": (1.0, 0.7),
    "tfs_z": (1.0, 0.5),
    "penalize_newline": (True, False),
}
"""Values that ask for nothing, and values that ask for what is not served."""
WITHOUT_EFFECT = {"mirostat_tau", "mirostat_eta", "num_keep", "repeat_last_n"}
HINTS = {
    *("num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv", "use_mmap", "use_mlock"),
    *("logits_all", "vocab_only", "embedding_only"),
}


def test_every_option_is_decided() -> None:
    """None is forgotten: it is among those that are honoured, refused, or without effect."""
    known = set(HONOURED) | BOUNDS | set(OFF) | WITHOUT_EFFECT | HINTS
    assert known == {field.name for field in msgspec.structs.fields(Options)}


def test_the_defaults_are_ollamas() -> None:
    """Left out, the options are what Ollama takes, with no penalty and no limit."""
    assert sampling() == Sampling(temperature=0.8, top_k=40, top_p=0.9, max_tokens=None)


@pytest.mark.parametrize("option", HONOURED)
def test_an_option_is_honoured(option: str) -> None:
    """Its value reaches the sampling, and nothing else changes."""
    value, field, expected = HONOURED[option]
    changed = sampling(**{option: value})
    assert getattr(changed, field) == expected
    assert msgspec.structs.replace(changed, **{field: getattr(sampling(), field)}) == sampling()


@pytest.mark.parametrize(
    ("options", "field", "expected"),
    [
        ({"num_predict": -1}, "max_tokens", None),
        ({"num_predict": -2}, "max_tokens", None),
        ({"num_predict": 0}, "max_tokens", None),
        ({"seed": -1}, "seed", None),
        ({"seed": 0}, "seed", 0),
        ({"stop": "a"}, "stop", ("a",)),
        ({"temperature": 0}, "temperature", 0.0),
        ({"repeat_penalty": 1.3, "repeat_last_n": 0}, "repetition_penalty", 1.0),
        ({"repeat_penalty": 1.3, "repeat_last_n": -1}, "repetition_penalty", 1.3),
    ],
)
def test_values_with_a_meaning_of_their_own(options: Any, field: str, expected: Any) -> None:
    """As Ollama means them."""
    assert getattr(sampling(**options), field) == expected


def test_the_context_is_a_bound() -> None:
    """``num_ctx`` goes along with chats and prompts."""
    assert chat(options={"num_ctx": 99}).context_tokens == 99
    assert generate(options={"num_ctx": 99}, raw=True).context_tokens == 99
    assert chat().context_tokens is None


@pytest.mark.parametrize("option", OFF)
def test_what_is_not_served_is_refused_unless_it_is_off(option: str) -> None:
    """The neutral value asks for nothing; another is refused by the option's name."""
    neutral, other = OFF[option]
    assert sampling(**{option: neutral}) == sampling()
    with pytest.raises(InvalidRequest, match=rf"options\.{option}"):
        sampling(**{option: other})


def test_a_window_of_the_penalty_is_refused() -> None:
    """Only where there is a penalty that it would bound."""
    assert sampling(repeat_last_n=64) == sampling()
    with pytest.raises(InvalidRequest, match="repeat_last_n"):
        sampling(repeat_last_n=64, repeat_penalty=1.1)


@pytest.mark.parametrize("option", [*HINTS, *WITHOUT_EFFECT])
def test_hints_change_nothing(option: str) -> None:
    """They are accepted, and the request is the same without them."""
    assert sampling(**{option: 1}) == sampling()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"num_ctx": 0}, "num_ctx"),
        ({"num_predict": -3}, "num_predict"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"stop": ["a"] * 65}, "stop"),
    ],
)
def test_what_is_wrong_is_named(options: Any, word: str) -> None:
    """Out of range, or unknown."""
    with pytest.raises(msgspec.ValidationError, match=word):
        chat_body(options=options)


def test_a_conversation_with_a_tool() -> None:
    """System, thoughts, calls, and results under the name of their tool, however the client gives it."""
    call = {"function": {"name": "look", "arguments": {"at": "é"}}}
    request = chat(
        messages=[
            {"role": "system", "content": "Be kind."},
            {**HELLO, "images": []},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]},
            {"role": "tool", "content": "seen", "tool_name": "look"},
            {"role": "assistant", "content": "", "tool_calls": [{**call, "id": "c1"}]},
            {"role": "tool", "content": "seen", "tool_call_id": "c1"},
            {"role": "tool", "content": "seen", "name": "look"},
        ],
        tools=[LOOK],
    )
    assert request.messages[2] == Message(
        role="assistant",
        content="",
        reasoning="hm",
        tool_calls=(ToolCall(name="look", arguments='{"at": "é"}'),),
    )
    assert [m.name for m in request.messages if m.role == "tool"] == ["look", "look", "look"]
    found = request.constraint
    assert isinstance(found, ToolConstraint)
    assert (found.required, found.parallel, found.loose) == (False, True, ("look",))


@pytest.mark.parametrize(
    ("given", "constraint"),
    [(None, None), ("", None), ("json", JsonConstraint()), (SCHEMA, JsonConstraint(schema=SCHEMA))],
)
def test_formats(given: Any, constraint: Any) -> None:
    """JSON, JSON under a schema, or text."""
    assert chat(format=given).constraint == constraint
    beside = chat(format=given, tools=[LOOK]).constraint
    assert isinstance(beside, ToolConstraint)
    assert beside.answer == constraint
    assert generate(format=given).constraint == constraint


@pytest.mark.parametrize(
    ("think", "effort", "arguments"),
    [(None, None, {}), (True, None, {"enable_thinking": True}), (False, "none", {}), ("low", "low", {})],
)
def test_thinking(think: Any, effort: str | None, arguments: dict[str, Any]) -> None:
    """What the chat template is told."""
    request = chat(think=think)
    assert (request.reasoning_effort, request.template_arguments) == (effort, arguments)


def test_a_prompt_is_a_users_turn() -> None:
    """With the system's before it; weights without a template, and ``raw``, get it as it is."""
    request = generate(system="Be kind.")
    assert isinstance(request, ChatRequest)
    assert [m.role for m in request.messages] == ["system", "user"]
    for plain in (generate(raw=True), generate(has_template=False)):
        assert isinstance(plain, CompletionRequest)
        assert plain.prompt == "hello"
    assert isinstance(generate(has_template=False, system="Be kind."), ChatRequest)


def test_logprobs() -> None:
    """None, the chosen token's, or those of the most likely ones too."""
    assert [
        sampling_of(chat_body(**f)).logprobs for f in ({}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 3})
    ] == [
        None,
        0,
        3,
    ]
    with pytest.raises(InvalidParameter, match="top_logprobs"):
        sampling_of(chat_body(top_logprobs=3))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suffix": "x"}, "insert"),
        ({"template": "{{ .Prompt }}"}, "template"),
        ({"context": [1, 2]}, "/api/chat"),
        ({"images": ["http://10.0.0.1/a.png"]}, r"images\[0\]: .*nothing is fetched"),
        ({"images": ["aGVsbG8="], "raw": True}, "no place for them"),
        ({"raw": True, "system": "x"}, "raw"),
        ({"raw": True, "think": True}, "think"),
    ],
)
def test_prompts_that_are_refused(fields: Any, words: str) -> None:
    """Nothing that would change the answer is ignored."""
    with pytest.raises(InvalidRequest, match=words):
        generate(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": [{**HELLO, "images": ["file:///etc/passwd"]}]}, r"messages\[0\]\.images\[0\]: "),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool_name"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"tools": [LOOK, LOOK]}, "twice"),
    ],
)
def test_conversations_that_are_refused(fields: Any, words: str) -> None:
    """By the place in the conversation."""
    with pytest.raises(InvalidRequest, match=words):
        chat(**fields)


@pytest.mark.parametrize(
    ("given", "leaves"),
    [
        *((None, False), (0, True), (0.0, True), (-1, False), (300, False), (0.5, False)),
        *(("0", True), ("0s", True), ("0m0s", True), ("-1", False), ("-1s", False), ("5m", False), ("1h30m", False)),
        *(("10", False), ("0.5s", False), ("1.5h", False)),
    ],
)
def test_durations(given: Any, leaves: bool) -> None:
    """Numbers are seconds, text is Go's; only nothing lets the model go at once."""
    assert leaves_at_once(given) is leaves


@pytest.mark.parametrize("given", ["", "soon", "5 m", "m", "5mm", "1d"])
def test_what_is_no_duration(given: str) -> None:
    """It is refused, as Ollama refuses it."""
    with pytest.raises(InvalidParameter, match="keep_alive"):
        leaves_at_once(given)
