"""What a call would do to memory now, from the same decisions that the scheduler takes when the call comes."""

from __future__ import annotations

import math

from appliance.domain.clock import Clock
from appliance.domain.errors import NotReady
from appliance.scheduler import policy
from appliance.scheduler.claims import NOTHING, devices_of
from appliance.scheduler.failures import Failures
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.line import Line
from appliance.scheduler.placer import Placer
from appliance.scheduler.plan import Plan, Stay, explain
from appliance.scheduler.resident import Resident, ResidentState, Wanted
from appliance.scheduler.roster import IN_MEMORY, Roster
from appliance.scheduler.tenant import Tenant


class Planner:
    """Looks and says; changes nothing."""

    def __init__(
        self,
        clock: Clock,
        rules: policy.Rules,
        ledger: Ledger,
        placer: Placer,
        roster: Roster,
        line: Line,
        failures: Failures,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._ledger = ledger
        self._placer = placer
        self._roster = roster
        self._line = line
        self._failures = failures

    def plan(self, wanted: Wanted) -> Plan:
        """Where, what leaves, what stays, and why."""
        resident = self._roster.current.get(wanted.deployment_id)
        same = resident if resident is not None and resident.wanted.spec == wanted.spec else None
        now = self._clock.monotonic_seconds()
        in_line = same if same in self._line else None
        head = in_line.as_head(now) if in_line is not None else _newcomer(wanted)
        ahead = self._line.ahead_of(in_line, int(not wanted.high_priority))
        there: list[Tenant] = [*self._roster.in_memory(), *self._roster.bookings.values()]
        names = {t.holder: t.demand.name for t in there}
        candidates = [t.as_candidate() for t in there]
        stays = {c.holder: policy.why_stays(c, head, self._rules, now) for c in candidates} | self._under_way()
        served = same if same is not None and same.state in IN_MEMORY else None
        settled = served or (same if same is not None and same.is_aimed else None)
        outlook = self._placer.outlook(
            wanted,
            self._roster.pinned(),
            [c for c in candidates if stays[c.holder] is None],
            self._roster.going(),
            settled=settled.placement if settled is not None else None,
            claims=ahead[-1].claims if ahead else NOTHING,
        )
        devices = devices_of(outlook.placement)
        return explain(
            wanted,
            outlook,
            self._ledger,
            state=served.state.value if served is not None else None,
            names=names,
            stays=[
                *(
                    Stay(name=names[c.holder], placement=c.placement, reason=reason)
                    for c in candidates
                    if (reason := stays[c.holder]) is not None
                ),
                *self._others(),
            ],
            failure=self._failure_of(wanted) if same is None else None,
            ahead=sum(bool(waiting.devices & devices) for waiting in ahead) if outlook.leavers is None else 0,
        )

    def _others(self) -> list[Stay]:
        """Who has memory and is nobody's choice any more, or not yet: the way out, a swap under way, what hangs."""
        others = self._roster.everyone().difference(self._roster.current.values())
        return [
            Stay(name=r.wanted.name, placement=r.placement, reason=_why_there(r))
            for r in sorted(others, key=lambda r: r.holder)
            if r.state is not ResidentState.WAITING
        ]

    def _failure_of(self, wanted: Wanted) -> str | None:
        """What a call is answered while the back-off after a failure is under way."""
        known = self._roster.wanted.get(wanted.deployment_id)
        if known is None or known.spec != wanted.spec:
            return None
        try:
            self._failures.check(wanted)
        except NotReady as error:
            again = error.retry_after_seconds
            when = "until it is changed" if again is None else f"for {math.ceil(again)} s more"
            return f"{error.message}; calls are refused {when}"
        return None

    def _under_way(self) -> dict[str, str | None]:
        """Who cannot leave at this moment, though the policy might let it."""
        loading = [r for r in self._roster.in_memory() if r.state is ResidentState.LOADING]
        revoked = [b for b in self._roster.bookings.values() if b.is_revoked]
        return {**{r.holder: "it is loading" for r in loading}, **{b.holder: "it ends its work" for b in revoked}}


def _why_there(resident: Resident) -> str:
    if resident.trouble is not None:
        return resident.trouble
    if resident.state is not ResidentState.DRAINING:
        return "it takes the place of another"
    if not resident.leases:
        return "it is leaving"
    last = "its last request" if resident.leases == 1 else f"the last of its {resident.leases} requests"
    return f"it is leaving with {last}"


def _newcomer(wanted: Wanted) -> policy.Head:
    return policy.Head(waited_seconds=0.0, high_priority=wanted.high_priority)
