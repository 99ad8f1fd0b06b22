"""Fields of a deployment's configuration that ask for what is not done here: refused, never passed over."""

from __future__ import annotations

import pytest
from msgspec import convert

from appliance.domain.errors import InvalidParameter, Unsupported
from appliance.lifecycle.vendor_configuration import kept
from appliance.wire.sgp import DeploymentVendorConfiguration
from tests.lifecycle.things import model

MODEL = model("m-1", name="ours", display_name="Ours", base_model_id="qwen", creation_parameters={"weights": "q4.gguf"})


def configuration(**fields: object) -> DeploymentVendorConfiguration:
    return convert({"vendor": "LLMENGINE", **fields}, DeploymentVendorConfiguration)


@pytest.mark.parametrize(
    ("field", "value", "advice"),
    [
        ("storage", "96Gi", "no disk of its own"),
        ("checkpoint_path", "s3://bucket/weights", "import the file, and name the artifact"),
        ("inference_framework_image_tag", "v0.6.3", "the version that is installed"),
        ("model_name", "llama-2-7b", "is of the model 'ours'"),
        ("base_model_name", "llama-2-7b", "is of the model 'ours'"),
    ],
)
def test_what_is_not_done_is_refused(field: str, value: str, advice: str) -> None:
    """The message names the field, what was asked and what to do; the place stands beside it."""
    with pytest.raises(Unsupported, match=rf"vendor_configuration\.{field}: '{value}' .*{advice}") as refused:
        kept(configuration(**{field: value}), MODEL)
    assert [place for place, _ in refused.value.errors] == [("body", "vendor_configuration", field)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("storage", "16Gi"),
        ("checkpoint_path", ""),
        ("inference_framework_image_tag", "latest"),
        *[("model_name", name) for name in ("ours", "Ours", "m-1", "qwen", "q4.gguf")],
        ("base_model_name", "qwen"),
    ],
)
def test_what_holds_anyway_passes(field: str, value: str) -> None:
    """What official clients send by themselves, and the model's own names; it is shown again as it was sent."""
    assert (kept(configuration(**{field: value}), MODEL) or {})[field] == value


def test_what_is_kept() -> None:
    """What was given; nothing of nothing."""
    assert kept(None, MODEL) is None
    assert kept(configuration(gpus=0), MODEL) == {
        "vendor": "LLMENGINE",
        "min_workers": 0,
        "max_workers": 1,
        "per_worker": 10,
        "gpus": 0,
    }
    with pytest.raises(InvalidParameter, match="raise max_workers"):
        kept(configuration(min_workers=2), MODEL)
