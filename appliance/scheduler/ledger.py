"""Bytes reserved per device. The one place that can refuse memory; it never touches a device itself."""

from __future__ import annotations

from collections.abc import Container, Iterable

from msgspec import Struct
from msgspec.structs import replace

from appliance.engines.base import CPU, Need, Placement

GIB = 1024**3


def gib(size_bytes: int) -> str:
    """``9.1 GiB`` or, below a tenth of one, ``12.0 MiB``."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB // 10 else f"{size_bytes / 1024**2:.1f} MiB"


def held_bytes(needs: Iterable[Need]) -> int:
    """What these needs take together on one device: weights of one key once, everything else for each."""
    own_bytes = 0
    shared: dict[str | None, int] = {}
    for need in needs:
        own_bytes += need.own_bytes
        shared[need.weights_key] = max(need.shared_bytes, shared.get(need.weights_key, 0))
    return own_bytes + sum(shared.values())


def held_on(device: str, placements: Iterable[Placement]) -> int:
    """What these placements take together on one of their devices."""
    return held_bytes(need for placement in placements if (need := placement.on(device)) is not None)


class Budget(Struct, frozen=True, kw_only=True):
    """What engines may take on one device."""

    capacity_bytes: int
    """With nobody else on it."""
    others_bytes: int = 0
    """Held by other processes now."""

    @property
    def bytes(self) -> int:
        """What is for engines as long as the others stay."""
        return max(0, self.capacity_bytes - self.others_bytes)


class Ledger:
    """Reservations against the budgets of RAM and, once they are made known, of GPUs; by holder."""

    def __init__(self, device: str, budget_bytes: int) -> None:
        """``device`` is RAM's name, ``cpu``."""
        self.device = device
        self.budgets = {device: Budget(capacity_bytes=budget_bytes)}
        """By device, RAM first. What is not listed is not there."""
        self._reserved: dict[str, Placement] = {}

    def set_budget(self, device: str, budget: Budget) -> None:
        """Make a GPU known, or what has changed on it. What is reserved there stays so."""
        self.budgets[device] = budget

    @property
    def gpus(self) -> list[str]:
        """The GPUs that have room for engines at all, by their names."""
        return [device for device, budget in self.budgets.items() if device != CPU and budget.capacity_bytes]

    @property
    def budget_bytes(self) -> int:
        """RAM for all engines."""
        return self.budget_on(self.device)

    @property
    def reserved_bytes(self) -> int:
        """RAM that all reservations take together."""
        return self.reserved_on(self.device)

    @property
    def free_bytes(self) -> int:
        """What is left of RAM's budget."""
        return self.free_on(self.device)

    def budget_on(self, device: str) -> int:
        """What engines may take there now; 0 for a device that is not there."""
        budget = self.budgets.get(device)
        return budget.bytes if budget is not None else 0

    def reserved_on(self, device: str) -> int:
        """What all reservations take there together."""
        return held_on(device, self._reserved.values())

    def free_on(self, device: str) -> int:
        """What is left of the device's budget; negative when other processes came after the engines."""
        return self.budget_on(device) - self.reserved_on(device)

    def placements(self, without: Container[str] = ()) -> list[Placement]:
        """What is reserved, but for some holders."""
        return [placement for holder, placement in self._reserved.items() if holder not in without]

    def missing(
        self, placement: Placement, without: Container[str] = (), beside: Iterable[Placement] = ()
    ) -> dict[str, int]:
        """How many bytes must be freed, on which devices, before it fits beside the rest; empty when it fits now.

        ``without``: holders that are as good as gone. ``beside``: what is free and yet not for it.
        """
        together = [*self.placements(without), *beside, placement]
        over = {
            share.device: held_on(share.device, together) - self.budget_on(share.device) for share in placement.shares
        }
        return {device: bytes_ for device, bytes_ in over.items() if bytes_ > 0}

    def reserve(self, holder: str, placement: Placement) -> None:
        """Book the bytes. The caller has checked that they fit."""
        assert not self.missing(placement), "reserved without room"
        assert holder not in self._reserved, "reserved twice"
        self._reserved[holder] = placement

    def set_apart(self, holder: str, own_key: str) -> Placement:
        """The holder's weights go by another key from now on: who loads the same ones next has another copy of them."""
        placement = self._reserved[holder]
        self._reserved[holder] = apart = Placement(
            tuple(
                replace(share, need=replace(share.need, weights_key=share.need.weights_key and own_key))
                for share in placement.shares
            )
        )
        return apart

    def release(self, holder: str) -> None:
        """Give the holder's bytes back. Twice is fine."""
        self._reserved.pop(holder, None)
