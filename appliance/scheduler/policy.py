"""Pure decisions: who leaves memory. Values in, values out; tested with tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from appliance.engines.base import Need
from appliance.scheduler.ledger import held_bytes


class Candidate(Struct, frozen=True, kw_only=True):
    """What the policy knows of a resident."""

    holder: str
    need: Need
    leases: int
    pinned: bool
    last_used_seconds: float


def victims(candidates: Iterable[Candidate], missing_bytes: int, beside: Iterable[Need] = ()) -> list[str] | None:
    """Whom to evict so that ``missing_bytes`` become free: idle and not pinned, least recently used first.

    Weights that several share become free with the last of them. ``beside`` is what stays in memory, or is about to
    come, and is no candidate: weights in there do not become free at all.

    Returns None when evicting everyone who may go would not be enough; then nobody goes.
    """
    everyone, staying = list(candidates), list(beside)
    chosen: list[Candidate] = []
    for candidate in sorted(_evictable(everyone), key=lambda c: c.last_used_seconds):
        if _freed_bytes(chosen, everyone, staying) >= missing_bytes:
            break
        chosen.append(candidate)
    if _freed_bytes(chosen, everyone, staying) < missing_bytes:
        return None
    for candidate in sorted(chosen, key=lambda c: c.last_used_seconds, reverse=True):
        fewer = [c for c in chosen if c is not candidate]
        if _freed_bytes(fewer, everyone, staying) >= missing_bytes:
            chosen = fewer  # the bytes of this one, used more recently, are not needed after all
    return [c.holder for c in chosen]


def _freed_bytes(leaving: Collection[Candidate], everyone: Iterable[Candidate], beside: Iterable[Need]) -> int:
    """How much less is held once these have left."""
    gone = {c.holder for c in leaving}
    remaining = [*beside, *(c.need for c in everyone if c.holder not in gone)]
    return held_bytes([*remaining, *(c.need for c in leaving)]) - held_bytes(remaining)


def idle_too_long(candidates: Iterable[Candidate], now_seconds: float, idle_seconds: float) -> list[str]:
    """Whom to unload because nobody has called them for ``idle_seconds``."""
    return [c.holder for c in _evictable(candidates) if now_seconds - c.last_used_seconds >= idle_seconds]


def _evictable(candidates: Iterable[Candidate]) -> list[Candidate]:
    return [c for c in candidates if c.leases == 0 and not c.pinned]


def retry_delay_seconds(failures: int) -> float:
    """Back-off after so many failed loads in a row: 2, 4, 8, ... 300 seconds."""
    return float(min(300, 2 ** min(failures, 9)))
