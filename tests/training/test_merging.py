"""The process that merges: from an adapter over the starter to a smaller model that answers, or to nothing at all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.domain.errors import BadWeights
from appliance.domain.inference import ChatRequest, Message, Sampling
from appliance.engines.llama.engine import LlamaTextEngine, TextOptions
from appliance.engines.llama.runtime import Model
from appliance.engines.llama.runtime.quantizer import quantize_file
from appliance.store.gguf_weights import GgufWeights
from appliance.store.inspection import inspect
from appliance.store.lora import Adapter, write_adapter
from appliance.store.merge import merge
from appliance.training import merging
from tests.store.test_merge import factors
from tests.support.tiny_trainable import cosine, llama_logits
from tests.training.tasks import ROOT, STARTER

TOKENS = [0, 40, 41, 42, 100, 101, 7]


def write_starters_adapter(place: Path, base: Path) -> Path:
    """It changes what it answers, also with matrices whose rows are no multiple of 256."""
    shapes = {"self_attn.q_proj": (256, 256), "mlp.up_proj": (640, 256), "mlp.down_proj": (256, 640)}
    modules = {
        f"model.layers.{layer}.{name}": factors(*shape, layer) for layer in (1, 4) for name, shape in shapes.items()
    }
    write_adapter(place, GgufWeights(base), modules, alpha=1.0)
    return place


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_starters_adapter(tmp_path_factory.mktemp("adapter") / "adapter.gguf", STARTER)


def merged(base: Path, adapter: Path, place: Path, kind: str, instead: str = "") -> tuple[int, list[dict[str, Any]]]:
    """The process's status and what it said. ``instead``: what it does in place of quantizing, a double's."""
    program = "import sys; from appliance.training import merging\n"
    if instead:
        program += (
            "from appliance.engines.llama.runtime import quantizer\nimport os, signal, threading\n"
            f"def double(source, place, kind, threads, progress): {instead}\nquantizer.quantize_file = double\n"
        )
    program += "sys.exit(merging.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(base), str(adapter), str(place), kind, "0"],
        stdout=subprocess.PIPE,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def answer(weights: Path) -> str:
    """What the engine says to a greeting."""

    async def ask() -> str:
        options = TextOptions(context_length_tokens=256, cache_tokens=256, slots=1, threads=2)
        engine = LlamaTextEngine(Model(weights), options)
        try:
            request = ChatRequest(
                messages=(Message(role="user", content="Hello!"),), sampling=Sampling(temperature=0.0, max_tokens=8)
            )
            return "".join([delta.text async for delta in await engine.chat(request)])
        finally:
            await asyncio.to_thread(engine.close)

    return asyncio.run(ask())


def test_a_merge_is_quantized(adapter: Path, tmp_path: Path) -> None:
    """Q4_K_M in the card, close to base and adapter, and the engine answers; one progress for both passes."""
    place = tmp_path / "merged.gguf"

    status, said = merged(STARTER, adapter, place, "q4_k_m")

    assert status == 0, said
    tensors = len(GgufWeights(STARTER).tensors)
    assert [line["done"] for line in said] == list(range(1, 2 * tensors + 1))
    assert {line["tensors"] for line in said} == {2 * tensors}
    assert [path.name for path in tmp_path.iterdir()] == ["merged.gguf"]
    card = inspect({"merged.gguf": place})
    assert (card.quantization, card.chat_template) == ("Q4_K_M", inspect({"s.gguf": STARTER}).chat_template)
    assert place.stat().st_size < STARTER.stat().st_size
    assert cosine(llama_logits(place, TOKENS), llama_logits(STARTER, TOKENS, adapter)) > 0.97
    assert cosine(llama_logits(place, TOKENS), llama_logits(STARTER, TOKENS)) < 0.96
    assert answer(place)


def test_a_quantized_base_keeps_its_types(adapter: Path, tmp_path: Path) -> None:
    """Each tensor, those of K-quants that the adapter changes among them."""
    merge(GgufWeights(STARTER), Adapter(adapter), tmp_path / "half.gguf", "f16")
    base, place = tmp_path / "base.gguf", tmp_path / "merged.gguf"
    quantize_file(tmp_path / "half.gguf", base, "q4_k_m", 2, lambda done, tensors: None)
    over = write_starters_adapter(tmp_path / "over.gguf", base)

    status, said = merged(base, over, place, "keep")

    assert status == 0, said
    before, after = GgufWeights(base).tensors, GgufWeights(place).tensors
    assert {name: one.tensor_type for name, one in before.items()} == {
        name: one.tensor_type for name, one in after.items()
    }
    changed = {name for name, one in before.items() if one.data.tobytes() != after[name].data.tobytes()}
    assert changed == Adapter(over).targets
    assert inspect({"merged.gguf": place}).quantization == "Q4_K_M"
    assert cosine(llama_logits(place, TOKENS), llama_logits(base, TOKENS, over)) > 0.97


class Here:
    """The same in this process, for what it says before it begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # this process's are others'
        self._said = capsys

    def refusal(self, *arguments: object) -> str:
        assert merging.main(list(map(str, arguments))) == 1
        (line,) = self._said.readouterr().out.splitlines()
        return str(json.loads(line)["failed"])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(monkeypatch, capsys)


