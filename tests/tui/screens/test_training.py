"""Training on a real server whose training process is the stand-in: dataset, job, promotion, and the ways back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, Select, TabbedContent

from tests.support import chain
from tests.support.stand_in_training import Orders
from tests.support.training_server import TrainingServer, training_server
from tests.tui.conftest import ConsolePilot, screen_text, until
from tests.tui.support.fixed_node import FixedNode, problem
from tui.app import ConsoleApp
from tui.client import Client
from tui.screens.confirm import Confirm
from tui.screens.dataset_details import DatasetDetails
from tui.screens.job_details import JobDetails
from tui.screens.training_forms import NewJobForm, PromoteForm, UploadForm
from tui.widgets.record_table import RecordTable

EXAMPLES = "".join(json.dumps({"input": f"question {n}?", "output": f"answer {n}."}) + "\n" for n in range(40))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    """A server that trains with the stand-in."""
    with training_server(tmp_path_factory.mktemp("console-training") / "home") as running:
        yield running


@pytest.fixture
async def screen(trainer: TrainingServer) -> AsyncIterator[ConsolePilot]:
    """A pilot in the training screen of a small terminal."""
    app = ConsoleApp(Client(trainer.url, trainer.admin_key), poll_seconds=0.2)
    async with app.run_test(size=(80, 24)) as driver:
        await until(driver, lambda: app.node and app.role)
        await driver.press("8")
        await until(driver, lambda: driver.app.screen.query("#training-job-list"))
        yield driver


def prepared(trainer: TrainingServer, name: str) -> str:
    """A dataset of this name on the server; the ID of a model to start from."""
    with trainer.client() as admin:
        file = {"file": (name, EXAMPLES.encode())}
        body = {"name": name, "schema_type": "GENERATION"}
        admin.post("/v4/training-datasets", data=body, files=file).raise_for_status()
        return next(str(model["id"]) for model in admin.get("/v3/models").json() if model["name"] == "starter-chat")


def first_row(pilot: ConsolePilot, table_id: str = "#training-job-list") -> list[str]:
    """Cells of the first row; what fits 80 columns of them."""
    table = pilot.app.screen.query_one(table_id, RecordTable)
    return [cell.plain for cell in table.get_row_at(0)] if table.row_count else []


async def choose(pilot: ConsolePilot, dataset: str) -> None:
    """Go to the newest dataset."""
    await pilot.press("r", "d")
    await until(pilot, lambda: first_row(pilot, "#dataset-list")[:1] == [dataset])


async def upload(pilot: ConsolePilot, path: Path, name: str) -> None:
    """By the form; Enter sends it."""
    await pilot.press("u")
    await until(pilot, lambda: isinstance(pilot.app.screen, UploadForm))
    pilot.app.screen.query_one("#dataset-path", Input).value = str(path)
    await pilot.press("tab", *name, "enter")
    await until(pilot, lambda: not isinstance(pilot.app.screen, UploadForm))
    await until(pilot, lambda: first_row(pilot, "#dataset-list")[:1] == [name])


async def order(pilot: ConsolePilot, base_id: str) -> None:
    """A job on the selected dataset."""
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewJobForm))
    form = pilot.app.screen
    await until(pilot, lambda: not form.query_one("#dataset", Select).is_blank())
    form.query_one("#base-model", Select).value = base_id
    form.query_one("#set-epochs", Input).value = "2"
    form.query_one("#set-others", Input).value = "seed=7"
    await pilot.press("ctrl+s")
    await until(pilot, lambda: not isinstance(pilot.app.screen, NewJobForm))


async def agree(pilot: ConsolePilot, key: str) -> None:
    """Press a key that asks, and say yes."""
    await pilot.press(key)
    await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
    await pilot.press("y")
    await until(pilot, lambda: not isinstance(pilot.app.screen, Confirm))


async def test_from_a_file_to_a_promoted_model_and_back(
    screen: ConsolePilot, trainer: TrainingServer, tmp_path: Path
) -> None:
    """Uploaded, looked at, counted, trained on, followed to the end, promoted in a deployment, rolled back, removed."""
    trainer.order(Orders(hold_at_step=5))
    with trainer.client() as admin:
        live = chain.deploy(admin, chain.CHAT, "starter-chat", "live")
    await screen.press("r")
    (tmp_path / "support.jsonl").write_text(EXAMPLES)
    await upload(screen, tmp_path / "support.jsonl", "support")
    assert first_row(screen, "#dataset-list")[1:3] == ["GENERATION", "40"]

    await screen.press("enter")
    await until(screen, lambda: isinstance(screen.app.screen, DatasetDetails))
    await until(screen, lambda: "question 0?" in screen_text(screen))
    await screen.press("right")
    screen.app.screen.query_one("#counts-with", Select).value = live.model_id
    await until(screen, lambda: "in 40 examples" in screen_text(screen))
    await screen.press("escape")

    await order(screen, live.model_id)
    await until(screen, lambda: first_row(screen)[:3] == ["live", "RUNNING", "4/9"])
    await screen.press("enter")
    await until(screen, lambda: isinstance(screen.app.screen, JobDetails))
    await until(screen, lambda: "lowest 0.507 at step 4" in screen_text(screen))
    trainer.go.touch()
    await until(screen, lambda: "COMPLETED" in screen_text(screen))
    assert "loss: base 2 → candidate 1 (4 examples held out)" in screen_text(screen)
    await screen.press("escape")
    await until(screen, lambda: first_row(screen)[1] == "COMPLETED")

    await screen.press("p")
    await until(screen, lambda: isinstance(screen.app.screen, PromoteForm))
    assert "candidate 1" in screen_text(screen)
    screen.app.screen.query_one("#promote-deployment", Select).value = live.deployment_id
    await screen.press("ctrl+s")
    await until(screen, lambda: not isinstance(screen.app.screen, PromoteForm))
    await until(screen, lambda: "deployment 'live'" in screen_text(screen))
    with trainer.client() as admin:
        assert admin.get(live.path).status_code == 404, "the deployment serves another model"
    await agree(screen, "b")
    await until(screen, lambda: any("Rolled back" in told.title for told in screen.app._notifications))
    with trainer.client() as admin:
        assert admin.get(live.path).raise_for_status().json()["status"] == "READY"

    await screen.press("d")
    await agree(screen, "x")
    await until(screen, lambda: any("job" in told.message for told in screen.app._notifications))
    await screen.press("j")
    await agree(screen, "x")
    await until(screen, lambda: not first_row(screen))
    await screen.press("d")
    await agree(screen, "x")
    await until(screen, lambda: not first_row(screen, "#dataset-list"))


async def test_a_job_is_cancelled(screen: ConsolePilot, trainer: TrainingServer) -> None:
    """After a question that has "keep" under the cursor; its record stays, with its last step."""
    trainer.order(Orders(hold_at_step=4))
    base_id = prepared(trainer, "cancelled")
    await choose(screen, "cancelled")
    await order(screen, base_id)
    await until(screen, lambda: first_row(screen)[1:3] == ["RUNNING", "3/9"])
    await screen.press("x")
    await until(screen, lambda: isinstance(screen.app.screen, Confirm))
    await screen.press("enter")
    await until(screen, lambda: not isinstance(screen.app.screen, Confirm))
    assert first_row(screen)[1] == "RUNNING"
    await agree(screen, "x")
    await until(screen, lambda: first_row(screen)[1] == "CANCELED")


async def test_a_file_that_cannot_be_a_dataset(screen: ConsolePilot, tmp_path: Path) -> None:
    """One that is not there is noticed here, one whose lines are wrong by the server; the form keeps what was typed."""
    await screen.press("u")
    await until(screen, lambda: isinstance(screen.app.screen, UploadForm))
    form = screen.app.screen
    form.query_one("#dataset-path", Input).value = str(tmp_path / "nowhere.jsonl")
    await screen.press("enter")
    await until(screen, lambda: "is no file on this machine" in str(form.query_one("#refusal").render()))
    (tmp_path / "broken.jsonl").write_text('{"input": "a", "output": "b"}\nno json\n')
    form.query_one("#dataset-path", Input).value = str(tmp_path / "broken.jsonl")
    await screen.press("enter")
    await until(screen, lambda: "line 2" in str(form.query_one("#refusal").render()))
    assert form.query_one("#dataset-path", Input).value.endswith("broken.jsonl")


async def test_hyperparameters_that_are_wrong(screen: ConsolePilot, trainer: TrainingServer) -> None:
    """A pair that is none is noticed here; a number out of its range by the server, with the range."""
    base_id = prepared(trainer, "ranges")
    await choose(screen, "ranges")
    await screen.press("n")
    await until(screen, lambda: isinstance(screen.app.screen, NewJobForm))
    form = screen.app.screen
    await until(screen, lambda: not form.query_one("#dataset", Select).is_blank())
    form.query_one("#base-model", Select).value = base_id
    form.query_one("#set-others", Input).value = "seed"
    await screen.press("ctrl+s")
    await until(screen, lambda: "'seed' is not name=value" in str(form.query_one("#refusal").render()))
    form.query_one("#set-others", Input).value = "seed=-1"
    await screen.press("ctrl+s")
    await until(screen, lambda: "it goes from 0 to" in str(form.query_one("#refusal").render()))


async def test_without_the_extra(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """The screen shows the server's sentence in place of jobs, a new job is refused with it, and datasets work."""
    sentence = "this server cannot train; run ./install.sh --with-finetuning"
    node.routes["GET", "/v4/fine-tuning-jobs"] = lambda _: problem(501, sentence, "not_installed")
    async with fixed_console.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: fixed_console.role)
        await pilot.press("8")
        await until(pilot, lambda: sentence in screen_text(pilot))
        assert not fixed_console._notifications, "a part that is not installed is no failure"
        await pilot.press("n")
        assert not isinstance(fixed_console.screen, NewJobForm)
        assert [told.title for told in fixed_console._notifications] == ["Not installed"]
        await pilot.press("d")
        assert first_row(pilot, "#dataset-list")[0] == "chunks and questions"


async def test_jobs_that_are_refused_otherwise(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """Only a part that is not installed replaces the list; any other refusal is told, and what was known stays."""
    async with fixed_console.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: fixed_console.role)
        await pilot.press("8")
        await until(pilot, lambda: first_row(pilot))
        node.routes["GET", "/v4/fine-tuning-jobs"] = lambda _: problem(503, "the registry is busy", "busy")
        await pilot.press("r")
        await until(pilot, lambda: any("the registry is busy" in told.message for told in fixed_console._notifications))
        assert first_row(pilot)[1] == "RUNNING"
        assert pilot.app.screen.query_one(TabbedContent).active == "jobs"
