"""What engines may take on each GPU: its memory, less a reserve, less what other processes hold there now.

The scheduler asks anew when something that wants a GPU joins the line, and with its upkeep once a second. The reserve
is for what no engine's need names: the driver's context of this process, and kernels that are loaded at first use.
"""

from __future__ import annotations

from typing import Protocol

from appliance.hardware.devices import Device
from appliance.hardware.gpu_kinds import is_of_kind
from appliance.scheduler.ledger import Budget, Ledger


class GpuSource(Protocol):
    """The machine's GPUs, as ``hardware.probe.Probe`` sees them."""

    def gpus(self) -> list[Device]:
        """Every GPU as it is now."""

    @property
    def gpu_note(self) -> str | None:
        """Why none or fewer are listed."""


class GpuBudgets:
    """Keeps the ledger's GPU budgets true. Without a source there are no GPUs."""

    def __init__(self, ledger: Ledger, source: GpuSource | None = None, reserve_bytes: int = 0) -> None:
        self._ledger = ledger
        self._source = source
        self._reserve_bytes = reserve_bytes
        self.names: dict[str, str] = {}
        """What the driver calls each GPU."""

    @property
    def note(self) -> str:
        """Why there are no GPUs, or not all of them."""
        return (self._source.gpu_note if self._source is not None else None) or "no NVIDIA GPU found"

    def refresh(self) -> None:
        """Look at the GPUs. One that no longer answers has no room until it does."""
        if self._source is None:
            return
        found = {device.id: device for device in self._source.gpus()}
        self.names = {device.id: device.name for device in found.values()}
        for lost in set(self._ledger.gpus) - set(found):
            self._ledger.set_budget(lost, Budget(capacity_bytes=0))
        for name, device in found.items():
            self._ledger.set_budget(name, self._budget_of(device))

    def of_kind(self, gpu_type: str | None) -> list[str]:
        """The GPUs of that kind which have room for engines at all; all of those, if none is named."""
        there = self._ledger.gpus
        return there if gpu_type is None else [gpu for gpu in there if is_of_kind(self.names.get(gpu, ""), gpu_type)]

    def _budget_of(self, device: Device) -> Budget:
        ours = device.used_by_us_bytes
        if ours is None:  # the driver cannot tell, as inside most containers: ours is then what is booked
            ours = self._ledger.reserved_on(device.id)
        return Budget(
            capacity_bytes=max(0, device.total_bytes - self._reserve_bytes),
            others_bytes=max(0, device.total_bytes - device.free_bytes - ours),
        )
