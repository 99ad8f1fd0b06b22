"""GPUs that are nothing but numbers, for the scheduler's tables: no driver, no memory."""

from __future__ import annotations

from appliance.hardware.devices import Device, DeviceKind


class FakeGpus:
    """``gpu0=40`` is a GPU of 40 bytes. ``others`` is what other processes hold on each, ``names`` what a driver would
    call them."""

    def __init__(self, **totals: int) -> None:
        self.totals = totals
        self.others: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.gpu_note: str | None = None

    def gpus(self) -> list[Device]:
        return [
            Device(
                id=name,
                kind=DeviceKind.GPU,
                name=self.names.get(name, "fake"),
                total_bytes=total,
                free_bytes=total - self.others.get(name, 0),
                used_by_us_bytes=0,
            )
            for name, total in self.totals.items()
        ]
