"""What a call would do to memory, said before it is done: where, what leaves, what stays, and why.

Made from the same decisions that the scheduler takes when the call comes; it can only differ where the world has
moved on in between.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from appliance.engines.base import Need
from appliance.scheduler.ledger import Ledger, gib
from appliance.scheduler.resident import Wanted


class Outcome(StrEnum):
    """What becomes of a call."""

    SERVES = "serves"
    """It is in memory or on its way: nothing changes."""
    LOADS = "loads"
    """It is loaded into free bytes."""
    EVICTS = "evicts"
    """It is loaded after others have left."""
    WAITS = "waits"
    """It is loaded when those that stay for now may go."""
    NEVER = "never"
    """It does not fit, whoever leaves."""


class Stay(Struct, frozen=True, kw_only=True):
    """Somebody in memory who does not make room now."""

    name: str
    reserved_bytes: int
    pinned: bool
    reason: str


class Plan(Struct, frozen=True, kw_only=True):
    """A placement with its reasons."""

    deployment_id: str
    name: str
    device: str
    need: Need
    free_bytes: int
    budget_bytes: int
    outcome: Outcome
    evicts: tuple[str, ...]
    """Names of deployments whose engines would leave, the first to leave first."""
    stays: tuple[Stay, ...]
    ahead: int
    """Loads that wait in the line before this one would."""
    reason: str


def explain(
    wanted: Wanted,
    need: Need,
    ledger: Ledger,
    *,
    state: str | None,
    evicts: list[str] | None,
    stays: list[Stay],
    ahead: int,
) -> Plan:
    """Put the decisions into words. ``state`` is its engine's where one serves it already; ``evicts`` None: not now."""
    outcome = _outcome(need, ledger, state, evicts, stays)
    leavers = tuple(evicts or ()) if outcome is Outcome.EVICTS else ()
    return Plan(
        deployment_id=wanted.deployment_id,
        name=wanted.name,
        device=ledger.device,
        need=need,
        free_bytes=ledger.free_bytes,
        budget_bytes=ledger.budget_bytes,
        outcome=outcome,
        evicts=leavers,
        stays=tuple(stays),
        ahead=ahead,
        reason=_reason(outcome, wanted, need, ledger, state, leavers, stays, ahead),
    )


def _outcome(need: Need, ledger: Ledger, state: str | None, evicts: list[str] | None, stays: list[Stay]) -> Outcome:
    if state is not None:
        return Outcome.SERVES
    pinned_bytes = sum(stay.reserved_bytes for stay in stays if stay.pinned)
    if need.total_bytes + pinned_bytes > ledger.budget_bytes:
        return Outcome.NEVER
    if evicts is None:
        return Outcome.WAITS
    return Outcome.EVICTS if evicts else Outcome.LOADS


def _reason(
    outcome: Outcome,
    wanted: Wanted,
    need: Need,
    ledger: Ledger,
    state: str | None,
    leavers: tuple[str, ...],
    stays: list[Stay],
    ahead: int,
) -> str:
    if outcome is Outcome.SERVES:
        return f"'{wanted.name}' is {str(state).lower()} on {ledger.device}; a call changes nothing"
    parts = (
        f"weights {gib(need.weights_bytes)}, cache {gib(need.cache_bytes)}, buffers {gib(need.compute_bytes)}"
        f"{', as measured before' if need.is_learned else ''}"
    )
    sizes = f"'{wanted.name}' needs {gib(need.total_bytes)} ({parts}), {gib(ledger.free_bytes)} free on {ledger.device}"
    line = f" It waits behind {ahead} other loads." if ahead else ""
    return f"{sizes}; {_what_happens(outcome, ledger, leavers, stays)}.{line}"


def _what_happens(outcome: Outcome, ledger: Ledger, leavers: tuple[str, ...], stays: list[Stay]) -> str:
    if outcome is Outcome.LOADS:
        return "it is loaded and nobody leaves"
    if outcome is Outcome.EVICTS:
        return f"{_names(leavers)} leave{'s' if len(leavers) == 1 else ''} memory first"
    why = "; ".join(f"'{stay.name}' ({gib(stay.reserved_bytes)}): {stay.reason}" for stay in stays)
    if outcome is Outcome.WAITS:
        return f"it waits for room: {why}"
    pinned = _names(tuple(stay.name for stay in stays if stay.pinned))
    beside = f" beside {pinned}, pinned" if pinned else ""
    return (
        f"it never fits into {gib(ledger.budget_bytes)}{beside}; lower context_length, cache_tokens or per_worker, "
        f"take a smaller quantization{', or unpin one' if pinned else ''}"
    )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)
