"""Trainings of rerankers and embedders over a tiny encoder: repeatable, resumable, refused."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from appliance.domain.errors import Conflict, InvalidParameter, WrongWeights
from appliance.domain.models import ModelType
from appliance.domain.training import (
    PAUSED_STATUS,
    Precision,
    TrainingCheckpoint,
    TrainingEnded,
    TrainingKind,
    TrainingMemory,
    TrainingProgress,
    TrainingStarted,
    TrainingTask,
)
from appliance.encoders.int8 import Int8
from tests.support.export_encoders import FOLDER as EXPORTED
from tests.support.onnx_folders import card_of
from tests.support.product_codes import write_rows
from tests.support.tiny_encoders import write_random_encoder
from tests.support.trainings import Here, Killed, encoder_task, read_report, start

KINDS = pytest.mark.parametrize("kind", [TrainingKind.RERANKING, TrainingKind.EMBEDDING])
COLOURS = ("red", "green", "blue")
NUMBERS = ("one", "two", "three")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_random_encoder(tmp_path / "base")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Red stands for one, green for two, blue for three; animals for nothing."""
    generator = random.Random(2)
    rows: list[dict[str, object]] = []
    for place in range(15):
        animals = " ".join(generator.choices(("cat", "dog"), k=2 + place % 4))
        question = f"{COLOURS[place % 3]} {place} {animals} {'cat ' * (place // 3)}".strip()
        rows += [
            {"question": question, "chunk": f"{number} {animals}", "positive": number == NUMBERS[place % 3]}
            for number in NUMBERS
        ]
    return write_rows(tmp_path / "dataset.jsonl", rows)


def task_of(folder: Path, kind: TrainingKind, base: Path, dataset: Path, **asked: Any) -> TrainingTask:
    settings = {"epochs": 2.0, "learning_rate": 1e-3, "batch_size": 6, "dropout": 0.1, "validation_fraction": 0.2}
    return encoder_task(folder, kind, base, dataset, **{**settings, **asked})


def result(task: TrainingTask) -> bytes:
    return (Path(task.output_folder) / "model.onnx").read_bytes()


def losses(*parts: Here) -> list[float]:
    return [report.loss for part in parts for report in part.of(TrainingProgress)]


