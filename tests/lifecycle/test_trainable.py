"""What is refused when a training is ordered: before a process is started, in words that say what can be trained."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from appliance.domain.errors import InvalidRequest
from appliance.domain.models import BackendName, ModelType, WeightsFormat
from appliance.domain.training import Hyperparameters, TrainingKind
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.trainable import kind_of
from appliance.lifecycle.training_needs import TrainingSize, estimated_bytes
from tests.lifecycle.things import model, template
from tests.registry import registry_samples as samples


def kind_over(architecture: str, **extra: Any) -> TrainingKind:
    """Of a text model over such a GGUF."""
    directory = Directory()
    directory.templates = {"t": template()}
    card = structs.replace(samples.ARTIFACT.card, architecture=architecture, extra=extra)
    directory.artifacts = {"w": structs.replace(samples.ARTIFACT, name="w", card=card)}
    return kind_of(directory, model(name="mine", model_template_id="t", creation_parameters={"weights": "w"}))


@pytest.mark.parametrize(
    ("architecture", "extra"),
    [
        ("falcon", {}),
        ("llama", {"rope_scaling": "yarn", "expert_count": 0}),
        ("qwen3moe", {"expert_count": 128}),
        ("mamba", {"ssm_state_size": 16}),
        ("mamba", {"ssm_state_size": 16, "ssm_dt_b_c_rms": False}),
    ],
)
def test_what_can_be_trained_is_an_adapter(architecture: str, extra: dict[str, Any]) -> None:
    """Mixtures of the architectures that are trained as such, and rotations scaled as llama.cpp does."""
    assert kind_over(architecture, **extra) is TrainingKind.GENERATION


@pytest.mark.parametrize(
    ("architecture", "extra", "complaint"),
    [
        ("rwkv7", {}, "'mine' cannot be fine-tuned: 'w' is of the architecture 'rwkv7', .* can: bloom, .*, starcoder2"),
        (
            "t5",
            {},
            r"'t5', over which no adapter can be trained \(encoder-decoders are not served here\); these can: bloom",
        ),
        (
            "llama",
            {"expert_count": 8},
            "a mixture of experts of the architecture 'llama'.*: gemma4, gpt-oss, minimax-m2, qwen2moe",
        ),
        (
            "mamba",
            {"ssm_dt_b_c_rms": True},
            "norms inside its states, as FalconMamba has, .*; fine-tune a Mamba",
        ),
        ("phi3", {"rope_scaling": "longrope"}, r"rotations by 'longrope' \(llama.cpp chooses .*: none, linear, yarn"),
    ],
)
def test_what_cannot_is_refused_with_its_reason_and_what_can(
    architecture: str, extra: dict[str, Any], complaint: str
) -> None:
    """When it is ordered: no process is started to find out."""
    with pytest.raises(InvalidRequest, match=complaint):
        kind_over(architecture, **extra)


def kind_of_encoder(quantization: str | None) -> TrainingKind:
    directory = Directory()
    bundle = {"bundle_config": {"image": BackendName.ONNX.value}}
    directory.templates = {"t": structs.replace(template(), vendor_configuration=bundle)}
    card = structs.replace(
        samples.ARTIFACT.card, format=WeightsFormat.ONNX, architecture="bert", quantization=quantization
    )
    directory.artifacts = {"w": structs.replace(samples.ARTIFACT, name="w", card=card)}
    made = {"model_type": ModelType.EMBEDDING, "creation_parameters": {"weights": "w"}}
    return kind_of(directory, model(name="mine", model_template_id="t", **made))


@pytest.mark.parametrize("quantization", ["F32", "F16+F32", None])
def test_an_encoder_of_floats_can_be_trained(quantization: str | None) -> None:
    """Of whatever width, and where the card does not say."""
    assert kind_of_encoder(quantization) is TrainingKind.EMBEDDING


@pytest.mark.parametrize(("quantization", "integers"), [("I8+U8+F32", "I8, U8"), ("F32+U8", "U8")])
def test_a_quantized_encoder_is_refused_with_what_to_train_instead(quantization: str, integers: str) -> None:
    """Its tensors tell, on the card already."""
    with pytest.raises(InvalidRequest, match=rf"'w' is quantized \({integers}\); fine-tune the float32 export"):
        kind_of_encoder(quantization)


def test_scores_and_states_that_are_kept_are_booked() -> None:
    """More for long rows of attention that keeps all its scores, and for each number of a state."""
    size = TrainingSize(
        kind=TrainingKind.GENERATION,
        base_digest="a",
        dataset_digest="b",
        hyperparameters=Hyperparameters(sequence_length=1024),
        device="cpu",
    )
    llama = structs.replace(samples.ARTIFACT.card, embedding_length=512, layer_count=8, head_count=16)
    bloom = structs.replace(llama, architecture="bloom")
    mamba = structs.replace(llama, architecture="mamba", extra={"ssm_state_size": 16})

    assert estimated_bytes(size, bloom) - estimated_bytes(size, llama) == 8 * 1024 * 4 * 3 * 16 * 1024
    assert estimated_bytes(size, mamba) - estimated_bytes(size, llama) == 8 * 1024 * 4 * 512 * 16 * 10
