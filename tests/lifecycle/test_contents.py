"""What the log keeps of a call's words, by the level of its deployment."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from appliance.domain.contents import ContentLevel
from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import ChatRequest, CompletionRequest, EmbeddingRequest, Message, RerankingRequest
from appliance.lifecycle.contents import Contents, level_of

HELLO = CompletionRequest(prompt="hello", cache_scope="account-1")


@pytest.mark.parametrize(
    ("metadata", "level"),
    [
        (None, ContentLevel.NONE),
        ({}, ContentLevel.NONE),
        ({"team": "blue"}, ContentLevel.NONE),
        ({"call_content": "none"}, ContentLevel.NONE),
        ({"call_content": "digest"}, ContentLevel.DIGEST),
        ({"call_content": "full", "team": "blue"}, ContentLevel.FULL),
    ],
)
def test_levels(metadata: dict[str, Any] | None, level: ContentLevel) -> None:
    """Nothing is kept unless the deployment's metadata asks for it."""
    assert level_of(metadata) is level


@pytest.mark.parametrize("given", ["all", "", 1, None, ["full"]])
def test_unknown_levels(given: Any) -> None:
    """Another word is refused and the known ones are named; a stored one keeps nothing."""
    with pytest.raises(InvalidParameter, match="none, digest, full"):
        level_of({"call_content": given})
    assert Contents(1000).recorder({"call_content": given}, [HELLO]) is None


def test_nothing() -> None:
    """At the level none nobody listens."""
    assert Contents(1000).recorder(None, [HELLO]) is None


def test_digest() -> None:
    """SHA-256 of the texts that the level full would keep, and not a word of them."""
    kept, full = (Contents(1000).recorder({"call_content": level}, [HELLO]) for level in ("digest", "full"))
    assert kept is not None
    assert full is not None
    for recorder in (kept, full):
        recorder.hear(0, "good ")
        recorder.hear(0, "day")
    digest, whole = kept.content(), full.content()
    assert (digest.request, digest.response) == (None, None)
    assert whole.request is not None
    assert whole.response == '["good day"]'
    assert digest.request_digest == hashlib.sha256(whole.request.encode()).hexdigest()
    assert digest.response_digest == hashlib.sha256(whole.response.encode()).hexdigest()


def test_full_of_a_chat() -> None:
    """The request as it went to the engine, without what the caller did not write; an answer of each choice."""
    chat = ChatRequest(messages=(Message(role="user", content="hi"),), cache_scope="account-1")
    recorder = Contents(10_000).recorder({"call_content": "full"}, [chat, chat])
    assert recorder is not None
    recorder.hear(1, "b")
    recorder.hear(0, "a")
    content = recorder.content()
    (first, second) = json.loads(content.request or "")
    assert first == second
    assert first["messages"][0]["content"] == "hi"
    assert "cache_scope" not in first
    assert json.loads(content.response or "") == ["a", "b"]


def test_an_answer_that_never_came() -> None:
    """The request is kept, and no answer."""
    recorder = Contents(1000).recorder({"call_content": "full"}, [HELLO])
    assert recorder is not None
    content = recorder.content()
    assert (content.response, content.response_digest) == (None, None)
    assert json.loads(content.request or "")[0]["prompt"] == "hello"


def test_numbers() -> None:
    """Scores are an answer that is kept; vectors are not."""
    ranking = RerankingRequest(query="q", chunks=("a", "b"))
    scored = Contents(1000).recorder({"call_content": "full"}, [ranking])
    embedded = Contents(1000).recorder({"call_content": "full"}, [EmbeddingRequest(texts=("a",))])
    assert scored is not None
    assert embedded is not None
    scored.scored([0.5, -1.0])
    assert scored.content().response == "[0.5,-1.0]"
    assert embedded.content().response is None


def test_what_is_too_large() -> None:
    """Of more than the log takes only the digests are kept, whole: nothing is cut."""
    recorder = Contents(200).recorder({"call_content": "full"}, [CompletionRequest(prompt="x" * 500)])
    assert recorder is not None
    recorder.hear(0, "y")
    content = recorder.content()
    assert (content.request, content.response) == (None, None)
    assert len(content.request_digest) == 64
    assert content.response_digest == hashlib.sha256(b'["y"]').hexdigest()
