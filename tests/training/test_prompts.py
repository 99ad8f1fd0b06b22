"""A dataset's token ids are kept for the training, which has no part in llama.cpp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.domain.errors import InvalidParameter
from appliance.engines.llama.runtime import vocabulary_of
from appliance.training.prompts import MEMORY_BYTES, MEMORY_OF_DATASET, load, prepare, write
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


def outcome_of(tmp_path: Path, instead: str) -> tuple[int, str]:
    """Status and words of the process that does this in place of tokenizing."""
    dataset = tmp_path / "data.jsonl"
    dataset.write_text(" " * 1024)
    program = (
        "import os, sys; from appliance.training import prompts\n"
        f"prompts.write = lambda base, dataset, place: {instead}\n"
        "sys.exit(prompts.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(STARTER), str(dataset), str(tmp_path / "kept.npz")],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.returncode, done.stdout


def test_the_processs_memory_is_bounded(tmp_path: Path) -> None:
    """By the size of its dataset: one that wants more is refused with the number and what would help."""
    status, said = outcome_of(tmp_path, f"bytearray({MEMORY_BYTES + MEMORY_OF_DATASET * 1024})")
    assert (status, said.strip()) == (
        1,
        "tokenizing the dataset takes more than 4.0 GiB of memory; shorten its longest conversations, or train on a "
        "part of it",
    )


def test_a_process_that_breaks_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that native code has ended says nothing itself."""
    dataset = tmp_path / "data.jsonl"
    dataset.write_text('{"input": "a", "output": "b"}\n')
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(InvalidParameter, match=r"ended with status 1, within 4\.0 GiB of memory; train on a part"):
        prepare(STARTER, dataset, tmp_path / "kept.npz")


def test_what_a_template_refuses_is_said_with_its_line(tmp_path: Path) -> None:
    """The number of the line and the template's own words."""
    base = write_trainable(
        tmp_path / "base.gguf", "llama", chat_template="{{ raise_exception('roles must alternate') }}"
    )
    dataset = tmp_path / "data.jsonl"
    dataset.write_text(json.dumps({"input": "a", "output": "b"}) + "\n")

    with pytest.raises(InvalidParameter, match=r"line 1 of the dataset: .*roles must alternate"):
        write(base, dataset, tmp_path / "kept.npz")
