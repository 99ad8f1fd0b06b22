"""The ONNX walk: what it finds in good models, and that no tensor hides outside the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from appliance.domain.errors import BadWeights
from appliance.store.onnx_header import OnnxHeader, OnnxValue, read_onnx_header
from appliance.store.window import open_window
from tests.store.weights_files import encoder_model, outside

EXTERNAL = {"location": "../secret", "offset": "0", "length": "4"}


def read(tmp_path: Path, model: onnx.ModelProto | bytes) -> OnnxHeader:
    path = tmp_path / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with open_window(path) as window:
        return read_onnx_header(window)


def external_tensor(**entries: str) -> TensorProto:
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in (EXTERNAL | entries).items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_a_good_model_is_read(tmp_path: Path):
    """Versions, inputs, outputs, tensor bytes and node count are those of the model."""
    assert read(tmp_path, encoder_model()) == OnnxHeader(
        ir_version=8,
        producer="tests",
        opsets={"ai.onnx": 17},
        inputs=(OnnxValue("input_ids", ("batch", "sequence")),),
        outputs=(OnnxValue("last_hidden_state", ("batch", "sequence", 8)),),
        parameter_count=160,
        weights_bytes=640,
        element_types=("F32",),
        node_count=1,
        external=(),
    )


def test_tensors_outside_are_listed_and_measured(tmp_path: Path):
    """A table in a neighbouring file is named, and must lie inside that file."""
    model = encoder_model()
    raw = outside(model, "model.onnx_data", offset=64)
    header = read(tmp_path, model)
    assert header.external_files() == ("model.onnx_data",)
    header.check_external("model.onnx", {"model.onnx_data": 64 + len(raw)})
    with pytest.raises(BadWeights, match=r"byte 704 of 'model\.onnx_data', which has 703"):
        header.check_external("model.onnx", {"model.onnx_data": 703})
    with pytest.raises(BadWeights, match="missing"):
        header.check_external("model.onnx", {})


@pytest.mark.parametrize(
    "location", ["../model.bin", "/etc/passwd", "sub/model.bin", "..", "", "a\\b", "C:secret", ".hidden", "a\nb"]
)
def test_places_outside_the_folder_are_refused(tmp_path: Path, location: str):
    """External data is a plain file name or nothing (CVE-2026-27489, -34446, -34447)."""
    model = encoder_model()
    outside(model, location)
    with pytest.raises(BadWeights, match="not a plain file name"):
        read(tmp_path, model)


def in_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(
        onnx.AttributeProto(name="v", type=onnx.AttributeProto.TENSOR, t=external_tensor())
    )


def in_attribute_list(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="v", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(external_tensor())


def in_subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [external_tensor()])
    model.graph.node[0].attribute.append(helper.make_attribute("then_branch", inner))


def in_subgraph_list(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="v", type=onnx.AttributeProto.GRAPHS)
    attribute.graphs.add().initializer.append(external_tensor())


def in_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=external_tensor()))
    model.functions.append(helper.make_function("local", "f", [], ["c"], [node], [helper.make_opsetid("", 17)]))


def in_function_default(model: onnx.ModelProto) -> None:
    in_function(model)
    model.functions[0].attribute_proto.add(name="d", type=onnx.AttributeProto.TENSOR).t.CopyFrom(external_tensor())


def in_training_graph(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.initializer.append(external_tensor())


@pytest.mark.parametrize(
    "hide",
    [
        in_attribute,
        in_attribute_list,
        in_subgraph,
        in_subgraph_list,
        in_function,
        in_function_default,
        in_training_graph,
    ],
)
def test_no_tensor_hides(tmp_path: Path, hide: Callable[[onnx.ModelProto], None]):
    """A tensor with outside data is found wherever a tensor can stand."""
    model = encoder_model()
    hide(model)
    with pytest.raises(BadWeights, match=r"'\.\./secret' is not a plain file name"):
        read(tmp_path, model)


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ({"location": "d", "offset": "-4"}, "claims 4 bytes at -4"),
        ({"location": "d", "length": "99999999999"}, "claims 99999999999 bytes"),
        ({"location": "d", "length": "0"}, "claims 0 bytes"),
        ({"location": "d", "offset": "four"}, "unreadable place"),
    ],
)
def test_crooked_places_are_refused(tmp_path: Path, entries: dict[str, str], fault: str):
    """Offset and length are numbers that fit the tensor's shape."""
    model = encoder_model()
    model.graph.initializer.append(external_tensor(**entries))
    with pytest.raises(BadWeights, match=fault):
        read(tmp_path, model)


