"""What is refused when a training is ordered: before a process is started, in words that say what can be trained."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from appliance.domain.errors import InvalidRequest
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
        ("phi3", {"rope_scaling": "longrope"}, r"rotations by 'longrope' \(llama.cpp chooses .*: none, linear, yarn"),
    ],
)
def test_what_cannot_is_refused_with_its_reason_and_what_can(
    architecture: str, extra: dict[str, Any], complaint: str
) -> None:
    """When it is ordered: no process is started to find out."""
    with pytest.raises(InvalidRequest, match=complaint):
        kind_over(architecture, **extra)


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
