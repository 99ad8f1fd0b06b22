"""What a training computes in: float32, or bfloat16 for the base with an adapter that stays float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from appliance.domain.clock import SystemClock
from appliance.domain.training import Precision, TrainingEnded, TrainingProgress, TrainingReport
from appliance.store.gguf_weights import GgufWeights
from appliance.training import generation, machine
from appliance.training.generation import Adapted, gguf_of
from appliance.training.loop import Surroundings
from appliance.training.machine import computes_in_half, prepare
from appliance.training.stopping import StopSignal
from tests.support.tiny_trainable import cosine, llama_logits, write_trainable
from tests.training.tasks import of_kind, write_task

Half = tuple[list[float], TrainingEnded, Path]

CPU = torch.device("cpu")
ROWS = [{"input": f"question {index}", "output": f"the answer is {index % 3}"} for index in range(16)]
HOW = {
    "epochs": 3, "batch_size": 4, "learning_rate": 5e-3, "rank": 4, "dropout": 0.1, "seed": 11,
    "validation_fraction": 0.2, "packing": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trainable(tmp_path_factory.mktemp("base") / "base.gguf", "llama")


@pytest.fixture(scope="module")
def half(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Half:
    """A run in bfloat16 from beginning to end: its losses, how it ended, its adapter."""
    folder = tmp_path_factory.mktemp("half")
    losses, ended = trained(folder, tiny, Precision.BFLOAT16)
    assert ended is not None
    return losses, ended, folder / "output" / "adapter.gguf"


class Said:
    """What a training reports; asks it to stop after so many steps."""

    def __init__(self, stop: StopSignal, after_steps: int | None) -> None:
        self.reports: list[TrainingReport] = []
        self._stop = stop
        self._after_steps = after_steps

    def send(self, report: TrainingReport) -> None:
        self.reports.append(report)
        if len(of_kind(self.reports, TrainingProgress)) == self._after_steps:
            self._stop.ask()

    @property
    def losses(self) -> list[float]:
        return [report.loss for report in of_kind(self.reports, TrainingProgress)]


def trained(
    folder: Path, base: Path, precision: Precision, after_steps: int | None = None
) -> tuple[list[float], TrainingEnded | None]:
    """The losses of the steps, and how it ended; None: it was paused."""
    stop = StopSignal()
    said = Said(stop, after_steps)
    task = write_task(folder, base, ROWS, threads=1, precision=precision, **HOW)
    ended = generation.run(task, Surroundings(said, stop, SystemClock()))  # type: ignore[arg-type]
    return said.losses, ended


@pytest.mark.parametrize("has_it", [True, False])
def test_the_hardware_decides_unless_asked(monkeypatch: pytest.MonkeyPatch, has_it: bool) -> None:
    """``auto`` takes bfloat16 where it is computed in hardware; the other two words hold anywhere."""
    monkeypatch.setattr(machine, "half_precision_pays", lambda device: has_it)
    assert computes_in_half(Precision.AUTO, CPU) is has_it
    assert computes_in_half(Precision.BFLOAT16, CPU)
    assert not computes_in_half(Precision.FLOAT32, CPU)


@pytest.mark.parametrize(
    ("precision", "held"), [(Precision.BFLOAT16, torch.bfloat16), (Precision.FLOAT32, torch.float32)]
)
def test_an_adapter_is_float32_over_any_base(
    tiny: Path, tmp_path: Path, precision: Precision, held: torch.dtype
) -> None:
    """The base's matrices are held in what was asked for; all that is trained is float32, and so is the loss."""
    task = write_task(tmp_path, tiny, ROWS, precision=precision, **HOW)
    found = Adapted(task, gguf_of(str(tiny)), prepare("cpu", 1))
    frozen = {value.dtype for value in found.model.parameters() if not value.requires_grad and value.ndim == 2}
    assert frozen == {held}
    assert {value.dtype for value in found.parameters.values()} == {torch.float32}


def test_bfloat16_learns_as_float32_does(tiny: Path, half: Half, tmp_path: Path) -> None:
    """Step by step about the same loss, which goes down; not the same numbers, so that it was another computation.
    What comes of it is written in float32, and computes in llama.cpp what it was trained to.
    """
    losses, ended, adapter = half
    full, _ = trained(tmp_path, tiny, Precision.FLOAT32)

    assert losses[-1] < 0.8 * losses[0]
    assert losses != full
    assert losses == pytest.approx(full, rel=0.05)
    assert ended.evaluation is not None
    assert ended.evaluation.candidate["loss"] < ended.evaluation.base["loss"]
    assert {str(tensor.data.dtype) for tensor in GgufWeights(adapter).tensors.values()} == {"float32"}
    tokens = [0, 40, 41, 42, 100, 101, 7]
    ours, theirs = llama_logits(tiny, tokens, adapter), llama_logits(tiny, tokens, tmp_path / "output" / "adapter.gguf")
    assert cosine(ours, theirs) > 0.99
    assert cosine(ours, llama_logits(tiny, tokens)) < 0.99


def test_bfloat16_goes_on_from_a_checkpoint_as_if_nothing_had_been(tiny: Path, half: Half, tmp_path: Path) -> None:
    """Every loss and every weight is to the bit what it would have been."""
    whole, _, adapter = half

    before, paused = trained(tmp_path, tiny, Precision.BFLOAT16, after_steps=3)
    after, ended = trained(tmp_path, tiny, Precision.BFLOAT16)

    assert paused is None
    assert ended is not None
    assert len(before) == 3
    assert before + after == whole
    ours, theirs = GgufWeights(tmp_path / "output" / "adapter.gguf"), GgufWeights(adapter)
    assert all(np.array_equal(ours.numbers(name), theirs.numbers(name)) for name in theirs.tensors)
