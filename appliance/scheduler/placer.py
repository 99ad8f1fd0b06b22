"""Finds the room for an engine: which placements it may have, whether one fits now, and who would have to leave for it.

It decides nothing that outlives the call: the scheduler books, evicts and loads. A GPU that was asked for and is not
there is an error of the load, so that the deployment shows it; a need that is larger than the machine is refused
before anything is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from appliance.domain.errors import CannotFit
from appliance.engines.base import CPU, Placement, Resources, in_ram
from appliance.scheduler import policy
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.claims import NOTHING, Claims
from appliance.scheduler.demand import Demand
from appliance.scheduler.ledger import Ledger, gib, held_on
from appliance.scheduler.needs import Needs
from appliance.scheduler.placement import choices, layout_of, matches, placed

ATTEMPTS = 4
"""How often layers are laid out anew when what was measured before shows that they take more than was thought."""


class Pinned(Struct, frozen=True, kw_only=True):
    """What never leaves, and so leaves less than the whole machine to everybody else."""

    names: tuple[str, ...] = ()
    """Deployments that are pinned."""
    hung_names: tuple[str, ...] = ()
    """Deployments whose former engines hang and hold their memory."""
    placements: tuple[Placement, ...] = ()


class Way(Struct, frozen=True, kw_only=True):
    """A placement, and whom to evict for it."""

    placement: Placement
    leavers: list[str]


class Going(Struct, frozen=True, kw_only=True):
    """What is on its way out of memory, by holder."""

    soon: frozenset[str] = frozenset()
    """Nobody uses it any more."""
    later: frozenset[str] = frozenset()
    """These, and what leaves when its last user has ended."""


STAYING = Going()


class Outlook(Struct, frozen=True, kw_only=True):
    """What would become of an engine that somebody calls now."""

    placement: Placement
    """Where it would go; where nothing fits, the nearest to it."""
    leavers: list[str] | None
    """Whom to evict for it, by holder; None: those who may leave now are too few, or enough are leaving already."""
    refusal: str | None = None
    """Why it fits nowhere, whoever leaves."""


class Placer:
    """Placements for demands, over the ledger's devices."""

    def __init__(self, ledger: Ledger, needs: Needs, gpus: GpuBudgets) -> None:
        self._ledger = ledger
        self._needs = needs
        self._gpus = gpus

    def check_possible(self, demand: Demand) -> None:
        """Raise CannotFit when no placement would fit an empty machine, or its share of RAM exceeds ``memory``."""
        asked = demand.asks()
        if self.lacks_gpus(demand):
            return  # the load says so, and the deployment keeps it as its reason
        capacities = {device: budget.capacity_bytes for device, budget in self._ledger.budgets.items()}
        made = self._choices(demand, asked, capacities)
        if not any(_fits(placement, asked, (), capacities) for placement in made):
            raise self._refusal(demand, asked, made, Pinned(), capacities)

    def options(self, demand: Demand, pinned: Pinned) -> list[Placement]:
        """Placements that fit beside the pinned ones, the best first: over weights that are there, then the tightest.

        Raises CannotFit with the numbers when there is none, and when the GPUs that were asked for are not there.
        """
        asked = demand.asks()
        self.check_gpus(demand)
        made = self.candidates(demand, asked, pinned)
        budgets = self._budgets()
        fitting = [placement for placement in made if _fits(placement, asked, pinned.placements, budgets)]
        if not fitting:
            raise self._refusal(demand, asked, made, pinned, budgets)
        return fitting

    def is_possible_beside(self, demand: Demand, pinned: Pinned) -> bool:
        """Whether ``options`` finds one."""
        try:
            return bool(self.options(demand, pinned))
        except CannotFit:
            return False

    def candidates(self, demand: Demand, asked: Resources, pinned: Pinned) -> list[Placement]:
        """What was asked for, whether it fits or not."""
        budgets = self._budgets()
        beside = {device: bytes_ - held_on(device, pinned.placements) for device, bytes_ in budgets.items()}
        free = {device: self._ledger.free_on(device) for device in budgets}
        made = self._standing(demand, asked)
        if not asked.spills:  # what spills is laid out over all that may become free: RAM is for what never fits
            made += self._choices(demand, asked, free)
        made += self._choices(demand, asked, beside)
        unique: dict[str, Placement] = {}
        for placement in made:
            unique.setdefault(placement.layout, placement)
        return list(unique.values())

    def outlook(
        self,
        demand: Demand,
        pinned: Pinned,
        candidates: Sequence[policy.Candidate],
        going: Going = STAYING,
        settled: Placement | None = None,
        claims: Claims = NOTHING,
    ) -> Outlook:
        """What would happen now. ``settled``: where it is, or others already leave for. ``claims`` of those ahead."""
        try:
            options = [settled] if settled is not None else self.options(demand, pinned)
        except CannotFit as error:
            asked = demand.asks()
            nearest = next(iter(self.candidates(demand, asked, pinned)), in_ram(self._needs.of(demand)))
            return Outlook(placement=nearest, leavers=None, refusal=error.message)
        fits = self.fitting_now(options, claims)
        if fits is not None:
            return Outlook(placement=fits, leavers=[])
        way = self.best_way(options, candidates, going, claims)
        if way is None:
            return Outlook(placement=options[0], leavers=None)
        return Outlook(placement=way.placement, leavers=way.leavers or None)

    def fits_beside(self, placement: Placement, demand: Demand, pinned: Pinned) -> bool:
        """Whether the placement would fit if everybody but the pinned left."""
        return _fits(placement, demand.asks(), pinned.placements, self._budgets())

    def missing(self, options: Iterable[Placement], claims: Claims) -> list[tuple[Placement, dict[str, int]]]:
        """What each of them is short of, in bytes by device, beside everybody and what those ahead claim."""
        return [(placement, self._ledger.missing(placement, beside=claims.aside)) for placement in options]

    def fitting_now(self, options: Iterable[Placement], claims: Claims = NOTHING) -> Placement | None:
        """The first that fits beside everybody, and beside what those ahead in the line claim."""
        allowed = [placement for placement in options if claims.allow(placement)]
        return next((placement for placement, missing in self.missing(allowed, claims) if not missing), None)

    def best_way(
        self,
        options: Iterable[Placement],
        movable: Sequence[policy.Candidate],
        going: Going,
        claims: Claims = NOTHING,
    ) -> Way | None:
        """Whom of the movable to evict: idle ones if they are enough, else work that has booked its room and busy ones.

        What is leaving anyway is not freed twice: without leases it is as good as gone, with some it counts only
        where other busy ones would have to go beside it.
        """
        idle = [c for c in movable if c.leases == 0]
        return self.way(options, idle, going.soon, claims) or self.way(options, movable, going.later, claims)

    def way(
        self,
        options: Iterable[Placement],
        candidates: Sequence[policy.Candidate],
        gone: Collection[str],
        claims: Claims = NOTHING,
    ) -> Way | None:
        """The option for which the fewest have to leave, idle rather than busy, if ``gone`` are as good as gone.

        None when for each of them all candidates are too few, or those ahead in the line have the first right to it.
        """
        ways = []
        for placement in options:
            leavers = self._victims(placement, candidates, gone, claims) if claims.allow(placement) else None
            if leavers is not None:
                ways.append(Way(placement=placement, leavers=leavers))
        by_holder = {c.holder: c for c in candidates}
        return min(ways, key=lambda way: _cost([by_holder[holder] for holder in way.leavers]), default=None)

    def _victims(
        self, placement: Placement, candidates: Sequence[policy.Candidate], gone: Collection[str], claims: Claims
    ) -> list[str] | None:
        missing = self._ledger.missing(placement, without=gone, beside=claims.aside)
        staying = self._ledger.placements(without={*gone, *(c.holder for c in candidates)})
        beside = [placement, *claims.aside, *staying]
        return policy.victims(candidates, missing, beside)

    # --- what there is to choose from ----------------------------------------------------------------------------

    def _choices(self, demand: Demand, asked: Resources, rooms: Mapping[str, int]) -> list[Placement]:
        need = demand.estimate()
        made: list[Placement] = []
        suited = {CPU, *self._gpus.of_kind(asked.gpu_type)}
        rooms = {device: bytes_ for device, bytes_ in rooms.items() if device in suited}
        for _ in range(ATTEMPTS):
            made = [self._needs.placed(demand, placement) for placement in choices(need, asked, rooms)]
            over = {
                device: bytes_ for each in made for device, bytes_ in _over(each, (), rooms).items() if device != CPU
            }
            if not over or not (asked.spills or asked.gpus > 1):
                break
            rooms = {device: bytes_ - over.get(device, 0) for device, bytes_ in rooms.items()}
        return made

    def _standing(self, demand: Demand, asked: Resources) -> list[Placement]:
        """Laid out as the same weights already are for somebody else."""
        need = demand.estimate()
        if need.weights_key is None or not asked.gpus:
            return []
        made: dict[str, Placement] = {}
        suited = set(self._gpus.of_kind(asked.gpu_type))
        for other in self._ledger.placements():
            layout = layout_of(other)
            if suited.issuperset(share.device for share in other.gpus) and matches(layout, need, asked):
                alike = self._needs.placed(demand, placed(need, layout))
                if alike.weights_key == other.weights_key:
                    made[alike.layout] = alike
        return list(made.values())

    def _budgets(self) -> dict[str, int]:
        return {device: self._ledger.budget_on(device) for device in self._ledger.budgets}

    # --- refusals ------------------------------------------------------------------------------------------------

    def lacks_gpus(self, demand: Demand) -> bool:
        """Whether there are fewer GPUs than it asks for now."""
        asked = demand.asks()
        return asked.gpus > len(self._gpus.of_kind(asked.gpu_type))

    def check_gpus(self, demand: Demand) -> None:
        """Raise CannotFit when the GPUs that it asks for are not there now."""
        if not self.lacks_gpus(demand):
            return
        asked = demand.asks()
        there, suited = self._ledger.gpus, self._gpus.of_kind(asked.gpu_type)
        if asked.gpu_type is not None and len(suited) < len(there):
            raise self._of_other_kinds(demand, asked, suited)
        has = f"{len(there)} ({', '.join(there)})" if there else f"none ({self._gpus.note})"
        raise CannotFit(
            f"'{demand.name}' asks for {_gpus(asked.gpus)} and this machine has {has}; "
            f"{demand.fewer_gpus(len(there))}, or add what is missing"
        )

    def _of_other_kinds(self, demand: Demand, asked: Resources, suited: list[str]) -> CannotFit:
        there = ", ".join(f"{gpu}: {self._gpus.names.get(gpu, 'unknown')}" for gpu in self._ledger.gpus)
        return CannotFit(
            f"'{demand.name}' asks for {_gpus(asked.gpus)} of type {asked.gpu_type}, and of those there are "
            f"{len(suited) or 'none'} among the GPUs of this machine ({there}); set gpu_type to what is there or leave "
            f"it out, or {demand.fewer_gpus(len(suited))}"
        )

    def _refusal(
        self, demand: Demand, asked: Resources, made: list[Placement], pinned: Pinned, budgets: Mapping[str, int]
    ) -> CannotFit:
        if not made:
            return self._no_layout(demand, asked, budgets)
        for placement in made:
            in_ram = placement.on(CPU)
            if in_ram is not None and asked.memory_bytes is not None and in_ram.total_bytes > asked.memory_bytes:
                return CannotFit(
                    f"'{demand.name}' needs {gib(in_ram.total_bytes)} of RAM and its resources allow "
                    f"{gib(asked.memory_bytes)}; raise 'memory' of the template or deployment, or {demand.advice}"
                )
        return self._too_large(demand, made[0], pinned, budgets)

    def _too_large(self, demand: Demand, placement: Placement, pinned: Pinned, budgets: Mapping[str, int]) -> CannotFit:
        device = next(iter(_over(placement, pinned.placements, budgets)))
        need = placement.on(device)
        assert need is not None, "over on a device that it does not use"
        has = f"{gib(budgets.get(device, 0))} for all models{self._beside_others(device, budgets)}"
        pinned_bytes = held_on(device, pinned.placements)
        if not pinned_bytes:
            more = "" if device == CPU or not demand.spreads else ", or ask for more GPUs"
            return CannotFit(
                f"'{demand.name}' needs {gib(need.total_bytes)}, {device} has {has}; {demand.advice}{more}"
            )
        more_bytes = held_on(device, [placement, *pinned.placements]) - pinned_bytes
        return CannotFit(
            f"'{demand.name}' needs {gib(more_bytes)}, and of the {device}'s {has} {gib(pinned_bytes)} are "
            f"{' or '.join(_holders(pinned))}"
        )

    def _beside_others(self, device: str, budgets: Mapping[str, int]) -> str:
        budget = self._ledger.budgets.get(device)
        if budget is None or budget.capacity_bytes <= budgets.get(device, 0):
            return ""
        return f" while other processes hold {gib(budget.others_bytes)}"

    def _no_layout(self, demand: Demand, asked: Resources, budgets: Mapping[str, int]) -> CannotFit:
        need = demand.estimate()
        if need.layers <= asked.gpus:
            return CannotFit(
                f"'{demand.name}' cannot be split over {_gpus(asked.gpus)}: it has {need.layers} "
                f"layer{'s' if need.layers > 1 else ''}; ask for fewer GPUs"
            )
        rooms = ", ".join(f"{gib(max(0, bytes_))} on {device}" for device, bytes_ in budgets.items() if device != CPU)
        return CannotFit(
            f"'{demand.name}' has no room for one of its layers on {_gpus(asked.gpus)}: there are {rooms} for it; "
            f"{demand.advice}, or set gpus to 0 to run it in RAM"
        )