@pytest.mark.parametrize(("kind", "words"), [("q4_k_m", "as f16, from which at most 0.00"), ("f32", "are free")])
def test_a_disk_without_room_is_said_before(here: Here, adapter: Path, tmp_path: Path, kind: str, words: str) -> None:
    """With what both files take and what is free; nothing is begun."""
    refusal = here.refusal(STARTER, adapter, tmp_path / "merged.gguf", kind, 1 << 60)
    assert "the merge needs 0.0" in refusal
    assert words in refusal
    assert not list(tmp_path.iterdir())


def test_a_disk_that_others_fill_meanwhile_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A double of a full disk: llama.cpp's own words are about a stream."""
    error = BadWeights("iostream error")
    assert merging._explained(error, tmp_path / "m.gguf") is error
    monkeypatch.setattr(merging.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    assert "was filled by others meanwhile" in merging._explained(error, tmp_path / "m.gguf").message


def test_an_unknown_type_is_refused(here: Here, adapter: Path, tmp_path: Path) -> None:
    """Whoever starts the process by hand is told the words too."""
    assert "cannot be written as 'q9'; it can as f16" in here.refusal(STARTER, adapter, tmp_path / "m.gguf", "q9", 0)


def test_a_place_that_is_none_is_said(here: Here, adapter: Path, tmp_path: Path) -> None:
    """As the operating system has it."""
    refusal = here.refusal(STARTER, adapter, tmp_path / "nowhere" / "merged.gguf", "q4_k_m", 0)
    assert refusal == "merged.gguf cannot be written: No such file or directory"


WRITES = "open(place, 'w').write('half of it'); "


@pytest.mark.parametrize(
    ("instead", "status", "last"),
    [
        (WRITES + "os.kill(os.getpid(), signal.SIGTERM); threading.Event().wait()", 130, {"done": 56, "tensors": 112}),
        (WRITES + "raise RuntimeError('oh')", 1, {"failed": "quantizing ended with RuntimeError: oh"}),
    ],
    ids=["interrupted", "failed"],
)
def test_nothing_is_left_of_one_that_ends_early(
    adapter: Path, tmp_path: Path, instead: str, status: int, last: dict[str, Any]
) -> None:
    """Doubles of a quantizer that hears no signal, and of one that fails: half the result and the f16 go."""
    found, said = merged(STARTER, adapter, tmp_path / "merged.gguf", "q4_k_m", instead=instead)
    assert (found, said[-1]) == (status, last)
    assert not list(tmp_path.iterdir())


def test_nobody_listens_any_more(adapter: Path, tmp_path: Path) -> None:
    """A command that was killed: the merge ends with its next word, and leaves nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [str(STARTER), str(adapter), str(tmp_path / "merged.gguf"), "q4_k_m", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "appliance.training", "merge", *arguments],
        stdout=writing,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    os.close(writing)
    assert done.returncode not in (0, -signal.SIGPIPE)
    assert not list(tmp_path.iterdir())
