"""What a call would do to memory, said before it is done: where, what leaves, what stays, and why.

Made from the same decisions that the scheduler takes when the call comes; it can only differ where the world has
moved on in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from appliance.engines.base import Need, Placement, Share
from appliance.scheduler.ledger import Ledger, gib
from appliance.scheduler.placer import Outlook
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
    FAILS = "fails"
    """It is not tried: its last load failed, or its last engine, and the back-off is not over."""


class Stay(Struct, frozen=True, kw_only=True):
    """Somebody in memory who does not make room now."""

    name: str
    placement: Placement
    reason: str


class Site(Struct, frozen=True, kw_only=True):
    """One device of a plan: what would be there, and what there is."""

    share: Share
    free_bytes: int
    budget_bytes: int


class Plan(Struct, frozen=True, kw_only=True):
    """A placement with its reasons."""

    deployment_id: str
    name: str
    placement: Placement
    sites: tuple[Site, ...]
    """The placement's devices, RAM first."""
    outcome: Outcome
    evicts: tuple[str, ...]
    """Names of deployments whose engines would leave, the first to leave first."""
    stays: tuple[Stay, ...]
    ahead: int
    """Loads that wait in the line before this one would."""
    reason: str

    @property
    def free_bytes(self) -> int:
        """On the devices that compute."""
        return sum(site.free_bytes for site in self._computing)

    @property
    def budget_bytes(self) -> int:
        """For all engines on the devices that compute."""
        return sum(site.budget_bytes for site in self._computing)

    @property
    def _computing(self) -> list[Site]:
        return [site for site in self.sites if site.share.layers]


def explain(
    wanted: Wanted,
    outlook: Outlook,
    ledger: Ledger,
    *,
    state: str | None,
    names: Mapping[str, str],
    stays: list[Stay],
    ahead: int,
    failure: str | None,
) -> Plan:
    """Put the decisions into words. ``state`` is its engine's where one serves it already; ``names`` are by holder.
    ``failure``: what a call is answered, if it is refused for what failed before.
    """
    placement, outcome = outlook.placement, _outcome(outlook, state, failure)
    leavers = tuple(names[holder] for holder in outlook.leavers or ()) if outcome is Outcome.EVICTS else ()
    devices = {share.device for share in placement.shares}
    concerned = tuple(stay for stay in stays if devices & {share.device for share in stay.placement.shares})
    if outcome is Outcome.SERVES:  # nobody has to go, and nobody is waited for
        concerned, ahead = (), 0
    sites = tuple(
        Site(share=s, free_bytes=ledger.free_on(s.device), budget_bytes=ledger.budget_on(s.device))
        for s in placement.shares
    )
    return Plan(
        deployment_id=wanted.deployment_id,
        name=wanted.name,
        placement=placement,
        sites=sites,
        outcome=outcome,
        evicts=leavers,
        stays=concerned,
        ahead=ahead,
        reason=failure
        if outcome is Outcome.FAILS and failure is not None
        else _reason(outcome, wanted, outlook, sites, state, leavers, concerned, ahead),
    )


def _outcome(outlook: Outlook, state: str | None, failure: str | None) -> Outcome:
    if state is not None:
        return Outcome.SERVES
    if outlook.refusal is not None:
        return Outcome.NEVER
    if failure is not None:
        return Outcome.FAILS
    if outlook.leavers is None:
        return Outcome.WAITS
    return Outcome.EVICTS if outlook.leavers else Outcome.LOADS


def _reason(
    outcome: Outcome,
    wanted: Wanted,
    outlook: Outlook,
    sites: tuple[Site, ...],
    state: str | None,
    leavers: tuple[str, ...],
    stays: tuple[Stay, ...],
    ahead: int,
) -> str:
    placement = outlook.placement
    if outcome is Outcome.SERVES:
        return f"'{wanted.name}' is {str(state).lower()} on {placement.device}; a call changes nothing"
    if outcome is Outcome.NEVER:
        return f"it never fits: {outlook.refusal}"
    sizes = f"'{wanted.name}' needs {gib(placement.total_bytes)} ({_parts(placement.need)}){_where(sites)}"
    line = f" It waits behind {ahead} other load{'s' if ahead > 1 else ''} on the same devices." if ahead else ""
    return f"{sizes}; {_what_happens(outcome, leavers, stays)}.{line}"


def _where(sites: tuple[Site, ...]) -> str:
    """Free bytes, and what goes where if that is not one place."""
    if len(sites) == 1:
        return f", {gib(sites[0].free_bytes)} free on {sites[0].share.device}"
    return ": " + ", ".join(
        f"{gib(site.share.need.total_bytes)} on {site.share.device}"
        f"{f' for {site.share.layers} layers' if site.share.layers else ''} ({gib(site.free_bytes)} free)"
        for site in sites
    )


def _parts(need: Need) -> str:
    parts = [
        f"weights {gib(need.weights_bytes)}{' (shared)' if need.weights_key is not None else ''}",
        f"adapter {gib(need.adapter_bytes)}" if need.adapter_bytes else "",
        f"cache {gib(need.cache_bytes)}" if need.cache_bytes else "",
        f"prefixes {gib(need.prefix_bytes)}" if need.prefix_bytes else "",
        f"buffers {gib(need.compute_bytes)}{', as measured before' if need.is_learned else ''}",
    ]
    return ", ".join(part for part in parts if part)


def _what_happens(outcome: Outcome, leavers: tuple[str, ...], stays: tuple[Stay, ...]) -> str:
    if outcome is Outcome.LOADS:
        return "it is loaded and nobody leaves"
    if outcome is Outcome.EVICTS:
        return f"{_names(leavers)} leave{'s' if len(leavers) == 1 else ''} memory first"
    why = "; ".join(f"'{stay.name}' ({gib(stay.placement.total_bytes)}): {stay.reason}" for stay in stays)
    return f"it waits for room{': ' if why else ''}{why}"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)
