"""The dashboard of a real server."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.support.server import Server
from tests.tui.conftest import ConsolePilot, screen_text, until
from tests.tui.support.fixed_node import FixedNode, json_answer
from tests.tui.support.fixed_records import STATE, resident
from tui.app import ConsoleApp
from tui.client import Client
from tui.screens.dashboard import booking_rows, resident_cells, resident_rows
from tui.screens.details import Details
from tui.screens.playground import PlaygroundScreen
from tui.widgets.fact_sheet import FactSheet
from tui.widgets.machine_panel import MachinePanel
from tui.widgets.record_table import RecordTable


def _names(table: RecordTable) -> list[str]:
    return [table.get_row_at(row)[0].plain for row in range(table.row_count)]


async def test_starters(pilot: ConsolePilot) -> None:
    """The built-in deployments are listed, and the machine's memory is shown, right after the start."""
    deployments = pilot.app.screen.query_one("#deployments", RecordTable)
    await until(pilot, lambda: {"starter-embed", "starter-rerank"} <= set(_names(deployments)))
    assert "cpu" in str(pilot.app.screen.query_one(MachinePanel).render())


async def test_live(pilot: ConsolePilot, server: Server) -> None:
    """A call from elsewhere shows up: the engine becomes resident, the counters grow."""
    residents = pilot.app.screen.query_one("#residents", RecordTable)
    with server.client() as client:
        client.post("/v1/embeddings", json={"model": "starter-embed", "input": "hello"}).raise_for_status()
    await until(pilot, lambda: "starter-embed" in _names(residents))
    node = pilot.app.node  # type: ignore[attr-defined]
    await until(pilot, lambda: any(d.name == "starter-embed" and d.calls > 0 for d in node.deployments))


async def test_details(pilot: ConsolePilot) -> None:
    """Enter opens settings, calls and schemas of a deployment; Escape closes them."""
    deployments = pilot.app.screen.query_one("#deployments", RecordTable)
    await until(pilot, lambda: deployments.row_count)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, Details))
    await until(pilot, lambda: "$ref" in str(pilot.app.screen.query_one("#request-schema").render()))
    assert pilot.app.screen.query_one(FactSheet)
    await pilot.press("escape")
    assert not isinstance(pilot.app.screen, Details)


async def test_plan(pilot: ConsolePilot) -> None:
    """From the details one key shows what a call would do to memory now, in the server's words and numbers."""
    deployments = pilot.app.screen.query_one("#deployments", RecordTable)
    await until(pilot, lambda: deployments.row_count)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, Details))
    await pilot.press("p")
    await until(pilot, lambda: "A call now is" in screen_text(pilot))
    assert "free of" in screen_text(pilot)
    assert "In words" in screen_text(pilot)


async def test_a_member_is_told_why_there_is_no_plan(server: Server) -> None:
    """The plan names others' deployments, so it is for admins; the rest of the details is there."""
    app = ConsoleApp(Client(server.url, server.member_key), poll_seconds=0.3)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.role == "member" and app.screen.query_one("#deployments", RecordTable).row_count)
        await pilot.press("enter", "p")
        await until(pilot, lambda: "Not allowed" in screen_text(pilot))
        await pilot.press("left", "left")
        await until(pilot, lambda: "Deployment ID" in screen_text(pilot))


def test_several_engines_of_one_deployment() -> None:
    """One that serves and one that hangs are two rows; the first is found by the deployment's ID."""
    rows = resident_rows([resident(1, "a"), resident(1, "a", state="HUNG")])
    assert [str(cells[1]) for cells in rows.values()] == ["READY", "HUNG"]
    assert next(iter(rows)) == "dep-1"


async def test_try(pilot: ConsolePilot) -> None:
    """The selected deployment opens in the playground."""
    deployments = pilot.app.screen.query_one("#deployments", RecordTable)
    await until(pilot, lambda: deployments.row_count)
    deployment_id = deployments.selected_key
    await pilot.press("p")
    await until(pilot, lambda: isinstance(pilot.app.screen, PlaygroundScreen))
    await until(pilot, lambda: pilot.app.screen.query_one("#deployment").value == deployment_id)


def test_shared_weights_are_set_apart() -> None:
    """What a resident shares with others stands after a plus; alone on its weights it shows one number."""
    predicted = [resident_cells(resident(1, "a", weights_holders=holders))[7] for holders in (1, 3)]
    assert [str(cell) for cell in predicted] == ["120 MiB", "40.0 MiB + 80.0 MiB"]


async def test_what_hangs_says_why(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """The note of a resident that hangs is in view without selecting it; of one that waits, when it is selected."""
    waits = resident(2, "b", state="WAITING", note="it waits for 'c' (9.0 GiB)")
    hangs = resident(3, "c", state="HUNG", note="its unload has not ended for 62 s")
    shown = structs.replace(STATE, residents=[resident(1, "a"), waits, hangs])
    node.routes["GET", "/admin/state"] = lambda _: json_answer(shown)
    async with fixed_console.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "c its unload has not ended for 62 s" in screen_text(pilot))
        fixed_console.screen.query_one("#residents").focus()
        await pilot.press("down")
        await until(pilot, lambda: "b it waits for 'c' (9.0 GiB)" in screen_text(pilot))


def test_work_that_is_no_engine_has_a_row() -> None:
    """With memory it stands where that is; while it waits it stands nowhere."""
    working, waiting = STATE.bookings[0], structs.replace(STATE.bookings[0], state="WAITING", placement=[])
    rows = [[str(cell) for cell in cells] for cells in booking_rows([working, waiting]).values()]
    assert [row[:3] for row in rows] == [["fine-tuning 4f1c", "WORKING", "cpu"], ["fine-tuning 4f1c", "WAITING", "–"]]
    assert rows[0][6:8] == ["900 MiB", "900 MiB"]


@pytest.mark.parametrize(("state", "shown"), [("LOADING", "loading"), ("READY", "–"), ("WAITING", "–")])
def test_what_was_not_measured(state: str, shown: str) -> None:
    """An engine whose load taught nothing is not said to load."""
    cells = resident_cells(resident(1, "a", state=state, measured_bytes=None))
    assert str(cells[6]) == shown
