"""Pure decisions: who leaves memory, and for whom. Values in, values out; tested with tables.

How far the head of the line may go:

1. An ordinary head moves idle residents that have had their minimum stay.
2. A head that has waited for the maximum wait may move busy ones too: they take no new request and leave when the
   running ones have ended. Their minimum stay still counts, or a crowded machine would do nothing but load.
3. A high-priority head need not wait for either, and never moves another of high priority by force.
4. A low-priority head, work in the background, moves idle ones only, and only those that nobody has used for a minimum
   stay, however long it has waited.
5. Work that has booked its room gives way to every head but one of low priority once its stay is over, after the idle
   residents and before the busy ones.

A pinned resident never leaves. So with each device's line served in order, whoever is n-th among those that compete
for the same bytes waits at most the maximum wait, and n times the longest of each: minimum stay, running request, load.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from appliance.engines.base import Placement
from appliance.scheduler.ledger import held_on


class Candidate(Struct, frozen=True, kw_only=True):
    """What the policy knows of a resident."""

    holder: str
    placement: Placement
    leases: int
    pinned: bool
    last_used_seconds: float
    loaded_seconds: float = -math.inf
    load_took_seconds: float = 0.0
    high_priority: bool = False
    revocable: bool = False
    """It is at work in the background, and ends when its room is needed."""

    @property
    def is_busy(self) -> bool:
        """Requests hold it."""
        return self.leases > 0 and not self.revocable


class Rules(Struct, frozen=True, kw_only=True):
    """What bounds thrash and waiting."""

    min_stay_seconds: float = 0.0
    """How long an engine stays after its load, whoever waits; never shorter than the load took."""
    max_wait_seconds: float = math.inf
    """How long the head of the line waits for a busy engine before that one is closed to new requests."""


class Head(Struct, frozen=True, kw_only=True):
    """Who is first in the line."""

    waited_seconds: float
    high_priority: bool = False
    low_priority: bool = False


def why_stays(candidate: Candidate, head: Head, rules: Rules, now_seconds: float) -> str | None:
    """Why the candidate need not make room for the head; None when it has to, if its bytes are needed."""
    stay_seconds = candidate.loaded_seconds + stay_of(candidate.load_took_seconds, rules) - now_seconds
    if candidate.pinned:
        return "it is pinned"
    if head.low_priority:
        return _why_stays_for_background(candidate, rules, now_seconds)
    if head.high_priority and not candidate.high_priority:
        return None
    if stay_seconds > 0:
        return f"it stays {stay_seconds:.0f} s more"
    if candidate.is_busy and (head.high_priority or head.waited_seconds < rules.max_wait_seconds):
        return held_by(candidate.leases)
    return None


def held_by(leases: int) -> str:
    """Why one that is in use is where it is, for people."""
    return "1 request holds it" if leases == 1 else f"{leases} requests hold it"


def _why_stays_for_background(candidate: Candidate, rules: Rules, now_seconds: float) -> str | None:
    since_seconds = max(candidate.loaded_seconds, candidate.last_used_seconds)
    stay_seconds = since_seconds + stay_of(candidate.load_took_seconds, rules) - now_seconds
    if candidate.revocable:
        return "it is at work"
    if candidate.leases:
        return held_by(candidate.leases)
    if stay_seconds > 0:
        return f"it was in use a moment ago, and stays {stay_seconds:.0f} s more"
    return None


def stay_of(load_took_seconds: float, rules: Rules) -> float:
    """An engine's minimum stay: a machine then spends at most half of its time on loads, however it is crowded."""
    return max(rules.min_stay_seconds, load_took_seconds)


def movable(candidates: Iterable[Candidate], head: Head, rules: Rules, now_seconds: float) -> list[Candidate]:
    """Those who have to make room for the head if their bytes are needed."""
    return [c for c in candidates if why_stays(c, head, rules, now_seconds) is None]


def victims(
    candidates: Iterable[Candidate], missing: Mapping[str, int], beside: Iterable[Placement] = ()
) -> list[str] | None:
    """Whom of the movable to evict so that what is ``missing``, bytes by device, becomes free: idle ones first, least
    recently used first.

    Weights that several share become free with the last of them. ``beside`` is what stays in memory, or is about to
    come, and is no candidate: weights in there do not become free at all.

    Returns None when evicting all of them would not be enough; then nobody goes.
    """
    everyone, staying = sorted(candidates, key=_order), list(beside)
    chosen: list[Candidate] = []
    for candidate in everyone:
        if _is_enough(chosen, everyone, staying, missing):
            break
        chosen.append(candidate)
    if not _is_enough(chosen, everyone, staying, missing):
        return None
    for candidate in reversed(list(chosen)):
        fewer = [c for c in chosen if c is not candidate]
        if _is_enough(fewer, everyone, staying, missing):
            chosen = fewer  # the bytes of this one are not needed after all; the last to go is spared first
    return [c.holder for c in chosen]


def _is_enough(
    leaving: Collection[Candidate],
    everyone: Iterable[Candidate],
    beside: Iterable[Placement],
    missing: Mapping[str, int],
) -> bool:
    """Whether so much less is held on every device once these have left."""
    gone = {c.holder for c in leaving}
    remaining = [*beside, *(c.placement for c in everyone if c.holder not in gone)]
    before = [*remaining, *(c.placement for c in leaving)]
    return all(held_on(device, before) - held_on(device, remaining) >= bytes_ for device, bytes_ in missing.items())


def _order(candidate: Candidate) -> tuple[bool, bool, bool, float]:
    return candidate.is_busy, candidate.revocable, candidate.high_priority, candidate.last_used_seconds


def idle_too_long(candidates: Iterable[Candidate], now_seconds: float, idle_seconds: float) -> list[str]:
    """Whom to unload because nobody has called them for ``idle_seconds``."""
    idle = (c for c in candidates if c.leases == 0 and not c.pinned)
    return [c.holder for c in idle if now_seconds - c.last_used_seconds >= idle_seconds]


GOOD_SECONDS = 3600.0
"""An engine that was in memory for so long does not count as one more failure in a row when it breaks."""


def retry_delay_seconds(failures: int) -> float:
    """Back-off after so many failures in a row, of loads or of engines soon after: 2, 4, 8, ... 300 seconds."""
    return float(min(300, 2 ** min(failures, 9)))
