"""Bytes reserved per device. The one place that can refuse memory; it never touches a device itself."""

from __future__ import annotations

from appliance.domain.errors import CannotFit

GIB = 1024**3


def gib(size_bytes: int) -> str:
    """``9.1 GiB`` or, below a tenth of one, ``12.0 MiB``."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB // 10 else f"{size_bytes / 1024**2:.1f} MiB"


class Ledger:
    """Reservations against one device's budget, by deployment."""

    def __init__(self, device: str, budget_bytes: int) -> None:
        self.device = device
        self.budget_bytes = budget_bytes
        self._reserved: dict[str, int] = {}

    @property
    def reserved_bytes(self) -> int:
        """Sum of all reservations."""
        return sum(self._reserved.values())

    @property
    def free_bytes(self) -> int:
        """What is left of the budget."""
        return self.budget_bytes - self.reserved_bytes

    def missing_bytes(self, need_bytes: int) -> int:
        """How many bytes must be freed before the need fits; 0 when it fits now."""
        return max(0, need_bytes - self.free_bytes)

    def check_possible(self, name: str, need_bytes: int) -> None:
        """Raise CannotFit when the need is larger than the whole budget."""
        if need_bytes > self.budget_bytes:
            raise CannotFit(
                f"'{name}' needs {gib(need_bytes)}, {self.device} has {gib(self.budget_bytes)} for all models; "
                "lower context_length, cache_tokens or per_worker, or take a smaller quantization"
            )

    def reserve(self, holder: str, need_bytes: int) -> None:
        """Book the bytes. The caller has checked that they fit."""
        assert self.missing_bytes(need_bytes) == 0, "reserved without room"
        assert holder not in self._reserved, "reserved twice"
        self._reserved[holder] = need_bytes

    def release(self, holder: str) -> None:
        """Give the holder's bytes back. Twice is fine."""
        self._reserved.pop(holder, None)
