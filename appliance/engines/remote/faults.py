"""An upstream's failures as ours: each names the upstream and what to check. Pure.

What is wrong with the request itself is the caller's (InvalidRequest, in the upstream's words), what is wrong with
the upstream is nobody's who calls (NotReady), and its "too many" is Busy. None of them is a fault of the appliance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from appliance.domain.errors import ApplianceError, Busy, InvalidRequest, NotReady

MAX_WORDS: Final = 500
SHOWN_MODELS: Final = 12
_NOT_ABOUT_THE_REQUEST: Final = frozenset({402, 404, 405, 407, 408, 410, 423, 425, 451})
_PASSES: Final = frozenset({408, 425, 502, 503, 504, 529})
"""An upstream that starts, is overrun, or is lost to the proxy before it."""
_TELLING: Final = ("error", "message", "detail", "msg")
_DEFAULT_RETRY_SECONDS: Final = 1.0
RETURN_SECONDS: Final = 10.0
"""After so long it is worth seeing whether an upstream that was lost is back; so often it is asked for at least."""
_LONGEST_RETRY_SECONDS: Final = 3600.0


def refusal(upstream: str, asked: str, status: int, headers: Mapping[str, str], words: str) -> ApplianceError:
    """An answer with another status than 200 to ``asked`` (``POST /embeddings``)."""
    said = f": {words}" if words else ""
    if status in (401, 403):
        return NotReady(
            f"upstream '{upstream}' refuses the key it was added with ({status}); an administrator gives it another: "
            f"appliance upstreams rekey {upstream}"
        )
    if status == 429:
        retry_seconds = _retry_after(headers, _DEFAULT_RETRY_SECONDS)
        return Busy(f"upstream '{upstream}' is busy (429){said}", retry_after_seconds=retry_seconds)
    if 300 <= status < 400:
        return NotReady(
            f"upstream '{upstream}' answers {asked} with a redirect ({status}), and redirects are not followed; "
            "its base_url must be the address that really answers"
        )
    if 400 <= status < 500 and status not in _NOT_ABOUT_THE_REQUEST:
        return InvalidRequest(f"upstream '{upstream}' refuses the request ({status}){said}")
    check = "check base_model_id, the model's type, and the upstream's base_url" if status < 500 else "check its log"
    passes = status in _PASSES or (status >= 500 and "retry-after" in headers)
    return NotReady(
        f"upstream '{upstream}' answers {asked} with {status}{said}; {check}",
        retry_after_seconds=_retry_after(headers, RETURN_SECONDS) if passes else None,
    )


def unreachable(upstream: str, why: str) -> NotReady:
    """No answer at all."""
    return NotReady(
        f"upstream '{upstream}' cannot be reached ({why}); check that it runs, and its base_url: "
        "appliance upstreams list",
        retry_after_seconds=RETURN_SECONDS,
    )


def silent(upstream: str, seconds: float) -> NotReady:
    """Nothing new for too long."""
    return NotReady(
        f"upstream '{upstream}' sent nothing new for {seconds:g} s; try again, or raise the creation parameter "
        "timeout_seconds",
        retry_after_seconds=RETURN_SECONDS,
    )


def broken(upstream: str, what: str) -> NotReady:
    """An answer that is none."""
    return NotReady(f"upstream '{upstream}' does not answer in OpenAI's form: {what}; check its base_url and its log")


def broken_off(upstream: str) -> NotReady:
    """An answer without its end."""
    return NotReady(
        f"the answer of upstream '{upstream}' broke off before the end; try again, and check its log",
        retry_after_seconds=RETURN_SECONDS,
    )


def gave_up(upstream: str, words: str) -> NotReady:
    """It reported a failure in the middle of an answer."""
    return NotReady(
        f"upstream '{upstream}' gave up in the middle of its answer: {words}", retry_after_seconds=RETURN_SECONDS
    )


def not_listed(upstream: str, model: str, listed: Sequence[str]) -> NotReady:
    """The model is not in the upstream's list."""
    shown = ", ".join(f"'{name[:64]}'" for name in sorted(listed)[:SHOWN_MODELS]) or "none"
    more = f" and {len(listed) - SHOWN_MODELS} more" if len(listed) > SHOWN_MODELS else ""
    return NotReady(
        f"upstream '{upstream}' serves no model '{model[:128]}'; set base_model_id to one of its list: {shown}{more}"
    )


def words_of(body: bytes, secret: str | None = None) -> str:
    """What an error body says, on one line, cut, and without the key if it should repeat that."""
    text = _message(body)
    if secret:
        text = text.replace(secret, "…")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_WORDS else line[: MAX_WORDS - 1] + "…"


def _message(body: bytes) -> str:
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[: 4 * MAX_WORDS].decode("utf-8", "replace")
    for _ in range(2):  # OpenAI's is {"error": {"message": ...}}
        if isinstance(found, dict):
            found = next((found[key] for key in _TELLING if found.get(key)), found)
    return found if isinstance(found, str) else msgspec.json.encode(found).decode()


def _retry_after(headers: Mapping[str, str], otherwise_seconds: float) -> float:
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return otherwise_seconds
    return min(max(seconds, 0.0), _LONGEST_RETRY_SECONDS) if math.isfinite(seconds) else otherwise_seconds
