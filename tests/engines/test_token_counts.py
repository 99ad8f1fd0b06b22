"""Lengths that are counted are those that a training sees, within bounds of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.domain.errors import BadWeights
from appliance.domain.training import TrainingKind
from appliance.engines.token_counts import MEMORY_BYTES, Counting, Outcome, count
from appliance.training.encoder_base import open_base
from appliance.training.prompts import load, write
from tests.support.tiny_encoders import write_random_encoder
from tests.support.tiny_trainable import write_trainable
from tests.support.trainings import encoder_task
from tests.training.tasks import STARTER

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "<think>hm</think>First."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Second."},
]
CHATS = [{"input": "Hello", "output": "Good day to you"}, {"messages": CONVERSATION}]
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1] if not loop.last else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAIRS = [
    {"question": "red", "chunk": "red cat", "positive": True},
    {"question": "red", "chunk": "green dog two", "positive": False},
    {"question": "red", "chunk": "red cat", "positive": True},
    {"question": "green one", "chunk": "red cat", "positive": False},
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def counting(kind: TrainingKind, base: Path, dataset: Path) -> Counting:
    return Counting(kind=kind, base=str(base), dataset=str(dataset))


@pytest.mark.parametrize("template", ["starter", FORGETFUL, None])
def test_conversations_are_as_long_as_in_a_training(tmp_path: Path, template: str | None) -> None:
    """Example by example: with the starter's template, with one that rewrites earlier turns, and without any."""
    base = STARTER
    if template != "starter":
        base = write_trainable(tmp_path / "base.gguf", "llama", chat_template=template)
    dataset = written(tmp_path / "data.jsonl", CHATS)

    found = count(counting(TrainingKind.GENERATION, base, dataset))

    write(base, dataset, tmp_path / "kept.npz")
    trained = load(tmp_path / "kept.npz").examples
    assert found.examples == Counter(len(example.tokens) for example in trained)


@pytest.mark.parametrize("kind", [TrainingKind.RERANKING, TrainingKind.EMBEDDING])
def test_texts_are_as_long_as_in_a_training(tmp_path: Path, kind: TrainingKind) -> None:
    """A reranker reads question and chunk together, an embedder apart; what stands twice is read once."""
    base = write_random_encoder(tmp_path / "base")
    dataset = written(tmp_path / "data.jsonl", PAIRS)

    found = count(counting(kind, base, dataset))

    texts: list[Any] = ["red", "green one", "red cat", "green dog two"]
    if kind is TrainingKind.RERANKING:
        texts = [("red", "red cat"), ("red", "green dog two"), ("green one", "red cat")]
    trained = open_base(encoder_task(tmp_path / "work", kind, base, dataset)).encode(texts)
    assert found.examples == Counter(map(len, trained))


def test_a_file_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    """In llama.cpp's own words, and in those of the tokenizers library."""
    dataset = written(tmp_path / "data.jsonl", CHATS)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadWeights, match=r"cannot read the vocabulary of 'data\.jsonl'"):
        count(counting(TrainingKind.GENERATION, dataset, dataset))
    with pytest.raises(BadWeights, match=r"tokenizer\.json cannot be read"):
        count(counting(TrainingKind.EMBEDDING, tmp_path, written(tmp_path / "pairs.jsonl", PAIRS)))


def outcome_of(asked: Counting, *, instead: str = "None") -> tuple[int, Any]:
    """The process's status and its answer. ``instead``: what it does in place of counting."""
    program = (
        "import sys; from appliance.engines import token_counts\n"
        f"if {instead!r} != 'None': token_counts.count = lambda asked: {instead}\n"
        "sys.exit(token_counts._main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=msgspec.json.encode(asked),
        stdout=subprocess.PIPE,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.returncode, msgspec.json.decode(done.stdout, type=Outcome)


def test_the_process_says_what_is_wrong(tmp_path: Path) -> None:
    """With the error's code and its words, as one line; a dataset that went meanwhile is said too."""
    dataset = written(tmp_path / "data.jsonl", CHATS)
    assert outcome_of(counting(TrainingKind.GENERATION, dataset, dataset))[1].code == "bad_weights"
    status, gone = outcome_of(counting(TrainingKind.GENERATION, STARTER, tmp_path / "gone.jsonl"))
    assert (status, gone.code) == (0, "invalid_parameter")
    assert "the dataset cannot be read" in gone.message


def test_the_processs_memory_is_bounded(tmp_path: Path) -> None:
    """A count that wants more is refused with the number; the machine's memory is not taken for it."""
    asked = counting(TrainingKind.GENERATION, STARTER, tmp_path / "data.jsonl")
    _, refused = outcome_of(asked, instead=f"bytearray({MEMORY_BYTES})")
    assert (refused.code, "takes more than 4 GiB of memory" in refused.message) == ("invalid_parameter", True)
