"""Adapters on the command line: one of peft's is imported over its base, and merged with it into a model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance.cli import main
from appliance.commands.merge import merge
from tests.store.test_peft_folder import write_folder
from tests.support.tiny_trainable import cosine, llama_logits, write_trainable

TOKENS = [0, 40, 41, 42, 7]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the weights 'base' and the adapter 'lora' imported; their sources are beside it."""
    folder = tmp_path_factory.mktemp("merge")
    home = folder / "home"
    path = write_trainable(folder / "base.gguf", "llama")
    done = invoke("models", "import", str(path), "--name", "base", home=home)
    assert done.exit_code == 0, done.output
    done = invoke(
        "models", "import", str(write_folder(folder / "adapter")), "--name", "lora", "--base", "base", home=home
    )
    assert done.exit_code == 0, done.output
    return home


def invoke(*arguments: str, home: Path) -> Result:
    return CliRunner().invoke(main, [*arguments, "--home", str(home)])


def test_an_adapter_is_merged_with_the_base_that_it_names(home: Path, tmp_path: Path) -> None:
    """Artifacts by name; the base is found by its digest; the result is imported where that is asked for."""
    place = tmp_path / "merged.gguf"

    done = CliRunner().invoke(merge, ["lora", str(place), "--type", "f32", "--import", "merged", "--home", str(home)])

    assert done.exit_code == 0, done.output
    assert "'merged' is imported" in done.output
    base = home.parent / "base.gguf"
    assert cosine(llama_logits(place, TOKENS), llama_logits(base, TOKENS)) < 0.99
    again = CliRunner().invoke(merge, ["lora", str(place), "--home", str(home)])
    assert again.exit_code == 1
    assert "exists; choose another place" in again.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing", "x.gguf"], "no artifact named 'nothing'"),
        (["base", "x.gguf"], "'base' is no adapter"),
        (["lora", "x.gguf", "--base", "nothing"], "no artifact named 'nothing'"),
        (["lora", "x.gguf", "--base", "lora"], "the adapter changes"),
    ],
)
def test_what_cannot_be_merged_is_said(home: Path, tmp_path: Path, arguments: list[str], complaint: str) -> None:
    """And no file is left."""
    name, file, *options = arguments
    done = CliRunner().invoke(merge, [name, str(tmp_path / file), *options, "--home", str(home)])

    assert complaint in f"{done.output} {done.exception}"
    assert not list(tmp_path.glob("x.gguf*"))


def test_a_smaller_type(home: Path, tmp_path: Path) -> None:
    """In letters of any size; the result is imported, and its card has the type."""
    done = CliRunner().invoke(
        merge, ["lora", str(tmp_path / "small.gguf"), "--type", "Q4_K_M", "--import", "small", "--home", str(home)]
    )
    assert done.exit_code == 0, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]
    listed = invoke("models", "list", "--json", home=home)
    assert "Q4_K_M" in listed.output


def test_a_type_that_needs_more_is_refused_with_the_reason(home: Path, tmp_path: Path) -> None:
    """Before anything is done; unknown ones with those that there are."""
    for kind, words in (("iq2_xxs", "needs an importance matrix"), ("q9", "'q4_k_m'")):
        done = CliRunner().invoke(merge, ["lora", str(tmp_path / "x.gguf"), "--type", kind, "--home", str(home)])
        assert done.exit_code == 2
        assert words in done.output
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_process_that_crashed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of one that llama.cpp has aborted: how it ended is said, and what it had written goes."""
    crashing = tmp_path / "crashing"
    crashing.write_text('#!/bin/sh\n: > "$6.partial"\n: > "$6.f16.partial"\nkill -ABRT $$\n')
    crashing.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(crashing))
    done = CliRunner().invoke(merge, ["lora", str(tmp_path / "x.gguf"), "--type", "q4_0", "--home", str(home)])
    assert "the merge was ended by SIGABRT; nothing is left of it" in f"{done.output} {done.exception}"
    assert list(tmp_path.iterdir()) == [crashing]


def test_an_adapter_of_peft_needs_its_base(home: Path) -> None:
    """Without one, with an unknown one, and with one that is no model: each is said, and nothing is imported."""
    folder = str(home.parent / "adapter")
    for options, complaint in (
        ([], "name the imported weights it is for"),
        (["--base", "nothing"], "import the adapter's base first"),
        (["--base", "lora"], "is no GGUF model"),
    ):
        done = invoke("models", "import", folder, "--name", "another", *options, home=home)
        assert done.exit_code == 1
        assert complaint in f"{done.output} {done.exception}"
    assert "another" not in invoke("models", "list", home=home).output
