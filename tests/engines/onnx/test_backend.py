"""What can be served, judged before native code."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.domain.errors import CannotFit, WrongWeights
from appliance.domain.models import ModelType, WeightsFormat
from appliance.engines.onnx.backend import OnnxBackend
from tests.engines.onnx.conftest import MakeSpec


def test_version_is_the_library_s() -> None:
    """The tag of the shipped templates is the version of what is installed."""
    assert OnnxBackend().version == importlib.metadata.version("onnxruntime-gpu")


def test_import_loads_no_native_library() -> None:
    """A server that never serves ONNX weights does not carry the runtime."""
    code = (
        "import sys, appliance.engines.onnx.backend; print({'onnxruntime', 'tokenizers', 'numpy'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_sound_spec_passes(encoder: Path, spec_of: MakeSpec) -> None:
    """Token vectors can be pooled, and compared one by one."""
    OnnxBackend().check(spec_of(encoder))
    OnnxBackend().check(spec_of(encoder, ModelType.RERANKING))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": ModelType.COMPLETION}, "ONNX weights serve EMBEDDING and RERANKING, not COMPLETION"),
        ({"adapter": Path("adapter.gguf")}, "take no adapter"),
        ({"weights": Path("/nowhere")}, "the weights lack model.onnx and tokenizer.json"),
    ],
    ids=["a text model", "an adapter", "an empty folder"],
)
def test_wrong_spec_is_refused(encoder: Path, spec_of: MakeSpec, changes: dict[str, Any], message: str) -> None:
    """Each reason names what is wrong and what would do."""
    with pytest.raises(WrongWeights, match=message):
        OnnxBackend().check(msgspec.structs.replace(spec_of(encoder), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": WeightsFormat.GGUF}, "the weights are gguf, this template takes onnx"),
        ({"model_types": (ModelType.RERANKING,)}, "cannot serve EMBEDDING; by their header they can serve: RERANKING"),
        ({"model_types": ()}, "by their header they can serve: neither embedding nor reranking"),
    ],
    ids=["a GGUF file", "a reranker", "some other graph"],
)
def test_wrong_card_is_refused(encoder: Path, spec_of: MakeSpec, changes: dict[str, Any], message: str) -> None:
    """What the header says decides."""
    spec = spec_of(encoder)

    with pytest.raises(WrongWeights, match=message):
        OnnxBackend().check(msgspec.structs.replace(spec, card=msgspec.structs.replace(spec.card, **changes)))


def test_estimate_grows_with_the_batch(starter: Path, spec_of: MakeSpec) -> None:
    """Weights as the card counts them, buffers for the largest batch."""
    small, large = (OnnxBackend().estimate(spec_of(starter, batch_tokens=n)) for n in (512, 8_192))

    assert small.weights_bytes == large.weights_bytes == spec_of(starter).card.weights_bytes
    assert small.compute_bytes < large.compute_bytes


def test_a_gpu_session_is_shared_by_equals(encoder: Path, spec_of: MakeSpec) -> None:
    """A session on a GPU is bounded by its buffers: engines with larger ones get another. In RAM they share it."""
    on_gpu = [
        OnnxBackend().estimate(spec_of(encoder, device="cuda", batch_tokens=tokens)) for tokens in (64, 64, 9_999)
    ]
    in_ram = [OnnxBackend().estimate(spec_of(encoder, batch_tokens=tokens)) for tokens in (64, 9_999)]
    assert on_gpu[0].weights_key == on_gpu[1].weights_key != on_gpu[2].weights_key
    assert in_ram[0].weights_key == in_ram[1].weights_key
    assert on_gpu[0].grows
    assert not in_ram[0].grows


def test_where_it_was_not_asked_to_be(encoder: Path, spec_of: MakeSpec) -> None:
    """A placement that contradicts the parameters is an error, never a run somewhere else."""
    with pytest.raises(CannotFit, match="asked for device 'cuda' and placed on cpu"):
        OnnxBackend().load(spec_of(encoder, device="cuda"))
