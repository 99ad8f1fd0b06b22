"""Small real weights files for the store's tests: good ones by the public packages, crooked ones byte by byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
_FORMS = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: Any) -> bytes:
    body = text(value) if kind == STRING else struct.pack(_FORMS[kind], value)
    return text(key) + struct.pack("<I", kind) + body


def array(key: str, kind: int, values: Sequence[Any], claimed: int | None = None) -> bytes:
    body = b"".join(text(value) if kind == STRING else struct.pack(_FORMS[kind], value) for value in values)
    length = len(values) if claimed is None else claimed
    return text(key) + struct.pack("<IIQ", ARRAY, kind, length) + body


def tensor(name: str, shape: Sequence[int], type_id: int = 0, offset: int = 0, dimensions: int | None = None) -> bytes:
    row = text(name) + struct.pack("<I", len(shape) if dimensions is None else dimensions)
    return row + b"".join(struct.pack("<Q", length) for length in shape) + struct.pack("<IQ", type_id, offset)


LLAMA_KEYS = (
    pair("general.architecture", STRING, "llama"),
    pair("llama.block_count", U32, 1),
    pair("llama.embedding_length", U32, 32),
    pair("llama.attention.head_count", U32, 4),
)
ONE_TENSOR = (tensor("token_embd.weight", (32, 4)),)
ONE_TENSOR_BYTES = 32 * 4 * 4


def gguf_bytes(
    keys: Sequence[bytes] = LLAMA_KEYS,
    tensors: Sequence[bytes] = ONE_TENSOR,
    data_bytes: int = ONE_TENSOR_BYTES,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    counts = (len(tensors) if tensor_count is None else tensor_count, len(keys) if key_count is None else key_count)
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % alignment) + _data(data_bytes)


def _data(size_bytes: int) -> bytes:
    return (bytes(range(256)) * (size_bytes // 256 + 1))[:size_bytes]


def write_llama(path: Path, *, vocabulary: int = 40, name: str = "Tiny Llama", seed: int = 0) -> Path:
    """A complete small Llama as the gguf package writes it: two layers of 64, grouped heads, Q8_0 and F32."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name(name)
    writer.add_license("apache-2.0")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"token{number}" for number in range(vocabulary)])
    writer.add_token_types([1] * vocabulary)
    writer.add_token_merges(["t o", "to k"])
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((vocabulary, 64), dtype=np.float32)
    writer.add_tensor(
        "token_embd.weight",
        gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0),
        raw_dtype=gguf.GGMLQuantizationType.Q8_0,
    )
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    _finish(writer)
    return path


def write_gguf(
    path: Path, architecture: str, scalars: dict[str, Any], tensors: Sequence[str] = ("output_norm.weight",)
) -> Path:
    """A GGUF with these keys and tensors of 32 ones."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in scalars.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    for name in tensors:
        writer.add_tensor(name, np.ones(32, np.float32))
    _finish(writer)
    return path


def write_shards(folder: Path, count: int, prefix: str = "big") -> list[Path]:
    """A model split as llama.cpp splits: the first shard has the keys, every shard some tensors."""
    paths = []
    for number in range(count):
        path = folder / f"{prefix}-{number + 1:05d}-of-{count:05d}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", count)
        if number == 0:
            writer.add_block_count(count)
            writer.add_embedding_length(32)
        writer.add_tensor(f"blk.{number}.attn_norm.weight", np.full(32, number, np.float32))
        _finish(writer)
        paths.append(path)
    return paths


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def encoder_model(vocabulary: int = 20, width: int = 8) -> onnx.ModelProto:
    """Token ids → token vectors by one Gather: the smallest model with an encoder's inputs and outputs."""
    table = np.arange(vocabulary * width, dtype=np.float32).reshape(vocabulary, width)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", width])],
        [numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests")


def outside(model: onnx.ModelProto, location: str, offset: int = 0) -> bytes:
    """Move the table's bytes out of the model and say they are at ``location``; the bytes."""
    table = model.graph.initializer[0]
    raw = table.raw_data
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(len(raw)))):
        table.external_data.add(key=key, value=value)
    return bytes(raw)


def write_encoder_folder(folder: Path, model: onnx.ModelProto | None = None, **config: Any) -> Path:
    """A folder as sentence-transformers exports it."""
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.onnx").write_bytes((model or encoder_model()).SerializeToString())
    settings = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "vocab_size": 20,
    } | config  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "WordPiece", "vocab": {}}}))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def safetensors_bytes(entries: dict[str, Any], data: bytes, *, claimed: int | None = None) -> bytes:
    head = json.dumps(entries).encode()
    return struct.pack("<Q", len(head) if claimed is None else claimed) + head + data