def test_a_place_told_twice_is_refused(tmp_path: Path):
    """Two locations for one tensor: readers disagree which counts."""
    model, tensor = encoder_model(), external_tensor(location="data")
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(tensor)
    with pytest.raises(BadWeights, match="says twice"):
        read(tmp_path, model)


def changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = encoder_model()
    change(model)
    return model


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda m: m.graph.sparse_initializer.add(), "sparse tensors"),
        (lambda m: m.graph.node[0].attribute.add(name="s").sparse_tensor.dims.append(4), "sparse tensors"),
        (lambda m: setattr(m.graph.node[0], "op_type", "EPContext"), "EPContext"),
        (lambda m: m.graph.initializer[0].dims.append(2), "640 bytes, its shape needs 1280"),
        (lambda m: m.graph.initializer[0].dims.append(-1), "impossible shape"),
        (lambda m: m.graph.initializer[0].dims.extend([1 << 40, 1 << 40]), "impossible shape"),
        (lambda m: m.graph.initializer[0].dims.extend([1] * 40), "impossible shape"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "unknown type 99"),
        (lambda m: setattr(m, "ir_version", 0), "no version"),
        (lambda m: m.ClearField("opset_import"), "no version"),
        (lambda m: m.ClearField("graph"), "no version"),
        (lambda m: setattr(m, "producer_name", "x" * 5000), "longer than 4096"),
    ],
)
def test_crooked_models_are_refused(tmp_path: Path, change: Callable[[onnx.ModelProto], object], fault: str):
    """Each fault ends in BadWeights that names it."""
    with pytest.raises(BadWeights, match=fault):
        read(tmp_path, changed(change))


def test_nesting_is_bounded(tmp_path: Path):
    """Graphs in graphs end at a fixed depth, not at Python's."""
    graph = helper.make_graph([], "leaf", [], [])
    for _ in range(20):
        node = helper.make_node("If", [], [])
        node.attribute.append(helper.make_attribute("then_branch", graph))
        graph = helper.make_graph([node], "g", [], [])
    model = encoder_model()
    model.graph.node.extend(graph.node)
    with pytest.raises(BadWeights, match="nested deeper"):
        read(tmp_path, model)


def test_custom_domains_and_texts_are_recorded(tmp_path: Path):
    """Operator sets of other domains are listed; text tensors have no size to check."""
    model = encoder_model()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.initializer.append(numpy_helper.from_array(np.array(["a", "b"], dtype=object), "words"))
    assert read(tmp_path, model).opsets == {"ai.onnx": 17, "com.microsoft": 1}


def test_a_model_cut_anywhere_is_refused_or_whole(tmp_path: Path):
    """A shorter file never reads as the same model."""
    raw = encoder_model().SerializeToString()
    whole = read(tmp_path, raw)
    for length in range(0, len(raw), 3):
        try:
            assert read(tmp_path, raw[:length]) != whole
        except BadWeights:
            continue


_SEED = encoder_model(4, 2).SerializeToString()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, len(_SEED) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes_never_do_anything_but_pass_or_fail(tmp_path: Path, edits: list[tuple[int, int]]):
    """A good model with changed bytes reads or is BadWeights."""
    raw = bytearray(_SEED)
    for place, value in edits:
        raw[place] = value
    try:
        header = read(tmp_path, bytes(raw))
    except BadWeights:
        return
    assert header.weights_bytes <= 1 << 62


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300))
def test_arbitrary_bytes(tmp_path: Path, raw: bytes):
    """Noise is refused or read, never anything else."""
    try:
        read(tmp_path, raw)
    except BadWeights:
        return
