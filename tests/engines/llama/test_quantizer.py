"""llama.cpp's quantizer: every mixture that is offered can be made, is called what it is, and still computes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from appliance.domain.errors import BadWeights
from appliance.domain.trainable import MATRIX_TYPES, QUANTIZED_TYPES
from appliance.engines.llama.runtime.quantizer import FILE_TYPES, quantize_file, quantize_matrix, writes
from appliance.store.gguf_weights import GgufWeights
from appliance.store.inspection import inspect
from appliance.store.lora import save
from appliance.store.merge import quantized_bytes
from tests.support.altered_gguf import copy_fields
from tests.support.tiny_trainable import Floats, cosine, llama_logits
from tests.training.tasks import STARTER

TOKENS = [0, 40, 41, 7]
LAYERS = 2
Type = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter's first layers in f16: most of its rows are 256 numbers, those of ffn_down 640."""
    place = tmp_path_factory.mktemp("half") / "half.gguf"
    starter = GgufWeights(STARTER)
    writer = gguf.GGUFWriter(place, starter.architecture)
    copy_fields(writer, starter, {"llama.block_count": LAYERS})
    for name in starter.tensors:
        if name.split(".")[1] in {"weight", *map(str, range(LAYERS))}:
            numbers = starter.numbers(name)
            writer.add_tensor(name, numbers.astype(np.float16) if numbers.ndim > 1 else numbers)
    save(writer)
    return place


def test_the_mixtures_are_those_that_are_offered() -> None:
    """In the same order, and none that needs an importance matrix."""
    assert tuple(FILE_TYPES) == QUANTIZED_TYPES
    assert not set(FILE_TYPES) & set(MATRIX_TYPES)


@pytest.fixture(scope="module")
def logits(half: Path) -> Floats:
    """What llama.cpp computes of it."""
    return llama_logits(half, TOKENS)


@pytest.mark.parametrize("kind", QUANTIZED_TYPES)
def test_a_mixture(kind: str, half: Path, logits: Floats, tmp_path: Path) -> None:
    """Its card names it, it is no larger than was reckoned with, and llama.cpp computes nearly the same of it."""
    told: list[tuple[int, int]] = []
    place = tmp_path / "small.gguf"

    quantize_file(half, place, kind, 2, lambda done, tensors: told.append((done, tensors)))

    assert inspect({"small.gguf": place}).quantization == kind.upper()
    weights = GgufWeights(place)
    assert place.stat().st_size <= quantized_bytes(GgufWeights(half), kind) + 4096
    assert told == [(number, len(weights.tensors)) for number in range(1, len(weights.tensors) + 1)]
    floor = 0.9 if kind.startswith(("q2", "q3")) else 0.97
    assert cosine(llama_logits(place, TOKENS), logits) > floor


def test_rows_that_do_not_divide_get_a_larger_type(half: Path, tmp_path: Path) -> None:
    """640 numbers are no multiple of 256: instead of Q4_K they are Q5_0, and Q8_0 where the mixture wants Q6_K."""
    place = tmp_path / "small.gguf"
    quantize_file(half, place, "q4_k_m", 2, lambda done, tensors: None)
    types = {name: tensor.tensor_type for name, tensor in GgufWeights(place).tensors.items()}
    assert types["blk.0.ffn_up.weight"] is Type.Q4_K
    assert [types[f"blk.{layer}.ffn_down.weight"] for layer in range(LAYERS)] == [Type.Q5_0, Type.Q8_0]


def test_what_cannot_be_quantized_is_said(tmp_path: Path) -> None:
    """A file that is none, weights that are quantized, and a place that is none: in llama.cpp's words."""
    (tmp_path / "none.gguf").write_bytes(b"GGUF")
    for source, place in (
        (tmp_path / "none.gguf", tmp_path / "a.gguf"),
        (STARTER, tmp_path / "b.gguf"),
    ):
        with pytest.raises(BadWeights, match=f"cannot write '{source.name}' as q4_0: .+"):
            quantize_file(source, place, "q4_0", 1, lambda done, tensors: None)


@pytest.mark.parametrize("kind", [Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_NL, Type.IQ4_XS, Type.Q3_K, Type.Q2_K])
def test_a_matrix(kind: Type, half: Path) -> None:
    """Row by row what the types mean, whatever the number of threads."""
    numbers = np.random.default_rng(3).standard_normal((37, 512), dtype=np.float32)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    written = quantize_matrix(numbers, int(kind), 512 // block * block_bytes, 2)
    assert writes(int(kind))
    assert cosine(gguf.quants.dequantize(written, kind), numbers) > (0.93 if kind is Type.Q2_K else 0.97)
    assert np.array_equal(written, quantize_matrix(numbers, int(kind), written.shape[1], 1))


def test_types_that_need_more_are_not_written() -> None:
    """Two bits a number are garbage without an importance matrix; whole numbers are no quantization."""
    assert not writes(int(Type.IQ2_XXS))
    assert not writes(int(Type.I32))
