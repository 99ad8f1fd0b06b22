"""What a load will take: the header's estimate, corrected by what the same load took before.

Every formula for compute buffers is wrong somewhere, and one machine repeats the same loads. So the peak of each load
is measured and kept under a key of everything that decides it (weights, adapter, parameters, slots, the engine's
version). Where it is known it takes the place of the guess; weights and cache are known exactly and stay as they are.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct, structs

from appliance.engines.base import Need
from appliance.scheduler.resident import Wanted


class Learned(Struct, frozen=True, kw_only=True):
    """The peak of past loads of one kind."""

    id: str
    """The key of ``key_of``."""
    peak_bytes: int
    """Largest growth of the process that a load brought, weights included."""
    loads: int = 1
    """How many were measured."""


def key_of(wanted: Wanted) -> str:
    """A digest of everything that decides how much memory the load takes."""
    spec = wanted.spec
    adapter = spec.adapter.name if spec.adapter else None
    parts = [wanted.backend.version, spec.model_type.value, spec.weights.name, adapter, spec.slots, spec.parameters]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


class Needs:
    """Estimates that learn."""

    def __init__(self) -> None:
        self._learned: dict[str, Learned] = {}

    def recall(self, learned: list[Learned]) -> None:
        """Take over what earlier runs of the appliance measured."""
        self._learned.update({each.id: each for each in learned})

    def of(self, wanted: Wanted) -> Need:
        """Bytes to reserve for the load."""
        estimate = wanted.backend.estimate(wanted.spec)
        learned = self._learned.get(key_of(wanted))
        if learned is None:
            return estimate
        known_bytes = estimate.total_bytes - estimate.compute_bytes
        return structs.replace(estimate, compute_bytes=max(0, learned.peak_bytes - known_bytes), is_learned=True)

    def learn(self, wanted: Wanted, peak_bytes: int) -> Learned:
        """Note what a load took. The largest counts: an allocator that reuses pages makes later loads look smaller."""
        key = key_of(wanted)
        earlier = self._learned.get(key)
        learned = Learned(
            id=key,
            peak_bytes=max(peak_bytes, earlier.peak_bytes if earlier else 0),
            loads=earlier.loads + 1 if earlier else 1,
        )
        self._learned[key] = learned
        return learned
