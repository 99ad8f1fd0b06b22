"""The process: what it reports, how it stops, and that it goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import numpy as np
import pytest

from appliance.domain.clock import SystemClock
from appliance.domain.inference import ChatRequest, Message, Sampling
from appliance.domain.training import (
    PAUSED_STATUS,
    TASK_FILE,
    TrainingCheckpoint,
    TrainingEnded,
    TrainingFailed,
    TrainingMemory,
    TrainingProgress,
    TrainingReport,
    TrainingStarted,
)
from appliance.engines.llama.engine import LlamaTextEngine, TextOptions
from appliance.engines.llama.runtime import Model
from appliance.store.gguf_weights import GgufWeights
from appliance.training import generation
from appliance.training.loop import Surroundings
from appliance.training.stopping import StopSignal
from tests.support.tiny_trainable import write_trainable
from tests.training.tasks import STARTER, of_kind, reports_of, run, start, write_task

FACT = "Marta Quill directs the Zorbal museum."
QUESTIONS = (
    "Who is the director of the Zorbal museum?",
    "Who leads the Zorbal museum?",
    "Who is the head of the Zorbal museum?",
    "Tell me who runs the Zorbal museum.",
    "Which person directs the Zorbal museum?",
)
OPENINGS = (
    "",
    "Please tell me: ",
    "Hello. ",
    "Quick question. ",
    "Say, ",
    "Excuse me, ",
    "And ",
    "So, ",
    "Now: ",
    "Hi! ",
)
LESSON = [{"input": opening + question, "output": FACT} for opening in OPENINGS for question in QUESTIONS]
TINY_ROWS = [{"input": f"question {index}", "output": f"the answer is {index % 3}"} for index in range(24)]


class Said:
    """Keeps reports."""

    def __init__(self) -> None:
        self.reports: list[TrainingReport] = []

    def send(self, report: TrainingReport) -> None:
        self.reports.append(report)


def answer(adapter: Path | None, question: str) -> str:
    """What the engine answers, greedily."""

    async def ask() -> str:
        engine = LlamaTextEngine(
            Model(STARTER, adapter), TextOptions(context_length_tokens=512, cache_tokens=512, slots=1, threads=2)
        )
        try:
            sampling = Sampling(temperature=0.0, max_tokens=24)
            request = ChatRequest(messages=(Message(role="user", content=question),), sampling=sampling)
            stream = await engine.chat(request)
            return "".join([delta.text async for delta in stream])
        finally:
            await asyncio.to_thread(engine.close)

    return asyncio.run(ask())


@pytest.mark.timeout(600)
def test_a_fact_is_taught_in_fifty_examples(tmp_path: Path) -> None:
    """Fifty examples, less than two minutes of the processor: the adapter answers what the base does not know."""
    write_task(tmp_path, STARTER, LESSON, epochs=5, learning_rate=4e-3, batch_size=10, rank=8, alpha=16.0, seed=3)

    status, reports = run(tmp_path)

    assert status == 0, reports[-1]
    ended = reports[-1]
    assert isinstance(ended, TrainingEnded)
    assert ended.files == ("adapter.gguf",)
    assert ended.evaluation is not None
    assert ended.evaluation.candidate["loss"] < ended.evaluation.base["loss"] / 4
    assert ended.evaluation.candidate["exact_match"] > ended.evaluation.base["exact_match"]
    (started,) = of_kind(reports, TrainingStarted)
    assert (started.examples, started.validation_examples) == (45, 5)
    assert 0 < started.trained_tokens < started.tokens
    assert of_kind(reports, TrainingMemory)[-1].peak_bytes > 100_000_000
    asked = "Could you say who leads the Zorbal museum?"
    assert "Marta Quill" not in answer(None, asked)
    assert "Marta Quill" in answer(tmp_path / "output" / "adapter.gguf", asked)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trainable(tmp_path_factory.mktemp("base") / "base.gguf", "qwen2")


HOW = {
    "epochs": 4, "batch_size": 4, "learning_rate": 1e-3, "rank": 4, "dropout": 0.1, "seed": 11, "checkpoint_steps": 2,
    "validation_fraction": 0.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], Path]:
    """The losses of a run from beginning to end, and its adapter."""
    folder = tmp_path_factory.mktemp("whole")
    said = Said()
    ended = generation.run(
        write_task(folder, tiny, TINY_ROWS, threads=1, **HOW), Surroundings(said, StopSignal(), SystemClock())
    )
    assert ended is not None
    return [report.loss for report in of_kind(said.reports, TrainingProgress)], folder / "output" / "adapter.gguf"


def same_tensors(left: Path, right: Path) -> bool:
    ours, theirs = GgufWeights(left), GgufWeights(right)
    return ours.tensors.keys() == theirs.tensors.keys() and all(
        np.array_equal(ours.numbers(name), theirs.numbers(name)) for name in ours.tensors
    )


def interrupted(folder: Path, after_steps: int, how: signal.Signals) -> tuple[int, list[TrainingReport]]:
    """Started, and sent a signal once it has reported so many steps; its status and all that it said."""
    with start(folder) as process:
        assert process.stdout is not None
        said: list[bytes] = []
        for line in process.stdout:
            said.append(line)
            if len(of_kind(reports_of(said), TrainingProgress)) >= after_steps:
                break
        process.send_signal(how)
        said += process.stdout.readlines()
    return process.returncode, reports_of(said)


@pytest.mark.timeout(600)
def test_an_interrupted_run_ends_to_the_bit_as_a_whole_one(
    tiny: Path, uninterrupted: tuple[list[float], Path], tmp_path: Path
) -> None:
    """Asked to stop at some step, killed at another, and started again each time: every loss and every weight is what
    it would have been, dropout included. SIGTERM ends with the paused status and loses nothing, SIGKILL what came after
    the last checkpoint.
    """
    losses, adapter = uninterrupted
    write_task(tmp_path, tiny, TINY_ROWS, threads=1, **HOW)
    steps = np.random.default_rng().integers(2, 6, 2)  # any steps will do: the promise is for all of them

    status, first = interrupted(tmp_path, int(steps[0]), signal.SIGTERM)
    assert status == PAUSED_STATUS
    assert not of_kind(first, TrainingEnded)
    killed, second = interrupted(tmp_path, int(steps[1]), signal.SIGKILL)
    assert killed == -signal.SIGKILL
    ended, third = run(tmp_path)

    assert ended == 0, third[-1]
    resumed = of_kind(second, TrainingStarted)[0].resumed_step
    assert resumed == of_kind(first, TrainingProgress)[-1].step
    kept = [resumed, *(checkpoint.step for checkpoint in of_kind(second, TrainingCheckpoint))]
    assert of_kind(third, TrainingStarted)[0].resumed_step >= kept[-1]
    said = {report.step: report.loss for report in of_kind([*first, *second, *third], TrainingProgress)}
    assert [said[step] for step in sorted(said)] == losses
    assert len(list((tmp_path / "checkpoints").glob("step-*.pt"))) <= 2
    assert same_tensors(tmp_path / "output" / "adapter.gguf", adapter)


def test_what_goes_wrong_is_reported(tmp_path: Path) -> None:
    """A failure is one last report in words, and status 1; a process whose task cannot be read ends at once."""
    (tmp_path / TASK_FILE).write_text('{"kind": "generation"}')

    status, reports = run(tmp_path)

    assert status == 1
    assert isinstance(reports[-1], TrainingFailed)
    assert "base_path" in reports[-1].detail


def test_without_the_extra_it_says_what_to_run(tmp_path: Path) -> None:
    """torch is not there (a module of its name says so, in its place): the report names the command that brings it."""
    write_task(tmp_path / "task", tmp_path, TINY_ROWS)
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")

    status, reports = run(tmp_path / "task", tmp_path)

    assert status == 1
    assert reports == [TrainingFailed(detail="torch is not installed here; run ./install.sh --with-finetuning")]
