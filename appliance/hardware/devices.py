"""A device at a moment, as the ledger and the dashboard see it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

CPU_ID = "cpu"


class DeviceKind(StrEnum):
    """What kind of memory a device has."""

    RAM = "ram"
    GPU = "gpu"


class Device(Struct, frozen=True, kw_only=True):
    """RAM (``cpu``) or one GPU (``gpu0``, ``gpu1``, ...)."""

    id: str
    kind: DeviceKind
    name: str
    total_bytes: int
    """What there is, or what the cgroup allows if that is less."""
    free_bytes: int
    """What could be allocated now without swapping, cgroup included."""
    used_by_us_bytes: int | None = None
    """Held by this process and, on a GPU, by those it has started; None when the driver cannot tell, as inside most
    containers."""
    utilisation_percent: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