@KINDS
class TestRun:
    """What a training says and leaves."""

    def test_from_task_to_folder(self, kind: TrainingKind, base: Path, dataset: Path, tmp_path: Path) -> None:
        """Started, steps, one validation an epoch, the evaluation, and a folder that the store takes."""
        here, task = Here(), task_of(tmp_path / "work", kind, base, dataset)

        ended = here.run(task)

        (started,) = here.of(TrainingStarted)
        steps = here.of(TrainingProgress)
        assert ended is not None
        assert ended.evaluation is not None
        assert (started.steps, started.resumed_step) == (len(steps), 0)
        assert started.examples + started.validation_examples == (45 if kind is TrainingKind.RERANKING else 15)
        assert sum(step.validation_loss is not None for step in steps) == 2
        assert steps[-1].validation_loss == ended.validation_loss
        assert here.of(TrainingMemory)
        assert ended.evaluation.examples == 3
        for found in (ended.evaluation.base, ended.evaluation.candidate):
            assert found.keys() == {"mrr", "ndcg_at_10", "accuracy"}
            assert all(0 <= value <= 1 for value in found.values())
        wanted = {ModelType.RERANKING} if kind is TrainingKind.RERANKING else {ModelType.EMBEDDING, ModelType.RERANKING}
        assert set(card_of(Path(task.output_folder)).model_types) == wanted
        assert all((Path(task.output_folder) / name).is_file() for name in ended.files)

    def test_a_seed_decides(self, kind: TrainingKind, base: Path, dataset: Path, tmp_path: Path) -> None:
        """The same task gives the same bytes, another seed others."""
        tasks = [task_of(tmp_path / f"work{i}", kind, base, dataset, seed=seed) for i, seed in enumerate((1, 1, 2))]
        for task in tasks:
            Here().run(task)

        first, again, other = map(result, tasks)
        assert first == again != other

    def test_stopped_and_killed_it_ends_as_if_nothing_had_been(
        self, kind: TrainingKind, base: Path, dataset: Path, tmp_path: Path
    ) -> None:
        """Asked to stop after a step, then killed between two checkpoints: the same losses and the same bytes."""
        whole, whole_task = Here(), task_of(tmp_path / "whole", kind, base, dataset)
        whole.run(whole_task)
        task = task_of(tmp_path / "parts", kind, base, dataset)
        stopped, killed, last = Here(stop_at=2), Here(die_at=4), Here()

        assert stopped.run(task) is None
        with pytest.raises(Killed):
            killed.run(task)
        assert isinstance(last.run(task), TrainingEnded)

        assert [report.step for report in stopped.of(TrainingCheckpoint)] == [2]
        assert [part.of(TrainingStarted)[0].resumed_step for part in (killed, last)] == [2, 2]
        assert losses(stopped, last) == losses(whole)
        assert result(task) == result(whole_task)

    def test_early_stopping_keeps_the_best(self, kind: TrainingKind, base: Path, dataset: Path, tmp_path: Path) -> None:
        """It ends once validation no longer gets better, with the best loss it saw."""
        asked = {"early_stopping_patience": 1, "validation_steps": 1, "epochs": 20.0, "learning_rate": 3e-3}
        here = Here()

        ended = here.run(task_of(tmp_path / "work", kind, base, dataset, **asked))

        seen = [report.validation_loss for report in here.of(TrainingProgress)]
        assert ended is not None
        assert ended.stopped_early
        assert ended.validation_loss == min(seen)
        assert ended.steps == len(seen) < here.of(TrainingStarted)[0].steps

    def test_it_learns(self, kind: TrainingKind, base: Path, dataset: Path, tmp_path: Path) -> None:
        """The loss goes down, and the second training begins where the first one ended."""
        here, task = Here(), task_of(tmp_path / "work", kind, base, dataset, epochs=12.0, dropout=0.0)
        first = here.run(task)
        again = Here()
        second = again.run(task_of(tmp_path / "again", kind, Path(task.output_folder), dataset))

        assert losses(here)[-1] < losses(here)[0] / 2
        assert losses(again)[0] < losses(here)[0] / 2
        assert first is not None
        assert second is not None
        assert first.evaluation is not None
        assert second.evaluation is not None
        assert second.evaluation.base == first.evaluation.candidate


@pytest.mark.parametrize("name", ["bert-cross", "roberta-cross", "distilbert-cross"])
def test_an_existing_cross_encoder_goes_on(name: str, dataset: Path, tmp_path: Path) -> None:
    """Of every family: its own head ranks for the base, and is trained further."""
    ended = Here().run(task_of(tmp_path / "work", TrainingKind.RERANKING, EXPORTED / name, dataset))

    assert ended is not None
    assert card_of(tmp_path / "work" / "output").model_types == (ModelType.RERANKING,)


