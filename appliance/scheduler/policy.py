"""Pure decisions: who leaves memory. Values in, values out; tested with tables."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Candidate(Struct, frozen=True, kw_only=True):
    """What the policy knows of a resident."""

    holder: str
    reserved_bytes: int
    leases: int
    pinned: bool
    last_used_seconds: float


def victims(candidates: Iterable[Candidate], missing_bytes: int) -> list[str] | None:
    """Whom to evict so that ``missing_bytes`` become free: idle and not pinned, least recently used first.

    Returns None when evicting everyone who may go would not be enough; then nobody goes.
    """
    chosen: list[Candidate] = []
    freed = 0
    for candidate in sorted(_evictable(candidates), key=lambda c: c.last_used_seconds):
        if freed >= missing_bytes:
            break
        chosen.append(candidate)
        freed += candidate.reserved_bytes
    if freed < missing_bytes:
        return None
    return [c.holder for c in _without_needless(chosen, freed - missing_bytes)]


def idle_too_long(candidates: Iterable[Candidate], now_seconds: float, idle_seconds: float) -> list[str]:
    """Whom to unload because nobody has called them for ``idle_seconds``."""
    return [c.holder for c in _evictable(candidates) if now_seconds - c.last_used_seconds >= idle_seconds]


def _evictable(candidates: Iterable[Candidate]) -> list[Candidate]:
    return [c for c in candidates if c.leases == 0 and not c.pinned]


def _without_needless(chosen: list[Candidate], surplus_bytes: int) -> list[Candidate]:
    """Spare those whose bytes are not needed after all, most recently used first."""
    kept = list(chosen)
    for candidate in sorted(chosen, key=lambda c: c.last_used_seconds, reverse=True):
        if candidate.reserved_bytes <= surplus_bytes:
            kept.remove(candidate)
            surplus_bytes -= candidate.reserved_bytes
    return kept


def retry_delay_seconds(failures: int) -> float:
    """Back-off after so many failed loads in a row: 2, 4, 8, ... 300 seconds."""
    return float(min(300, 2 ** min(failures, 9)))
