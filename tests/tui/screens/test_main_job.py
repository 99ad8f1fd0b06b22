"""The console's main job on a real server: weights in, model, deployment, swap, answers, and all of it out again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from textual.widgets import Input, Select

from tests.support.server import Server
from tests.support.tiny_models import write_llama
from tests.tui.conftest import ConsolePilot, until
from tui.screens.confirm import Confirm
from tui.screens.import_form import ImportForm
from tui.screens.model_forms import NewDeploymentForm, NewModelForm, SwapForm
from tui.screens.models import ModelsScreen
from tui.screens.playground import PlaygroundScreen
from tui.widgets.composer import Composer
from tui.widgets.record_table import RecordTable
from tui.widgets.transcript import Turn

WEIGHTS = "console-tiny"


@pytest.fixture
def weights_file(server: Server) -> Iterator[str]:
    """Tiny chat weights in the server's import folder."""
    path = server.home / "import" / f"{WEIGHTS}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_llama(path)
    yield str(path)
    path.unlink()


async def test_from_file_to_answer_and_back(pilot: ConsolePilot, server: Server, weights_file: str) -> None:
    """An operator imports weights, makes and deploys a model, talks to it, swaps it, and removes everything."""
    await _import(pilot, weights_file)
    await _make_model(pilot, "console-a")
    await _deploy(pilot, "console-a")
    await _talk(pilot)
    await _make_model(pilot, "console-b")
    await _swap(pilot, server, "console-a", to="console-b")
    await _remove(pilot, "  └ console-a")
    await _remove(pilot, "console-a")
    await _remove(pilot, "console-b")
    await pilot.press("f3", "a")
    await _confirmed_delete(pilot, "#artifact-list", WEIGHTS)


async def _import(pilot: ConsolePilot, path: str) -> None:
    await pilot.press("2", "i")
    await until(pilot, lambda: isinstance(pilot.app.screen, ImportForm))
    files = pilot.app.screen.query_one(RecordTable)
    await until(pilot, lambda: files.row_count)
    files.select(path)
    await until(pilot, lambda: pilot.app.screen.query_one("#import-name", Input).value == WEIGHTS)
    await pilot.press("enter", "enter")
    await until(pilot, lambda: not isinstance(pilot.app.screen, ImportForm))
    jobs = pilot.app.screen.query_one("#job-list", RecordTable)
    await until(pilot, lambda: _cell(jobs, f"import {WEIGHTS}", 1) == "COMPLETED")
    assert "100%" in _cell(jobs, f"import {WEIGHTS}", 2)


async def _make_model(pilot: ConsolePilot, name: str) -> None:
    await pilot.press("f4")
    await until(pilot, lambda: isinstance(pilot.app.screen, ModelsScreen))
    await until(pilot, lambda: _table(pilot, "#model-list").row_count)
    await pilot.app.workers.wait_for_complete()
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewModelForm))
    form = pilot.app.screen
    await pilot.pause()
    form.query_one("#model-name", Input).value = name
    template = form.query_one("#template", Select)
    template.value = next(value for label, value in template._options if label == "llama-cpp-chat-completion")
    await until(pilot, lambda: len(form.query(Select)) == 2)
    await pilot.pause()
    form.query(Select).last().value = WEIGHTS
    await pilot.press("ctrl+s")
    await until(pilot, lambda: _cell(_table(pilot, "#model-list"), name, 1) == "CHAT_COMPLETION")


async def _deploy(pilot: ConsolePilot, name: str) -> None:
    await pilot.press("d")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewDeploymentForm))
    await until(pilot, lambda: pilot.app.screen.query("ParameterFields FieldRow"))
    pilot.app.screen.query_one("#per-worker", Input).value = "2"
    await pilot.press("ctrl+s")
    await until(pilot, lambda: _cell(_table(pilot, "#model-list"), f"  └ {name}", 2) == "READY")


async def _talk(pilot: ConsolePilot) -> None:
    await pilot.press("p")
    await until(pilot, lambda: isinstance(pilot.app.screen, PlaygroundScreen))
    screen = pilot.app.screen
    screen.query_one(Composer).focus()
    await pilot.press(*"hello", "enter")
    await until(pilot, lambda: len(screen.query(Turn)) == 2 and "tokens/s" in screen.query(Turn).last().summary)
    answer = screen.query(Turn).last()
    await until(pilot, lambda: " out" in answer.summary or pilot.app.screen.query(".turn-error"))
    assert answer.text
    assert "first token" in answer.summary


async def _swap(pilot: ConsolePilot, server: Server, name: str, *, to: str) -> None:
    _table(pilot, "#model-list").move_cursor(row=_row_of(_table(pilot, "#model-list"), f"  └ {name}"))
    await pilot.press("s")
    await until(pilot, lambda: isinstance(pilot.app.screen, SwapForm))
    await pilot.pause()
    choice = pilot.app.screen.query_one("#swap-to", Select)
    choice.value = next(value for label, value in choice._options if label == to)
    await pilot.press("ctrl+s")
    await until(pilot, lambda: not isinstance(pilot.app.screen, SwapForm))
    deployment = next(d for d in server.state()["deployments"] if d["name"] == name)
    assert (deployment["model_name"], deployment["status"]) == (to, "READY")
    models = _table(pilot, "#model-list")
    await until(pilot, lambda: _row_of(models, f"  └ {name}") == (_row_of(models, to) or 0) + 1)


async def _remove(pilot: ConsolePilot, label: str) -> None:
    await _confirmed_delete(pilot, "#model-list", label)


async def _confirmed_delete(pilot: ConsolePilot, table_id: str, label: str) -> None:
    await until(pilot, lambda: _row_of(_table(pilot, table_id), label) is not None)
    _table(pilot, table_id).move_cursor(row=_row_of(_table(pilot, table_id), label))
    await pilot.press("x")
    await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
    await pilot.press("y")
    await until(pilot, lambda: not isinstance(pilot.app.screen, Confirm))
    await until(pilot, lambda: _row_of(_table(pilot, table_id), label) is None)


def _table(pilot: ConsolePilot, table_id: str) -> RecordTable:
    return pilot.app.screen.query_one(table_id, RecordTable)


def _row_of(table: RecordTable, label: str) -> int | None:
    return next((row for row in range(table.row_count) if table.get_row_at(row)[0].plain == label), None)


def _cell(table: RecordTable, label: str, column: int) -> str:
    row = _row_of(table, label)
    return "" if row is None else table.get_row_at(row)[column].plain
