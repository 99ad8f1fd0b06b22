"""Makes tiny ONNX folders with a word-level tokenizer: random, seeded, a millisecond to write, real to ONNX Runtime.

Token vectors are rows of a table, so that a test can compute by hand what any graph over them gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from appliance.domain.models import Card
from appliance.encoders import protobuf
from appliance.store.inspection import inspect

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("red", "green", "blue", "one", "two", "three", "cat", "dog")
VOCABULARY = SPECIAL + WORDS
WIDTH = 8
POSITIONS = 32
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
AXES = ("batch", "sequence")

Table = npt.NDArray[np.float32]


def random_table(rows: int = len(VOCABULARY)) -> Table:
    """One vector per token."""
    return np.random.default_rng(1).normal(size=(rows, WIDTH)).astype(np.float32)


def write_encoder(folder: Path, table: Table, *, pooling: str | None = None, output: str = "last_hidden_state") -> Path:
    """A graph whose output is each token's row of ``table``."""
    look_up = protobuf.node("Gather", ["table", "input_ids"], [output])
    return _write(folder, [look_up], {"table": table}, (output, (*AXES, WIDTH)), pooling=pooling)


def write_pooled_encoder(folder: Path, table: Table) -> Path:
    """A graph that sums the vectors of each text by itself."""
    nodes = _summed("sentence_embedding")
    return _write(folder, nodes, {"table": table, **_AXIS}, ("sentence_embedding", ("batch", WIDTH)))


def write_cross_encoder(folder: Path, table: Table, head: Table) -> Path:
    """A graph whose logits are the sum of the tokens' vectors times ``head``, [width, labels]."""
    nodes = [*_summed("summed"), protobuf.node("MatMul", ["summed", "head"], ["logits"])]
    constants = {"table": table, "head": head, **_AXIS}
    return _write(folder, nodes, constants, ("logits", ("batch", head.shape[1])))


def card_of(folder: Path) -> Card:
    """The card as the store reads it."""
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    pooling = folder / "1_Pooling" / "config.json"
    return inspect(files | ({"pooling_config.json": pooling} if pooling.exists() else {}))


def write_tokenizer(file: Path) -> Path:
    """Words to ids, with [CLS] and [SEP] around, and a second [SEP] in pairs. It asks for cuts and padding."""
    ids = {token: place for place, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    tokenizer.save(str(file))
    return file


def _summed(output: str) -> list[bytes]:
    """Each text's tokens without padding, added up."""
    return [
        protobuf.node("Gather", ["table", "input_ids"], ["vectors"]),
        protobuf.node("Cast", ["attention_mask"], ["mask"], attributes={"to": protobuf.ELEMENT_TYPES["float32"]}),
        protobuf.node("Unsqueeze", ["mask", "last"], ["column"]),
        protobuf.node("Mul", ["vectors", "column"], ["masked"]),
        protobuf.node("ReduceSum", ["masked", "tokens"], [output], attributes={"keepdims": 0}),
    ]


_AXIS: dict[str, npt.NDArray[Any]] = {"tokens": np.array([1]), "last": np.array([2])}


def _write(
    folder: Path,
    nodes: Sequence[bytes],
    constants: Mapping[str, npt.NDArray[Any]],
    output: tuple[str, Sequence[int | str]],
    *,
    pooling: str | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = protobuf.model(
        "tiny",
        producer="tests",
        opsets={"": 17},
        nodes=nodes,
        initializers=[protobuf.tensor(name, values) for name, values in constants.items()],
        inputs=[protobuf.value(name, "int64", AXES) for name in INPUTS],
        outputs=[protobuf.value(output[0], "float32", output[1])],
    )
    (folder / "model.onnx").write_bytes(model)
    write_tokenizer(folder / "tokenizer.json")
    config = {"model_type": "bert", "max_position_embeddings": POSITIONS, "hidden_size": WIDTH}
    (folder / "config.json").write_text(json.dumps(config))
    if pooling:
        (folder / "1_Pooling").mkdir()
        modes = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{modes[pooling]}": True}))
    return folder
