"""Needs over shared bases of known size, for the tables and for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from appliance.engines.base import Need, Placement, Share

BASE_BYTES = 100


def need(own_bytes: int, over: str | None = None) -> Need:
    """Bytes of its own and, over a base, the base's."""
    return Need(weights_bytes=BASE_BYTES if over else 0, cache_bytes=own_bytes, weights_key=over)


def split(bytes_by_device: dict[str, int]) -> Placement:
    """So much on each device, a layer each."""
    return Placement(
        tuple(Share(device=device, layers=1, need=need(own_bytes)) for device, own_bytes in bytes_by_device.items())
    )


NEEDS = st.builds(need, st.integers(0, 100), st.sampled_from([None, "one", "two"]))
