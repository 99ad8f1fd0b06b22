"""What a load will take: the header's estimate, corrected by what the same load took before.

Every formula for compute buffers is wrong somewhere, and one machine repeats the same loads. So the peak of each load
is measured and kept under a key of everything that decides it (weights, adapter, parameters, slots, the engine's
version, where its layers are), for each device by itself. Where it is known it takes the place of the guess; weights
and cache are known exactly and stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from msgspec import Struct, structs

from appliance.engines.base import CPU, Need, Placement
from appliance.hardware.meter import Meter
from appliance.scheduler.demand import Demand


class Learned(Struct, frozen=True, kw_only=True):
    """The peak of past loads of one kind."""

    id: str
    """The key of ``key_of``."""
    peak_bytes: int
    """Largest growth of the process on one device that a load brought, weights included."""
    loads: int = 1
    """How many were measured."""


def key_of(demand: Demand, layout: str = CPU, device: str = CPU) -> str:
    """A digest of everything that decides how much of the device's memory the load takes; of that of which nothing is
    learnt, a text that is no digest.
    """
    kind = demand.kind()
    if kind is None:
        return ""
    where = [] if layout == CPU else [layout, device]
    return hashlib.sha256(msgspec.json.encode(kind + where, order="sorted")).hexdigest()


class Needs:
    """Estimates that learn.

    ``ram_bytes`` tells how much RAM there is for engines in all, None where that is not known. The whole process is
    measured there, with all that it does beside the load; so a measurement can make a load look larger than all of it,
    and is no reason to say of what was loaded that it never fits.
    """

    def __init__(self, ram_bytes: Callable[[], int | None] = lambda: None) -> None:
        self._ram_bytes = ram_bytes
        self._learned: dict[str, Learned] = {}

    def recall(self, learned: list[Learned]) -> None:
        """Take over what earlier runs of the appliance measured."""
        self._learned.update({each.id: each for each in learned})

    def of(self, demand: Demand) -> Need:
        """Bytes that it takes in RAM, if it goes there."""
        return self._corrected(demand.estimate(), key_of(demand), CPU)

    def placed(self, demand: Demand, placement: Placement) -> Placement:
        """The placement with what was learnt of it on each device."""
        return Placement(
            tuple(
                structs.replace(
                    share,
                    need=self._corrected(share.need, key_of(demand, placement.layout, share.device), share.device),
                )
                for share in placement.shares
            )
        )

    def _corrected(self, estimate: Need, key: str, device: str) -> Need:
        learned = self._learned.get(key)
        if learned is None:
            return estimate
        known_bytes = estimate.total_bytes - estimate.compute_bytes - estimate.prefix_bytes
        least_bytes = estimate.compute_bytes if estimate.grows else 0
        ram_bytes = self._ram_bytes() if device == CPU else None
        most_bytes = learned.peak_bytes if ram_bytes is None else ram_bytes - estimate.prefix_bytes
        peak_bytes = min(learned.peak_bytes, most_bytes)
        compute_bytes = max(least_bytes, peak_bytes - known_bytes)
        return structs.replace(estimate, compute_bytes=compute_bytes, is_learned=True)

    def learn(self, demand: Demand, peak_bytes: int, layout: str = CPU, device: str = CPU) -> Learned:
        """Note what a load took on a device. The largest counts: an allocator that reuses pages makes later loads look
        smaller.
        """
        key = key_of(demand, layout, device)
        earlier = self._learned.get(key)
        learned = Learned(
            id=key,
            peak_bytes=max(peak_bytes, earlier.peak_bytes if earlier else 0),
            loads=earlier.loads + 1 if earlier else 1,
        )
        self._learned[key] = learned
        return learned


def measured_on(placement: Placement, meter: Meter, *, found: bool) -> dict[str, int]:
    """What a load took on each device, weights included; a device of which the driver cannot tell is left out.

    ``found``: its weights were in memory already, and no part of what could be measured. Beside a GPU the pages of the
    file that pass through on their way there are not told from weights that stay in RAM: those are known, and added.
    """
    measured: dict[str, int] = {}
    for share in placement.shares:
        shared_bytes = share.need.shared_bytes if found else 0
        if share.device != CPU:
            if share.device in meter.gpu_peak_bytes:
                measured[share.device] = meter.gpu_peak_bytes[share.device] + shared_bytes
        elif placement.gpus:
            measured[CPU] = meter.private_peak_bytes + share.need.weights_bytes
        else:
            measured[CPU] = meter.peak_bytes + shared_bytes
    return measured
