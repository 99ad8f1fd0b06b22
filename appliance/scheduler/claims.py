"""What those further ahead in the line have the first right to: pure decisions over bytes and devices.

1. On a device where somebody ahead waits for room, nobody behind it takes any or makes some.
2. Bytes that are free for somebody ahead, who waits for room on another device, are set aside for it.

So each device has an order of its own, and whoever waits holds up only those that compete for the same bytes. A load
that needs several devices stands in the order of each of them: nobody who came later makes it wait longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from appliance.engines.base import Placement, Share


class Claims(Struct, frozen=True, kw_only=True):
    """Of everybody up to some place in the line."""

    awaited: frozenset[str] = frozenset()
    """Devices on which somebody waits for room."""
    aside: tuple[Placement, ...] = ()
    """What is free for those who wait elsewhere, and only for them."""

    def allow(self, placement: Placement) -> bool:
        """Whether who stands behind may go there, if there is room beside what is set aside."""
        return not devices_of(placement) & self.awaited


NOTHING = Claims()


def devices_of(placement: Placement) -> frozenset[str]:
    """Those of which it takes bytes."""
    return frozenset(share.device for share in placement.shares if share.need.total_bytes)


def claimed(earlier: Claims, ways: Sequence[tuple[Placement, Mapping[str, int]]]) -> Claims:
    """The claims of everybody so far and of one more, who may go to any of these placements, given what each of them is
    missing, in bytes by device.
    """
    awaited = earlier.awaited.union(*(missing for _, missing in ways))
    largest: dict[str, Share] = {}
    for placement, _ in ways:
        for share in placement.shares:
            known = largest.get(share.device)
            if share.device not in awaited and (known is None or known.need.total_bytes < share.need.total_bytes):
                largest[share.device] = share
    aside = (Placement(tuple(largest.values())),) if largest else ()
    return Claims(awaited=awaited, aside=(*earlier.aside, *aside))
