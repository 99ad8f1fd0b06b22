"""Failures of an upstream: which of our errors each becomes, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import Busy, InvalidRequest, NotReady
from appliance.engines.remote import faults


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, InvalidRequest, "too long"),
        (413, InvalidRequest, "too long"),
        (422, InvalidRequest, "too long"),
        (401, NotReady, "rekey cluster"),
        (403, NotReady, "rekey cluster"),
        (402, NotReady, "too long"),
        (404, NotReady, "base_model_id"),
        (405, NotReady, "base_url"),
        (408, NotReady, "too long"),
        (429, Busy, "busy"),
        (301, NotReady, "redirect"),
        (307, NotReady, "redirect"),
        (204, NotReady, "204"),
        (500, NotReady, "its log"),
        (503, NotReady, "too long"),
        (599, NotReady, "599"),
    ],
)
def test_statuses(status: int, error: type[Exception], words: str) -> None:
    """A fault of the request is the caller's, all others the upstream's; each names it and what to check."""
    refused = faults.refusal("cluster", "POST /embeddings", status, {}, "too long")

    assert type(refused) is error
    assert "'cluster'" in refused.message
    assert words in refused.message


def test_a_refused_key_is_not_repeated() -> None:
    """Of a 401 no words of the upstream are passed on: some repeat the key in part."""
    assert "sk-" not in faults.refusal("cluster", "POST /x", 401, {}, "wrong key sk-abc***xyz").message


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("1e9", 3600), ("-4", 0), ("nan", 1), ("inf", 1), ("Wed", 1), (None, 1)]
)
def test_retry_after(header: str | None, seconds: float) -> None:
    """The upstream says when, within reason."""
    refused = faults.refusal("cluster", "POST /x", 429, {"retry-after": header} if header else {}, "")
    assert isinstance(refused, Busy)
    assert refused.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (503, "7", 7),
        (503, None, faults.RETURN_SECONDS),
        (502, None, faults.RETURN_SECONDS),
        (504, None, faults.RETURN_SECONDS),
        (408, None, faults.RETURN_SECONDS),
        (500, "7", 7),
        (500, None, None),
        (404, "7", None),
        (401, "7", None),
        (307, "7", None),
    ],
)
def test_what_passes_by_itself(status: int, header: str | None, seconds: float | None) -> None:
    """An upstream that starts anew or is overrun is worth asking again; one that has to be set right is not."""
    refused = faults.refusal("cluster", "POST /x", status, {"retry-after": header} if header else {}, "")
    assert isinstance(refused, NotReady)
    assert refused.retry_after_seconds == seconds


def test_lost_in_the_middle() -> None:
    """A connection that breaks, an answer that stops coming, and a failure reported in it say when to ask again; what
    is not OpenAI's form will not be the next time."""
    passing = [
        faults.unreachable("cluster", "reset"),
        faults.silent("cluster", 3),
        faults.gave_up("cluster", "died"),
        faults.broken_off("cluster"),
    ]
    assert [error.retry_after_seconds for error in passing] == [faults.RETURN_SECONDS] * 4
    assert faults.broken("cluster", "a page of HTML").retry_after_seconds is None
    assert faults.not_listed("cluster", "m", []).retry_after_seconds is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "too long", "type": "x"}}', "too long"),
        (b'{"error": "too long"}', "too long"),
        (b'{"detail": "too long", "code": "x"}', "too long"),
        (b'{"message": "too long"}', "too long"),
        (b'{"detail": [{"msg": "too long"}]}', '[{"msg":"too long"}]'),
        (b"too\r\n\x1b[31m long", "too [31m long"),
        (b"", ""),
        (b'"\xff"', '"�"'),
    ],
)
def test_words(body: bytes, words: str) -> None:
    """The text of the usual shapes, on one line, without control characters."""
    assert faults.words_of(body) == words


def test_words_are_cut_and_without_the_key() -> None:
    """A page of HTML is not passed on whole, and a key that is sent back not at all."""
    assert len(faults.words_of(b"x" * 100_000)) == faults.MAX_WORDS
    assert faults.words_of(b'{"error": "bad key sk-secret"}', "sk-secret") == "bad key …"


@given(st.binary(max_size=300))
def test_any_body(body: bytes) -> None:
    """Whatever comes is one printable line."""
    words = faults.words_of(body)
    assert words.isprintable()
    assert len(words) <= faults.MAX_WORDS
