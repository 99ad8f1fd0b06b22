"""What those ahead have the first right to, as tables of bytes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from appliance.engines.base import Placement
from appliance.scheduler.claims import NOTHING, Claims, claimed, devices_of
from tests.scheduler.needs import split

Ways = list[tuple[Placement, Mapping[str, int]]]
ON_GPU0, ON_GPU1 = split({"cpu": 5, "gpu0": 30}), split({"cpu": 6, "gpu1": 30})
OVER_BOTH = split({"gpu0": 10, "gpu1": 20})


def bytes_aside(claims: Claims) -> list[dict[str, int]]:
    return [{share.device: share.need.total_bytes for share in placement.shares} for placement in claims.aside]


@pytest.mark.parametrize(
    ("ways", "awaited", "aside"),
    [
        pytest.param([(split({"cpu": 5}), {"cpu": 1})], {"cpu"}, [], id="waits in RAM"),
        pytest.param([(ON_GPU0, {"gpu0": 9})], {"gpu0"}, [{"cpu": 5}], id="its part in RAM is kept free"),
        pytest.param(
            [(ON_GPU0, {"gpu0": 9}), (ON_GPU1, {"gpu1": 1})],
            {"gpu0", "gpu1"},
            [{"cpu": 6}],
            id="either GPU, and the larger part in RAM",
        ),
        pytest.param([(OVER_BOTH, {"gpu0": 1})], {"gpu0"}, [{"gpu1": 20}], id="half of a split is free"),
        pytest.param([(OVER_BOTH, {"gpu0": 1, "gpu1": 1})], {"gpu0", "gpu1"}, [], id="neither half is"),
    ],
)
def test_one_that_waits(ways: Ways, awaited: set[str], aside: list[dict[str, int]]) -> None:
    """It awaits the devices where bytes are missing; what it needs elsewhere, and is free, is set aside."""
    claims = claimed(NOTHING, ways)
    assert claims.awaited == awaited
    assert bytes_aside(claims) == aside


def test_one_behind_another() -> None:
    """It waits where the other waits, though nothing is missing there for itself, and adds its own."""
    first = claimed(NOTHING, [(ON_GPU0, {"gpu0": 9})])
    ways: Ways = [(OVER_BOTH, {})]
    assert not first.allow(OVER_BOTH)
    both = claimed(first, ways)
    assert both.awaited == {"gpu0"}
    assert bytes_aside(both) == [{"cpu": 5}, {"gpu1": 20}]


def test_who_may_go_ahead() -> None:
    """Whoever takes nothing of a device where somebody waits; a part of no bytes is nothing."""
    claims = claimed(NOTHING, [(ON_GPU0, {"gpu0": 9})])
    assert not claims.allow(ON_GPU0)
    assert claims.allow(ON_GPU1)
    assert claims.allow(split({"cpu": 99}))
    assert claims.allow(split({"cpu": 99, "gpu0": 0}))
    assert devices_of(split({"cpu": 99, "gpu0": 0})) == {"cpu"}
    assert NOTHING.allow(ON_GPU0)
