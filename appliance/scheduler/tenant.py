"""Who has room on the devices or waits for it in the line: a ``Resident`` or a ``Booking``."""

from __future__ import annotations

from abc import ABC, abstractmethod

from appliance.engines.base import Need, in_ram
from appliance.scheduler.demand import Demand
from appliance.scheduler.policy import Candidate, Head


class Tenant(ABC):
    """Mutable; only the scheduler writes it, on the event loop."""

    def __init__(self, holder: str, demand: Demand, need: Need, now_seconds: float) -> None:
        self.holder = holder
        """Name in the ledger; unlike the demand's it is never used twice."""
        self.demand = demand
        self.need = need
        """What it takes if it goes to RAM."""
        self.placement = in_ram(need)
        """Where it goes, or in the line may go; final once it has its room."""
        self.is_aimed = False
        """Others leave for just this placement; the line sticks to it."""
        self.low_priority = False
        """Only work in the background waits for it so far."""
        self.enqueued_seconds = now_seconds
        self.gpus = demand.asks().gpus
        """How many it is to be on; 0: RAM."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """Its class in the line for room: the lowest goes first."""

    @abstractmethod
    def as_candidate(self) -> Candidate:
        """What the eviction policy may know of one that has its room."""

    @abstractmethod
    def as_head(self, now_seconds: float) -> Head:
        """What the eviction policy may know of one that waits for room."""
