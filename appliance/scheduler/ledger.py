"""Bytes reserved per device. The one place that can refuse memory; it never touches a device itself."""

from __future__ import annotations

from collections.abc import Container, Iterable

from appliance.domain.errors import CannotFit
from appliance.engines.base import Need

GIB = 1024**3


def gib(size_bytes: int) -> str:
    """``9.1 GiB`` or, below a tenth of one, ``12.0 MiB``."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB // 10 else f"{size_bytes / 1024**2:.1f} MiB"


def held_bytes(needs: Iterable[Need]) -> int:
    """What these needs take together: weights of one key once, everything else for each."""
    own_bytes = 0
    shared: dict[str | None, int] = {}
    for need in needs:
        own_bytes += need.own_bytes
        shared[need.weights_key] = max(need.shared_bytes, shared.get(need.weights_key, 0))
    return own_bytes + sum(shared.values())


class Ledger:
    """Reservations against one device's budget, by deployment."""

    def __init__(self, device: str, budget_bytes: int) -> None:
        self.device = device
        self.budget_bytes = budget_bytes
        self._reserved: dict[str, Need] = {}

    @property
    def reserved_bytes(self) -> int:
        """What all reservations take together."""
        return held_bytes(self._reserved.values())

    @property
    def free_bytes(self) -> int:
        """What is left of the budget."""
        return self.budget_bytes - self.reserved_bytes

    def needs(self, without: Container[str] = ()) -> list[Need]:
        """What is reserved, but for some holders."""
        return [need for holder, need in self._reserved.items() if holder not in without]

    def missing_bytes(self, need: Need, without: Container[str] = ()) -> int:
        """How many bytes must be freed before the need fits beside the rest; 0 when it fits now.

        ``without``: holders that are as good as gone.
        """
        return max(0, held_bytes([*self.needs(without), need]) - self.budget_bytes)

    def check_possible(self, name: str, need: Need) -> None:
        """Raise CannotFit when the need is larger than the whole budget."""
        if need.total_bytes > self.budget_bytes:
            raise CannotFit(
                f"'{name}' needs {gib(need.total_bytes)}, {self.device} has {gib(self.budget_bytes)} for all models; "
                "lower context_length, cache_tokens or per_worker, or take a smaller quantization"
            )

    def reserve(self, holder: str, need: Need) -> None:
        """Book the bytes. The caller has checked that they fit."""
        assert self.missing_bytes(need) == 0, "reserved without room"
        assert holder not in self._reserved, "reserved twice"
        self._reserved[holder] = need

    def release(self, holder: str) -> None:
        """Give the holder's bytes back. Twice is fine."""
        self._reserved.pop(holder, None)
