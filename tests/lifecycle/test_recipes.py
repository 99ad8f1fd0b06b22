"""Resources on their way from a template and a deployment to what is asked of the machine."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from appliance.domain.errors import InvalidParameter, InvalidRequest
from appliance.engines.base import Resources
from appliance.lifecycle.recipes import _check_gpus, _resources, memory_bytes
from tests.lifecycle.things import template

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8Gi", 8 * GIB), ("512Mi", 512 * 2**20), ("1.5Ki", 1536), ("1Ti", 1024 * GIB), ("4096", 4096)],
)
def test_memory_sizes(text: str, expected: int) -> None:
    """A number with its binary unit, or bytes."""
    assert memory_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "lots", "8GB", "-1Gi", "8 Gi", "1e9", "8Gi\n"])
def test_other_sizes(text: str) -> None:
    """What is no size is refused by name: an older release stored whatever it was given."""
    with pytest.raises(InvalidParameter, match=r"memory is .*like 8Gi"):
        memory_bytes(text)


@pytest.mark.parametrize(
    ("of_template", "of_deployment", "expected"),
    [
        (None, {}, Resources()),
        ({"cpus": 3, "memory": "8Gi", "gpus": 0}, {}, Resources(cpus=3, memory_bytes=8 * GIB)),
        (
            {"cpus": 3, "memory": "8Gi", "gpus": 0},
            {"gpus": 2, "memory": "1Gi"},
            Resources(gpus=2, memory_bytes=GIB, cpus=3),
        ),
        ({"cpus": None, "memory": None, "gpus": None}, {}, Resources()),
        ({"gpus": 1}, {"gpus": 0}, Resources()),
        (
            {"gpus": 1, "gpu_type": "nvidia-tesla-t4"},
            {"gpu_type": "nvidia-hopper-h100"},
            Resources(gpus=1, gpu_type="nvidia-hopper-h100"),
        ),
        ({"gpus": 0, "gpu_type": "nvidia-tesla-t4"}, {}, Resources(gpu_type="nvidia-tesla-t4")),
    ],
)
def test_the_deployment_overrides_the_template(
    of_template: dict[str, Any] | None, of_deployment: dict[str, Any], expected: Resources
) -> None:
    """Each by itself; what neither gives limits nothing, and no GPU is RAM."""
    made = structs.replace(template(), vendor_configuration={"endpoint_config": of_template})
    assert _resources(of_deployment, made) == expected


@pytest.mark.parametrize(
    ("of_deployment", "gpus"),
    [
        pytest.param({}, 0, id="nothing"),
        pytest.param({"gpus": 2, "num_shards": 2}, 2, id="as many as GPUs"),
        pytest.param({"num_shards": 2}, 2, id="as many as the template's GPUs"),
        pytest.param({"num_shards": 1}, 0, id="one piece in RAM"),
        pytest.param({"gpus": 0, "num_shards": 4}, 0, id="what the client sends by itself"),
        pytest.param({"gpu_type": "nvidia-tesla-t4"}, 1, id="a kind of GPU"),
    ],
)
def test_gpus_that_agree(of_deployment: dict[str, Any], gpus: int) -> None:
    """The number of shards is that of the GPUs; the client's default of 4 beside its default of no GPU says nothing."""
    _check_gpus(of_deployment, Resources(gpus=gpus))


@pytest.mark.parametrize(
    ("of_deployment", "gpus", "refusal"),
    [
        (
            {"gpus": 2, "num_shards": 4},
            2,
            "num_shards is 4 and gpus is 2: .* set gpus and num_shards to the same number",
        ),
        ({"gpus": 2, "num_shards": 1}, 2, "num_shards is 1 and gpus is 2"),
        ({"gpus": 0, "num_shards": 2}, 0, "num_shards is 2 and no GPU is asked for"),
        ({"num_shards": 4}, 0, "num_shards is 4 and no GPU is asked for"),
        ({"gpu_type": "nvidia-tesla-t4"}, 0, "gpu_type is 'nvidia-tesla-t4' and no GPU is asked for; set gpus"),
    ],
)
def test_gpus_that_contradict(of_deployment: dict[str, Any], gpus: int, refusal: str) -> None:
    """With the numbers and what would help, instead of a choice between them."""
    with pytest.raises(InvalidRequest, match=refusal):
        _check_gpus(of_deployment, Resources(gpus=gpus))
