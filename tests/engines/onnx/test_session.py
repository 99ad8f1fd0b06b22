"""Loading a graph, and refusing what cannot be loaded as it was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.domain.errors import BadWeights, CannotFit, WrongWeights
from appliance.encoders import protobuf
from appliance.engines.onnx.session import Session, device_of, providers
from appliance.engines.onnx.tasks import TokenBatch
from tests.support.onnx_folders import random_table

IDS = np.array([[4, 5, 6], [7, 0, 0]])
MASK = np.array([[1, 1, 1], [1, 0, 0]])
BATCH = TokenBatch(IDS, MASK, np.zeros_like(IDS))


def write_graph(file: Path, inputs: dict[str, str], outputs: tuple[str, ...] = ("last_hidden_state",)) -> Path:
    """A graph of one table that takes ``inputs`` (name → element type) and gives the first one's rows."""
    axes = ("batch", "sequence")
    file.write_bytes(
        protobuf.model(
            "tiny",
            producer="tests",
            opsets={"": 17},
            nodes=[protobuf.node("Gather", ["table", next(iter(inputs))], [name]) for name in outputs],
            initializers=[protobuf.tensor("table", random_table())],
            inputs=[protobuf.value(name, kind, axes) for name, kind in inputs.items()],
            outputs=[protobuf.value(name, "float32", (*axes, 8)) for name in outputs],
        )
    )
    return file


def gpu_is_usable() -> bool:
    return Path("/dev/nvidia0").exists()


def test_says_where_it_runs(encoder: Path) -> None:
    """The device is that of the built session."""
    assert Session(encoder / "model.onnx", device="cpu", threads=1).device == "cpu"


@pytest.mark.skipif(gpu_is_usable(), reason="there is a GPU")
def test_no_gpu_is_an_error(encoder: Path) -> None:
    """CUDA asked for and absent fails with the reason and the way out; it is never a silent run on the CPU."""
    with pytest.raises(CannotFit, match=r"device 'gpu0' was asked for and cannot be used: .+ or take 'cpu'"):
        Session(encoder / "model.onnx", device="gpu0", threads=1)


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_is_usable(), reason="no GPU")
def test_gpu_is_used(encoder: Path) -> None:
    """With a GPU, the built session runs there and gives the same rows."""
    session = Session(encoder / "model.onnx", device="gpu0", threads=1)

    assert session.device == "gpu0"
    np.testing.assert_allclose(session.run(BATCH), random_table()[IDS])


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_is_usable(), reason="no GPU")
def test_the_limit_holds_on_a_real_gpu(encoder: Path) -> None:
    """The arena may not grow over the limit: a tiny one is refused as too little memory, not as a bad model."""
    with pytest.raises(CannotFit, match="not enough memory"):
        Session(encoder / "model.onnx", device="gpu0", threads=1, limit_bytes=1)


class FakeSession:
    """A built session as ONNX Runtime describes it."""

    def __init__(self, provider: str, device_id: str = "0") -> None:
        self.provider, self.device_id = provider, device_id

    def get_providers(self) -> list[str]:
        return [self.provider, "CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {self.provider: {"device_id": self.device_id}}


def test_what_a_session_is_built_with() -> None:
    """The number of the GPU and the limit for its arena; for the processor nothing of CUDA at all."""
    ((name, options), fallback) = providers("gpu3", 1_000)
    assert (name, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert (options["device_id"], options["gpu_mem_limit"]) == (3, 1_000)
    assert "gpu_mem_limit" not in providers("gpu3", None)[0][1]
    assert providers("cpu", 1_000) == ["CPUExecutionProvider"]


def test_the_built_session_is_believed() -> None:
    """The GPU that was asked for, or an error that says what it became. Sessions are doubles here."""
    assert device_of(FakeSession("CUDAExecutionProvider", "1"), "gpu1") == "gpu1"
    assert device_of(FakeSession("CPUExecutionProvider"), "cpu") == "cpu"
    with pytest.raises(CannotFit, match="'gpu1' was asked for and cannot be used: ONNX Runtime fell back to CPU"):
        device_of(FakeSession("CPUExecutionProvider"), "gpu1")
    with pytest.raises(CannotFit, match="'gpu1' was asked for and cannot be used: ONNX Runtime took gpu0"):
        device_of(FakeSession("CUDAExecutionProvider", "0"), "gpu1")


@pytest.mark.parametrize("kind", ["int64", "int32"])
def test_feeds_the_inputs_that_the_graph_has(tmp_path: Path, kind: str) -> None:
    """Inputs are found by name and fed in the graph's own integer type."""
    session = Session(write_graph(tmp_path / "m.onnx", {"input_ids": kind}), device="cpu", threads=1)

    np.testing.assert_array_equal(session.run(BATCH), random_table()[IDS])


def test_feeds_positions(tmp_path: Path) -> None:
    """A graph that does not count for itself is given each token's place."""
    graph = write_graph(tmp_path / "m.onnx", {"position_ids": "int64", "input_ids": "int64"})

    np.testing.assert_array_equal(
        Session(graph, device="cpu", threads=1).run(BATCH), random_table()[[[0, 1, 2], [0, 0, 0]]]
    )


def test_prefers_token_vectors(tmp_path: Path) -> None:
    """Of several outputs the one that every task can be made of is read."""
    graph = write_graph(tmp_path / "m.onnx", {"input_ids": "int64"}, ("sentence_embedding", "token_embeddings"))

    assert Session(graph, device="cpu", threads=1).output_name == "token_embeddings"


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    """A graph of images is named by what it takes."""
    with pytest.raises(WrongWeights, match="the graph takes pixel_values; a text encoder takes input_ids"):
        Session(write_graph(tmp_path / "m.onnx", {"pixel_values": "int64"}), device="cpu", threads=1)


def test_damaged_graph_is_refused_without_paths(tmp_path: Path) -> None:
    """What the runtime says is passed on, where the file lies is not."""
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a\x12\xff")

    with pytest.raises(BadWeights, match="refuses the model") as raised:
        Session(tmp_path / "m.onnx", device="cpu", threads=1)

    assert str(tmp_path) not in raised.value.message


def test_unknown_operator_is_refused(tmp_path: Path) -> None:
    """A graph made for another runtime names the operator."""
    graph = protobuf.model(
        "tiny",
        producer="tests",
        opsets={"": 17, "elsewhere": 1},
        nodes=[protobuf.node("Magic", ["input_ids"], ["out"], domain="elsewhere")],
        initializers=[],
        inputs=[protobuf.value("input_ids", "int64", ("b", "s"))],
        outputs=[protobuf.value("out", "float32", ("b", "s"))],
    )
    (tmp_path / "m.onnx").write_bytes(graph)

    with pytest.raises((BadWeights, WrongWeights), match="Magic"):
        Session(tmp_path / "m.onnx", device="cpu", threads=1)


def test_close_twice(encoder: Path) -> None:
    """Closing what is closed changes nothing."""
    session = Session(encoder / "model.onnx", device="cpu", threads=1)
    session.close()
    session.close()
