"""The models screen, beside what ``test_main_job`` does with it."""

from __future__ import annotations

from tests.tui.conftest import ConsolePilot, screen_text, until
from tests.tui.support.fixed_records import DEPLOYMENTS, MODELS
from tui.app import ConsoleApp
from tui.screens.models import model_rows
from tui.widgets.record_table import RecordTable


def test_what_takes_images_says_so_in_the_list() -> None:
    """Of what reads texts only nothing is said there."""
    models, deployments = {model.id: model for model in MODELS}, {each.id: each for each in DEPLOYMENTS}
    rows = model_rows(models, deployments, {"dep-1": ["text"], "dep-5": ["text", "image"]})
    assert {key for key, cells in rows.items() if str(cells[1]) == "takes images"} == {"deployment dep-5"}


async def test_what_a_deployment_takes(fixed_console: ConsoleApp) -> None:
    """The sheet names all that it reads."""
    async with fixed_console.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: fixed_console.role)
        await pilot.press("3")
        table = fixed_console.screen.query_one("#model-list", RecordTable)
        await until(pilot, lambda: table.row_count > len(DEPLOYMENTS))
        table.select("deployment dep-1")
        await until(pilot, lambda: _taken(pilot) == "text")
        table.select("deployment dep-5")
        await until(pilot, lambda: _taken(pilot) == "text, image")


def _taken(pilot: ConsolePilot) -> str:
    """What the sheet says after "Takes"."""
    return screen_text(pilot).partition("Takes ")[2].partition("│")[0].strip()
