"""Where an engine may go: tables of layouts, and properties over any machine. GPUs are numbers here, nothing loads."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from appliance.engines.base import CPU, Need, Placement, Resources, in_ram
from appliance.scheduler.placement import apportion, choices, layout_of, matches, placed

NEED = Need(
    weights_bytes=1_100,
    adapter_bytes=20,
    cache_bytes=200,
    compute_bytes=50,
    weights_key="k",
    layers=11,
    host_weights_bytes=100,
    host_compute_bytes=7,
)
"""Ten layers of 100 + 2 + 20 bytes, an output layer of 100, and buffers of 50 wherever there are layers."""
WHOLE_BYTES = 1_370


def bytes_by_device(placement: Placement) -> dict[str, int]:
    return {share.device: share.need.total_bytes for share in placement.shares}


def layouts(need: Need, asked: Resources, rooms: dict[str, int]) -> list[list[tuple[str, int]]]:
    return [list(layout_of(placement)) for placement in choices(need, asked, rooms)]


def test_no_gpu_asked_for_is_ram() -> None:
    """The need as it is, whatever GPUs there are."""
    assert choices(NEED, Resources(), {"cpu": 1, "gpu0": 10_000}) == [in_ram(NEED)]
    assert in_ram(NEED).layout == in_ram(NEED).device == "cpu"


def test_one_gpu_is_tried_tightest_first() -> None:
    """Every GPU is a choice, the one with the least room first; all layers go there, and the input stays in RAM."""
    made = choices(NEED, Resources(gpus=1), {"cpu": 0, "gpu0": 9_000, "gpu1": 2_000})
    assert [placement.layout for placement in made] == ["gpu1:11", "gpu0:11"]
    assert bytes_by_device(made[0]) == {"cpu": 107, "gpu1": WHOLE_BYTES}
    assert made[0].device == "gpu1"


def test_several_gpus_share_in_proportion() -> None:
    """Exactly as many as asked for, those with the most room; each has the buffers, the last the output layer."""
    (made,) = choices(NEED, Resources(gpus=2), {"cpu": 0, "gpu0": 1_000, "gpu1": 100, "gpu2": 2_000})
    assert made.layout == "gpu0:3,gpu2:8"
    assert bytes_by_device(made) == {"cpu": 107, "gpu0": 3 * 122 + 50, "gpu2": 7 * 122 + 100 + 50}
    assert made.device == "gpu0+gpu2"


@pytest.mark.parametrize(
    ("asked", "rooms", "expected"),
    [
        (Resources(gpus=1, gpu_layers=4), {"gpu0": 0}, [[("cpu", 7), ("gpu0", 4)]]),
        (Resources(gpus=1, spills=True), {"gpu0": 150 + 3 * 122}, [[("cpu", 7), ("gpu0", 4)]]),
        (Resources(gpus=1, spills=True), {"gpu0": 9_000}, [[("gpu0", 11)]]),
        (
            Resources(gpus=2, spills=True),
            {"gpu0": 172, "gpu1": 150 + 2 * 122},
            [[("cpu", 7), ("gpu0", 1), ("gpu1", 3)]],
        ),
        (Resources(gpus=1, spills=True), {"gpu0": 150 + 121}, []),
        (Resources(gpus=1), {}, []),
        (Resources(gpus=2), {"gpu0": 9_000}, []),
    ],
    ids=["a number", "as many as fit", "all fit", "over two", "not one fits", "no GPU", "one GPU of two"],
)
def test_layers_split_with_ram(asked: Resources, rooms: dict[str, int], expected: list[list[tuple[str, int]]]) -> None:
    """A number of layers is kept to; what spills leaves in RAM only what the GPUs have no room for."""
    assert layouts(NEED, asked, {"cpu": 0, **rooms}) == expected


def test_what_ram_has_of_a_split() -> None:
    """The first layers, the input embeddings, and buffers of both kinds."""
    (made,) = choices(NEED, Resources(gpus=1, gpu_layers=4), {"cpu": 0, "gpu0": 0})
    assert bytes_by_device(made) == {"cpu": 7 * 122 + 107 + 50, "gpu0": 3 * 122 + 100 + 50}
    assert (made.device, made.layout) == ("gpu0+cpu", "cpu:7,gpu0:4")


def test_what_has_no_layers_is_whole_or_not() -> None:
    """A graph that cannot be split goes onto one GPU, and onto two not at all."""
    graph = Need(weights_bytes=100, compute_bytes=10, host_compute_bytes=3)
    (made,) = choices(graph, Resources(gpus=1), {"cpu": 0, "gpu0": 0})
    assert bytes_by_device(made) == {"cpu": 3, "gpu0": 110}
    assert choices(graph, Resources(gpus=2), {"cpu": 0, "gpu0": 500, "gpu1": 500}) == []


def test_more_gpus_than_layers() -> None:
    """Three GPUs cannot share two layers and an output."""
    two = Need(weights_bytes=100, layers=3)
    assert choices(two, Resources(gpus=3), {"cpu": 0, "gpu0": 500, "gpu1": 500, "gpu2": 500}) == []


def test_weights_are_named_by_their_layout() -> None:
    """Shared only by who has them in the same places; all parts name the same, and RAM keeps the plain name."""
    one, other = choices(NEED, Resources(gpus=1), {"cpu": 0, "gpu0": 1, "gpu1": 2})
    assert (one.weights_key, other.weights_key) == ("k on gpu0:11", "k on gpu1:11")
    assert {share.need.weights_key for share in one.shares} == {one.weights_key}
    assert in_ram(NEED).weights_key == "k"


@pytest.mark.parametrize(
    ("layout", "asked", "expected"),
    [
        ([("gpu0", 11)], Resources(gpus=1), True),
        ([("gpu0", 11)], Resources(), False),
        ([("gpu0", 5), ("gpu1", 6)], Resources(gpus=1), False),
        ([("gpu0", 5), ("gpu1", 6)], Resources(gpus=2), True),
        ([("cpu", 7), ("gpu0", 4)], Resources(gpus=1), False),
        ([("cpu", 7), ("gpu0", 4)], Resources(gpus=1, gpu_layers=4), True),
        ([("cpu", 7), ("gpu0", 4)], Resources(gpus=1, spills=True), True),
        ([("gpu0", 9)], Resources(gpus=1), False),
    ],
)
def test_what_suits_whom(layout: list[tuple[str, int]], asked: Resources, expected: bool) -> None:
    """The second deployment of the same weights takes the first one's layout only if it asked for such a one."""
    assert matches(layout, NEED, asked) is expected