def _over(placement: Placement, beside: Iterable[Placement], budgets: Mapping[str, int]) -> dict[str, int]:
    """Bytes too many, by device."""
    together = [*beside, placement]
    over = {s.device: held_on(s.device, together) - budgets.get(s.device, 0) for s in placement.shares}
    return {device: bytes_ for device, bytes_ in over.items() if bytes_ > 0}


def _fits(placement: Placement, asked: Resources, beside: Iterable[Placement], budgets: Mapping[str, int]) -> bool:
    in_ram = placement.on(CPU)
    within = asked.memory_bytes is None or in_ram is None or in_ram.total_bytes <= asked.memory_bytes
    return within and not _over(placement, beside, budgets)


def _holders(pinned: Pinned) -> list[str]:
    """Who holds what cannot be freed, and what helps."""
    held = []
    if pinned.names:
        held.append(f"pinned by {_quoted(pinned.names)}; unpin (min_workers 0) or delete one of those")
    if pinned.hung_names:
        held.append(f"held by hanging engines of {_quoted(pinned.hung_names)}; restart the appliance to free it")
    return held


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(set(names)))


def _cost(leavers: Sequence[policy.Candidate]) -> tuple[int, int, int, float]:
    busy, revocable = sum(c.is_busy for c in leavers), sum(c.revocable for c in leavers)
    return busy, revocable, len(leavers), max((c.last_used_seconds for c in leavers), default=0.0)


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