class TestRefused:
    """What cannot be trained is said before the first step."""

    def test_adapters_words(self, base: Path, dataset: Path, tmp_path: Path) -> None:
        """The whole encoder is trained: a rank would be a wish that nobody hears."""
        with pytest.raises(InvalidParameter, match="rank, target_modules: only adapters of generation have them"):
            Here().run(task_of(tmp_path, TrainingKind.EMBEDDING, base, dataset, rank=8, target_modules=("query",)))

    def test_half_precision(self, base: Path, dataset: Path, tmp_path: Path) -> None:
        """It is what adapters' bases compute in."""
        with pytest.raises(InvalidParameter, match="precision: encoders are trained in float32"):
            Here().run(task_of(tmp_path, TrainingKind.RERANKING, base, dataset, precision=Precision.BFLOAT16))

    def test_a_cross_encoder_is_no_embedding_model(self, dataset: Path, tmp_path: Path) -> None:
        """Its vectors end in a score."""
        with pytest.raises(WrongWeights, match="these weights end in a score"):
            Here().run(task_of(tmp_path, TrainingKind.EMBEDDING, EXPORTED / "bert-cross", dataset))

    def test_quantized_weights(self, dataset: Path, tmp_path: Path) -> None:
        """They have nothing that a small step could change."""
        base = write_random_encoder(tmp_path / "int8", linear=Int8())

        with pytest.raises(WrongWeights, match="the weights are quantized; train from the float32 export"):
            Here().run(task_of(tmp_path / "work", TrainingKind.RERANKING, base, dataset))

    @KINDS
    def test_a_graph_that_computes_something_else(self, kind: TrainingKind, dataset: Path, tmp_path: Path) -> None:
        """Names can lie: ONNX Runtime is asked before anything is trained."""
        base = write_random_encoder(tmp_path / "base")
        config = (base / "config.json").read_text()
        (base / "config.json").write_text(config.replace('"num_attention_heads": 4', '"num_attention_heads": 2'))

        with pytest.raises(WrongWeights, match="computes something else than an encoder with its tensors does"):
            Here().run(task_of(tmp_path / "work", kind, base, dataset))

    def test_known_questions(self, base: Path, dataset: Path, tmp_path: Path) -> None:
        """A validation set with questions of the training set."""
        task = structs.replace(
            task_of(tmp_path / "work", TrainingKind.EMBEDDING, base, dataset), validation_path=str(dataset)
        )

        with pytest.raises(InvalidParameter, match="15 of 15 questions of the validation set"):
            Here().run(task)

    def test_nothing_right(self, base: Path, tmp_path: Path) -> None:
        """A dataset of wrong chunks teaches nothing."""
        rows = [{"question": "red", "chunk": chunk, "positive": False} for chunk in ("one", "two")]

        with pytest.raises(InvalidParameter, match="add rows with positive true"):
            Here().run(task_of(tmp_path, TrainingKind.RERANKING, base, write_rows(tmp_path / "rows", rows)))

    def test_a_checkpoint_of_something_else(self, base: Path, dataset: Path, tmp_path: Path) -> None:
        """Other hyperparameters do not go on from it."""
        Here(stop_at=1).run(task_of(tmp_path / "work", TrainingKind.RERANKING, base, dataset))

        with pytest.raises(Conflict, match="was written for another base, dataset or hyperparameters"):
            Here().run(task_of(tmp_path / "work", TrainingKind.RERANKING, base, dataset, learning_rate=1e-4))


def test_the_process_is_stopped_killed_and_goes_on(base: Path, dataset: Path, tmp_path: Path) -> None:
    """SIGTERM: a checkpoint and status 75; SIGKILL: the next start goes on from there, to the same bytes."""
    asked = {"epochs": 40.0, "checkpoint_steps": 5}
    whole, task = (
        task_of(tmp_path / name, TrainingKind.RERANKING, base, dataset, **asked) for name in ("whole", "work")
    )
    Here().run(whole)

    def until_step(step: int, how: signal.Signals) -> int:
        process = start(tmp_path / "work", task)
        assert process.stdout is not None
        for line in process.stdout:
            report = read_report(line)
            if isinstance(report, TrainingProgress) and report.step == step:
                os.kill(process.pid, how)
        process.stdout.close()
        return process.wait(timeout=60)

    assert until_step(3, signal.SIGTERM) == PAUSED_STATUS
    assert until_step(12, signal.SIGKILL) == -signal.SIGKILL
    last = Here()
    last.run(task)

    assert last.of(TrainingStarted)[0].resumed_step >= 10
    assert result(task) == result(whole)
