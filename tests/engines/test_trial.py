"""The real child process: what it refuses, how it ends, and that nothing of it is left."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psutil
import pytest
from msgspec import structs

from appliance.domain.errors import ApplianceError, BadWeights, NotReady
from appliance.domain.models import BackendName, ModelType
from appliance.engines.base import EngineSpec
from appliance.engines.trial import ChildTrial
from appliance.store.inspection import inspect

STARTER = Path(__file__).parents[2] / "models_store" / "weights" / "starter-chat.gguf"
LLAMA = BackendName.LLAMA.value


@pytest.fixture(scope="module")
def spec() -> EngineSpec:
    return EngineSpec(
        model_type=ModelType.COMPLETION,
        weights=STARTER,
        card=inspect({STARTER.name: STARTER}),
        parameters={"context_length": 64, "cache_tokens": 64},
        slots=1,
        mapped=True,
    )


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


class Running:
    """A trial in a thread, as the scheduler runs it."""

    def __init__(self, trial: ChildTrial) -> None:
        self.error: ApplianceError | None = None
        self._trial = trial
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._trial.run()
        except ApplianceError as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_a_hanging_trial_is_ended(spec: EngineSpec, tmp_path: Path) -> None:
    """Weights that no byte comes from (a pipe here, as a disk that no longer answers): no process is left, and the
    trial says that it was ended, not that the weights are bad."""
    before, passed = children(), []
    weights = tmp_path / "hanging.gguf"
    os.mkfifo(weights)
    trial = ChildTrial(LLAMA, structs.replace(spec, weights=weights), lambda: passed.append("passed"))
    running = Running(trial)
    with weights.open("wb"):  # waits until the child has opened its end
        trial.end()
        running.join()
    assert isinstance(running.error, NotReady)
    assert (children() - before, passed) == (set(), [])
    trial.end()


def test_what_is_ended_first_never_begins(spec: EngineSpec) -> None:
    """No process is started for a trial that nobody wants any more."""
    before = children()
    trial = ChildTrial(LLAMA, spec)
    trial.end()
    with pytest.raises(NotReady, match="before it began"):
        trial.run()
    assert children() == before


def test_what_passes_is_told(spec: EngineSpec) -> None:
    """Weights that load and answer; what is to be called then is called once, and nothing is left."""
    before, passed = children(), []
    ChildTrial(LLAMA, spec, lambda: passed.append("passed")).run()
    assert (children() - before, passed) == (set(), ["passed"])


def test_one_without_an_end_is_ended(spec: EngineSpec, tmp_path: Path) -> None:
    """Where nobody watches it, its time is bounded, and its process too."""
    before = children()
    weights = tmp_path / "hanging.gguf"
    os.mkfifo(weights)
    with pytest.raises(BadWeights, match=r"did not load within 0\.1 s"):
        ChildTrial(LLAMA, structs.replace(spec, weights=weights)).run(0.1)
    assert children() - before == set()
