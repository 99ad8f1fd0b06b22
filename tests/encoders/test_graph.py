"""The graphs that are written of an encoder, against numpy and the onnx package's own checker."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from appliance.encoders.graph import Float32, cross_encoder, encoder
from appliance.encoders.int8 import Int8, quantize
from appliance.encoders.weights import POSITIONS, TOKEN_TYPES, Shape, Weights
from tests.support.random_bert import SHAPE, Array, bert, random_weights

IDS = np.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
VARIANTS = pytest.mark.parametrize("linear", [Float32(), Int8()], ids=["float32", "int8"])


def run(model: bytes) -> Array:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": np.zeros_like(IDS)}
    taken = [value.name for value in session.get_inputs()]
    return np.asarray(session.run(None, {name: feeds[name] for name in taken})[0])


def without_types(weights: Weights) -> Weights:
    """The same encoder, as families without token types have it."""
    fewer = {name: values for name, values in weights.items() if name != TOKEN_TYPES}
    return {**fewer, POSITIONS: weights[POSITIONS] + weights[TOKEN_TYPES][0]}


def with_head(weights: Weights) -> Weights:
    generator = np.random.default_rng(4)
    dense, score = generator.normal(size=(128, 128)), generator.normal(size=(1, 128))
    head = {"pooler.dense": dense / 10, "classifier": score / 10}
    biases = {f"{name}.bias": np.full(len(values), 0.25, np.float32) for name, values in head.items()}
    return {**weights, **{f"{name}.weight": values.astype(np.float32) for name, values in head.items()}, **biases}


class TestEncoder:
    """From tensors to a graph of vectors."""

    def test_float32_is_bert(self) -> None:
        """Every token that is not padding has the vector that the formulas give."""
        weights = random_weights()

        found, expected = run(encoder(weights, SHAPE, Float32(), "tests")), bert(weights, IDS, MASK)

        np.testing.assert_allclose(found[MASK > 0], expected[MASK > 0], atol=2e-5)

    def test_int8_is_near(self) -> None:
        """The quantized graph gives the same vectors but for rounding."""
        weights = random_weights()

        found, expected = run(encoder(weights, SHAPE, Int8(), "tests"))[MASK > 0], bert(weights, IDS, MASK)[MASK > 0]

        cosines = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosines.min() > 0.99

    @VARIANTS
    def test_is_sound_onnx(self, linear: Float32 | Int8) -> None:
        """The bytes written without the onnx package satisfy its checker, and are the same every time."""
        model = encoder(random_weights(), SHAPE, linear, "tests")

        onnx.checker.check_model(model)
        assert model == encoder(random_weights(), SHAPE, linear, "tests")

    def test_other_activations_are_refused(self) -> None:
        """The graph has gelu built in; a model with another must not get it."""
        with pytest.raises(ValueError, match=r"config\.json asks for relu"):
            encoder(random_weights(), Shape(2, 4, 128, 1e-12, "relu"), Float32(), "tests")

    @VARIANTS
    def test_families_without_token_types(self, linear: Float32 | Int8) -> None:
        """The graph then takes none, and gives what the same tensors with one type give."""
        weights = random_weights()

        found = run(encoder(without_types(weights), SHAPE, linear, "tests"))

        assert found[MASK > 0] == pytest.approx(run(encoder(weights, SHAPE, linear, "tests"))[MASK > 0], abs=2e-5)


class TestCrossEncoder:
    """From tensors with a head to a graph of scores."""

    @pytest.mark.parametrize(("activation", "function"), [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0))])
    def test_is_bert_with_its_head(self, activation: str, function: np.ufunc) -> None:
        """The first token's vector goes through both matrices, with the family's activation between them."""
        weights = with_head(random_weights())
        shape = Shape(2, 4, 128, 1e-12, "gelu", activation)

        found = run(cross_encoder(weights, shape, Float32(), "tests"))

        first = bert(weights, IDS, MASK)[:, 0]
        pooled = function(first @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
        assert found == pytest.approx(pooled @ weights["classifier.weight"].T + weights["classifier.bias"], abs=5e-5)

    @VARIANTS
    def test_is_sound_onnx(self, linear: Float32 | Int8) -> None:
        """It satisfies the onnx package's checker."""
        onnx.checker.check_model(cross_encoder(with_head(random_weights()), SHAPE, linear, "tests"))


def test_quantize_keeps_the_largest_exact() -> None:
    """Each channel's largest value becomes ±127; a channel of zeros stays zero."""
    integers, scales = quantize(np.array([[1.0, 0.0], [-2.0, 0.0]], np.float32), axis=0)

    assert integers.tolist() == [[64, 0], [-127, 0]]
    assert scales.tolist() == [pytest.approx(2 / 127), 1.0]
