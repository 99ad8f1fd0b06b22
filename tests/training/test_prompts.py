"""A dataset's token ids are kept for the training, which has no part in llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.domain.errors import InvalidParameter
from appliance.engines.llama.runtime import vocabulary_of
from appliance.training.prompts import load, prepare, write
from tests.support.tiny_trainable import write_trainable
from tests.training.tasks import STARTER


def test_a_dataset_is_tokenized_once(tmp_path: Path) -> None:
    """In a process of its own, and kept; the tokens that end an answer are kept with it."""
    dataset = tmp_path / "data.jsonl"
    dataset.write_text('{"input": "a", "output": "b"}\n\n{"messages": [{"role": "user", "content": "c"}, '
                       '{"role": "assistant", "content": "d"}]}\n')  # fmt: skip

    found = prepare(STARTER, dataset, tmp_path / "kept.npz")
    dataset.unlink()
    again = prepare(STARTER, dataset, tmp_path / "kept.npz")

    assert len(found.examples) == 2
    assert [example.tokens.tolist() for example in again.examples] == [one.tokens.tolist() for one in found.examples]
    with vocabulary_of(STARTER) as (vocabulary, _):
        assert vocabulary.eos in found.ends
    assert load(tmp_path / "kept.npz").ends == found.ends


def test_what_a_template_refuses_is_said_with_its_line(tmp_path: Path) -> None:
    """The number of the line and the template's own words."""
    base = write_trainable(
        tmp_path / "base.gguf", "llama", chat_template="{{ raise_exception('roles must alternate') }}"
    )
    dataset = tmp_path / "data.jsonl"
    dataset.write_text(json.dumps({"input": "a", "output": "b"}) + "\n")

    with pytest.raises(InvalidParameter, match=r"line 1 of the dataset: .*roles must alternate"):
        write(base, dataset, tmp_path / "kept.npz")
