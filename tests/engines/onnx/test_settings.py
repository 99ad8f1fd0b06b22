"""Creation parameters against the card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.domain.errors import InvalidParameter
from appliance.engines.base import EngineSpec, Resources
from appliance.engines.onnx.backend import OnnxBackend
from appliance.engines.onnx.settings import read_settings
from tests.engines.onnx.conftest import MakeSpec
from tests.support.onnx_folders import POSITIONS, random_table, write_encoder


def with_card(spec: EngineSpec, **changes: Any) -> EngineSpec:
    return msgspec.structs.replace(spec, card=msgspec.structs.replace(spec.card, **changes))


def test_defaults_come_from_the_model(encoder: Path, spec_of: MakeSpec) -> None:
    """Without parameters: the card's positions, mean pooling, unit vectors, the CPU cores of this process."""
    settings = read_settings(spec_of(encoder))

    assert (settings.pooling, settings.normalize, settings.scoring) == ("mean", True, None)
    assert settings.max_tokens == POSITIONS
    assert (settings.device, settings.threads) == ("cpu", len(os.sched_getaffinity(0)))


def test_pooling_of_the_folder(tmp_path: Path, spec_of: MakeSpec) -> None:
    """A folder's pooling file decides, unless a parameter does."""
    folder = write_encoder(tmp_path / "cls", random_table(), pooling="cls")

    assert read_settings(spec_of(folder)).pooling == "cls"
    assert read_settings(spec_of(folder, pooling="last")).pooling == "last"


def test_declared_length_is_kept(encoder: Path, spec_of: MakeSpec) -> None:
    """What the model's authors declare is the limit, below the network's positions; a parameter may raise it."""
    (encoder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))

    assert read_settings(spec_of(encoder)).max_tokens == 16
    assert read_settings(spec_of(encoder, max_tokens=20)).max_tokens == 20


def test_card_without_length(encoder: Path, spec_of: MakeSpec) -> None:
    """A model that says nothing takes 512 tokens."""
    assert read_settings(with_card(spec_of(encoder), context_length_tokens=None)).max_tokens == 512


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "max"}, "'pooling' takes mean, cls, last; it is 'max'"),
        ({"scoring": "cosine"}, "'scoring' takes cross-encoder, late-interaction"),
        ({"device": "gpu"}, "'device' takes cpu, cuda"),
        ({"threads": 0}, "'threads' takes a whole number from 1 to 256; it is 0"),
        ({"threads": True}, "'threads' takes a whole number"),
        ({"batch_tokens": 8}, "'batch_tokens' takes a whole number from 16"),
        ({"max_tokens": "9"}, "'max_tokens' takes a whole number"),
        ({"max_tokens": POSITIONS + 1}, "'max_tokens' takes at most the 32 positions of this model; it is 33"),
        ({"normalize": "yes"}, "'normalize' takes true or false"),
    ],
    ids=str,
)
def test_wrong_values_are_named(encoder: Path, spec_of: MakeSpec, parameters: dict[str, Any], message: str) -> None:
    """The message names the parameter, what it takes and what it is."""
    with pytest.raises(InvalidParameter, match=message) as raised:
        read_settings(spec_of(encoder, **parameters))

    assert raised.value.errors[0][0] == ("model_creation_parameters", next(iter(parameters)))


def test_8_bit_weights_stay_off_the_gpu(encoder: Path, spec_of: MakeSpec) -> None:
    """Most of such a graph would run on the CPU under the name of the GPU."""
    spec = with_card(spec_of(encoder, device="cuda"), quantization="I8+F32")

    with pytest.raises(InvalidParameter, match="'device' takes cpu for 8-bit weights"):
        read_settings(spec)


def with_resources(spec: EngineSpec, **resources: int) -> EngineSpec:
    return msgspec.structs.replace(spec, resources=Resources(**resources))


@pytest.mark.parametrize(
    ("parameters", "gpus", "device", "asked"),
    [({}, 0, "cpu", 0), ({}, 1, "cuda", 1), ({"device": "cuda"}, 0, "cuda", 1), ({"device": "cuda"}, 1, "cuda", 1)],
)
def test_the_gpu_is_asked_for_in_two_ways(
    encoder: Path, spec_of: MakeSpec, parameters: dict[str, Any], gpus: int, device: str, asked: int
) -> None:
    """By the resources as for every backend, or by the parameter; both come to one GPU."""
    spec = with_resources(spec_of(encoder, **parameters), gpus=gpus)
    assert read_settings(spec).device == device
    assert OnnxBackend().asks(spec).gpus == asked


@pytest.mark.parametrize(
    ("parameters", "gpus", "message"),
    [
        ({}, 2, "gpus is 2; ONNX Runtime runs a model on one GPU"),
        ({"device": "cpu"}, 1, "'device' takes cuda where the resources ask for a GPU"),
    ],
)
def test_gpus_that_onnx_cannot_use(
    encoder: Path, spec_of: MakeSpec, parameters: dict[str, Any], gpus: int, message: str
) -> None:
    """Refused with the numbers, not ignored."""
    with pytest.raises(InvalidParameter, match=message):
        read_settings(with_resources(spec_of(encoder, **parameters), gpus=gpus))


def test_cpus_bound_the_threads(encoder: Path, spec_of: MakeSpec) -> None:
    """``cpus`` is a limit; the parameter ``threads`` says it exactly."""
    usable = len(os.sched_getaffinity(0))
    assert read_settings(with_resources(spec_of(encoder), cpus=1)).threads == 1
    assert read_settings(with_resources(spec_of(encoder), cpus=1024)).threads == usable
    assert read_settings(with_resources(spec_of(encoder, threads=3), cpus=1)).threads == 3
