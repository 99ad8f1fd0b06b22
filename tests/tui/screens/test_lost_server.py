"""A server that is not there, goes, comes back, refuses the key, or is not ready: the console says so and lives on."""

from __future__ import annotations

import msgspec
from textual.widgets import Select

from tests.tui.conftest import until
from tests.tui.support.fixed_node import FixedNode, json_answer, problem
from tests.tui.support.fixed_records import STATE, TEMPLATES, USER
from tui.app import ConsoleApp
from tui.keymap import AREAS
from tui.link import LinkState
from tui.screens.model_forms import NewModelForm
from tui.widgets.banner import Banner
from tui.widgets.record_table import RecordTable


def _banner(app: ConsoleApp) -> str:
    banner = app.screen.query_one(Banner)
    return str(banner.render()) if banner.display else ""


async def test_gone_and_back(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """The banner names the address while the server is gone, what was known stays, and it goes by itself."""
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.link.state is LinkState.UP)
        node.gone = True
        await until(pilot, lambda: app.link.state is LinkState.LOST)
        await pilot.pause()
        assert "http://appliance.example:8080: connection refused" in _banner(app)
        assert app.screen.query_one("#deployments", RecordTable).row_count == len(STATE.deployments)
        node.gone = False
        await until(pilot, lambda: app.link.state is LinkState.UP)
        await pilot.pause()
        assert _banner(app) == ""


async def test_lists_come_with_the_server(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """A screen opened while the server is gone fills by itself when it is back."""
    app = fixed_console
    node.gone = True
    async with app.run_test() as pilot:
        await pilot.press("5")
        await until(pilot, lambda: app.link.state is LinkState.LOST)
        node.gone = False
        await until(pilot, lambda: app.screen.query_one("#key-list", RecordTable).row_count == 3)


async def test_every_screen_without_a_server(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """No screen needs a server to open, and none of its keys fails without one."""
    node.gone = True
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.link.state is LinkState.LOST)
        for area in AREAS:
            await app.switch_mode(area)
            for action in AREAS[area].actions:
                await pilot.press(action.key.split(",")[0], "escape")
        await app.workers.wait_for_complete()
        assert app.link.state is LinkState.LOST


async def test_refused_key(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """A refused key is explained in the server's words, with the way out."""
    node.routes["GET", "/admin/state"] = lambda _: problem(401, "this key was revoked", "unauthenticated")
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.link.state is LinkState.REFUSED)
        await pilot.pause()
        assert "this key was revoked" in _banner(app)
        assert "--key" in _banner(app)


async def test_not_ready(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """A node that is not ready shows its reasons."""
    waiting = msgspec.structs.replace(STATE, ready=False, not_ready_reasons=["starter-chat is loading"])
    node.routes["GET", "/admin/state"] = lambda _: json_answer(waiting)
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.link.state is LinkState.NOT_READY)
        await pilot.pause()
        assert _banner(app) == "Not ready: starter-chat is loading"


async def test_member(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """A member's console does not ask for what only admins may see, and lets the name of weights be typed."""
    profile = {"role": "member", "account": {"id": "acc-1", "name": "default"}}
    node.routes["GET", "/user-info"] = lambda _: json_answer({**USER, "access_profiles": [profile]})
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.role == "member" and app.link.state is LinkState.UP)
        await pilot.press("2", "j")
        await pilot.press("3")
        await until(pilot, lambda: app.screen.query_one("#model-list", RecordTable).row_count > len(STATE.deployments))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewModelForm))
        await pilot.pause()
        app.screen.query_one("#template", Select).value = TEMPLATES[0].id
        await until(pilot, lambda: app.screen.query("ParameterFields FieldRow"))
        assert len(app.screen.query("ParameterFields Select")) == 0
    asked = {request.url.path for request in node.requests}
    assert asked.isdisjoint({"/admin/artifacts", "/admin/jobs", "/admin/importable"})


async def test_member_key(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """What the key may not see is refused in the server's words; the console goes on."""
    node.routes["GET", "/admin/keys"] = lambda _: problem(403, "only admins may list keys", "forbidden")
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.link.state is LinkState.UP)
        await pilot.press("5")
        await until(pilot, lambda: app._notifications)
        (notification,) = app._notifications
        assert (notification.title, notification.message) == ("Not allowed", "only admins may list keys")
