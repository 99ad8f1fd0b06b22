"""Where an engine may go: pure decisions over what it needs, what was asked for and the room on each device.

1. No GPU asked for: RAM.
2. One: whole on one GPU; each GPU of the machine is a choice, and the caller takes the tightest fit.
3. Several: exactly so many, those with the most room, and layers in proportion to it.
4. Fewer layers on them than there are, because a number was asked for or because what does not fit may spill: the
   first layers in RAM, the last ones with the output layer on the GPUs, as llama.cpp fills them.

Layers are counted as llama.cpp counts them: the output layer is one. What a device then takes: weights and cache by
its layers, and the buffers of a step as a whole; RAM has the input embeddings and kept prefixes beside all of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from appliance.engines.base import CPU, Need, Placement, Resources, Share, in_ram, key_on

Layout: TypeAlias = Sequence[tuple[str, int]]
"""Layers by device, in the order in which they follow each other: RAM, then the GPUs."""


def layout_of(placement: Placement) -> Layout:
    """Which layers are where."""
    return [(share.device, share.layers) for share in placement.shares if share.layers]


def matches(layout: Layout, need: Need, asked: Resources) -> bool:
    """Whether this is a layout such as was asked for."""
    on_gpus = sum(layers for device, layers in layout if device != CPU)
    if sum(device != CPU for device, _ in layout) != asked.gpus or sum(layers for _, layers in layout) != need.layers:
        return False
    return asked.gpus == 0 or on_gpus == (asked.gpu_layers or need.layers) or asked.spills


def placed(need: Need, layout: Layout) -> Placement:
    """The layout with the bytes that each device takes."""
    gpus = [(device, layers) for device, layers in layout if device != CPU and layers]
    if not gpus:
        return in_ram(need)
    ram_layers = sum(layers for device, layers in layout if device == CPU)
    key = key_on(need.weights_key, _text(layout)) if need.weights_key is not None else None
    beside = need.host_weights_bytes + need.host_compute_bytes + need.prefix_bytes
    shares = [_ram_share(need, ram_layers, key)] if ram_layers or beside else []
    for position, (device, layers) in enumerate(gpus):
        has_output = position == len(gpus) - 1
        part = (
            _part(need, layers - has_output, has_output=has_output, key=key) if need.layers > 1 else _whole(need, key)
        )
        shares.append(Share(device=device, layers=layers, need=part))
    return Placement(tuple(shares))


def choices(need: Need, asked: Resources, rooms: Mapping[str, int]) -> list[Placement]:
    """Every placement such as was asked for, the GPU with the least room first. ``rooms`` are bytes by device.

    They need not fit; only where several GPUs share the layers, or RAM takes what spills, do the rooms decide how. Of
    those that spill, the ones with the fewest layers in RAM. Empty when there are not as many GPUs as were asked for,
    or not as many layers as GPUs.
    """
    if not asked.gpus:
        return [in_ram(need)]
    gpus = sorted((device for device in rooms if device != CPU), key=lambda device: rooms[device])
    if len(gpus) < asked.gpus:
        return []
    chosen = [[gpu] for gpu in gpus] if asked.gpus == 1 else [sorted(gpus[-asked.gpus :], key=_number)]
    layouts = [_layout(need, asked, {gpu: rooms[gpu] for gpu in group}) for group in chosen]
    least = min((_in_ram(layout) for layout in layouts if layout), default=0)
    return [placed(need, layout) for layout in layouts if layout and _in_ram(layout) == least]


def _layout(need: Need, asked: Resources, rooms: Mapping[str, int]) -> Layout:
    """Layers over these GPUs, in proportion to what they have room for; what is over goes to RAM if it may."""
    if need.layers == 1:
        return [(device, 1) for device in rooms] if len(rooms) == 1 else []
    body = (asked.gpu_layers or need.layers) - 1
    each = max(1, _layer_bytes(need))
    last = list(rooms)[-1]
    fixed = {gpu: need.compute_bytes + (_output_bytes(need) if gpu == last else 0) for gpu in rooms}
    capacities = {gpu: max(0, rooms[gpu] - fixed[gpu]) // each for gpu in rooms}
    if asked.spills:
        body = min(body, sum(capacities.values()))
    if (asked.spills and not all(capacities.values())) or (len(rooms) > 1 and body < len(rooms)):
        return []
    parts = apportion(body, capacities)
    return [(CPU, need.layers - 1 - body), *((gpu, parts[gpu] + (gpu == last)) for gpu in rooms)]


def _in_ram(layout: Layout) -> int:
    return sum(layers for device, layers in layout if device == CPU)


def apportion(layers: int, capacities: Mapping[str, int]) -> dict[str, int]:
    """So many layers in proportion to capacities, none of them exceeded as long as they are enough together.

    At least one on each of several devices, where there are that many layers.
    """
    least = 1 if len(capacities) > 1 else 0
    spare = {device: max(0, capacity - least) for device, capacity in capacities.items()}
    left = layers - least * len(capacities)
    together = sum(spare.values()) or 1
    parts = {device: left * capacity // together for device, capacity in spare.items()}
    for _ in range(left - sum(parts.values())):
        neediest = max(parts, key=lambda device: spare[device] - parts[device])
        parts[neediest] += 1
    return {device: part + least for device, part in parts.items()}


# --- bytes ---------------------------------------------------------------------------------------------------------


def _ram_share(need: Need, layers: int, key: str | None) -> Share:
    part = _part(need, layers, has_output=False, key=key)
    beside = replace(
        part,
        weights_bytes=part.weights_bytes + need.host_weights_bytes,
        compute_bytes=(need.compute_bytes if layers else 0) + need.host_compute_bytes,
        prefix_bytes=need.prefix_bytes,
    )
    return Share(device=CPU, layers=layers, need=beside)


def _part(need: Need, body_layers: int, *, has_output: bool, key: str | None) -> Need:
    """What so many layers take, with the output layer or without."""
    body = max(1, need.layers - 1)
    return Need(
        weights_bytes=_layer_bytes_of(need.weights_bytes - _output_bytes(need), body_layers, body)
        + (_output_bytes(need) if has_output else 0),
        adapter_bytes=_layer_bytes_of(need.adapter_bytes, body_layers, body),
        cache_bytes=_layer_bytes_of(need.cache_bytes, body_layers, body),
        compute_bytes=need.compute_bytes,
        weights_key=key,
    )


def _whole(need: Need, key: str | None) -> Need:
    return replace(need, weights_key=key, host_weights_bytes=0, host_compute_bytes=0, prefix_bytes=0)


def _layer_bytes_of(total_bytes: int, layers: int, of_layers: int) -> int:
    return -(-total_bytes * layers // of_layers)


def _layer_bytes(need: Need) -> int:
    """The most that one more layer adds to a device: each of the three is rounded up by itself."""
    one = _part(need, 1, has_output=False, key=None)
    return one.weights_bytes + one.adapter_bytes + one.cache_bytes


def _output_bytes(need: Need) -> int:
    """The output layer is as large as the input embeddings: it is their transpose, or the same."""
    return min(need.host_weights_bytes, need.weights_bytes)


def _text(layout: Layout) -> str:
    return ",".join(f"{device}:{layers}" for device, layers in layout if layers)


def _number(device: str) -> int:
    return int(device.removeprefix("gpu"))