@given(st.integers(1, 200), st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_apportioned_layers(layers: int, capacities: list[int]) -> None:
    """All are given out, and no device gets more than it has room for, as long as there is room in all."""
    assume(layers >= len(capacities))
    rooms = {f"gpu{number}": capacity for number, capacity in enumerate(capacities)}
    parts = apportion(layers, rooms)
    assert sum(parts.values()) == layers
    if sum(capacities) >= layers and (len(capacities) == 1 or min(capacities) >= 1):
        assert all(parts[gpu] <= room for gpu, room in rooms.items())


@given(
    st.integers(2, 40),
    st.integers(0, 10_000),
    st.integers(0, 5_000),
    st.integers(0, 500),
    st.integers(0, 3_000),
    st.integers(1, 4),
    st.lists(st.integers(0, 12_000), min_size=4, max_size=4),
    st.booleans(),
)
def test_nothing_is_lost_and_spilling_fits(
    layers: int, weights: int, cache: int, compute: int, host: int, gpus: int, rooms: list[int], spills: bool
) -> None:
    """However the layers are laid out, all are somewhere with at least their bytes; what spills fits the GPUs."""
    need = Need(
        weights_bytes=weights,
        cache_bytes=cache,
        compute_bytes=compute,
        prefix_bytes=777,
        layers=layers,
        host_weights_bytes=host,
    )
    machine = {CPU: 0, **{f"gpu{number}": room for number, room in enumerate(rooms)}}
    for placement in choices(need, Resources(gpus=gpus, spills=spills), machine):
        assert sum(share.layers for share in placement.shares) == layers
        assert len(placement.gpus) == gpus
        assert all(share.layers for share in placement.gpus)
        parts = placement.need
        assert parts.weights_bytes >= weights
        assert parts.cache_bytes >= cache
        assert [share.device for share in placement.shares if share.need.prefix_bytes == 777] == [CPU]
        assert parts.prefix_bytes == 777
        assert parts.total_bytes == placement.total_bytes
        if spills:
            assert all(share.need.total_bytes <= machine[share.device] for share in placement.gpus)
        assert placed(need, layout_of(placement)) == placement
