"""The playground: every model type on a real server; stopping on a stream that would never end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
from textual.widgets import Input, Select, TextArea

from tests.tui.conftest import ConsolePilot, screen_text, until
from tests.tui.support.fixed_node import FixedNode, json_answer, problem
from tui.app import ConsoleApp
from tui.screens.playground import PlaygroundScreen
from tui.screens.playground_settings import SettingsForm
from tui.widgets.composer import Composer
from tui.widgets.transcript import Turn


class EndlessStream(httpx.AsyncByteStream):
    """One word, then nothing more until the reader leaves."""

    def __init__(self) -> None:
        self.left = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'data: {"choices": [{"delta": {"content": "Once"}}]}\n\n'
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.left = True


async def _open(pilot: ConsolePilot, name: str) -> PlaygroundScreen:
    """Go to the playground and choose a deployment."""
    await pilot.press("4")
    await until(pilot, lambda: isinstance(pilot.app.screen, PlaygroundScreen))
    screen = pilot.app.screen
    assert isinstance(screen, PlaygroundScreen)
    node = pilot.app.node  # type: ignore[attr-defined]
    wanted = next(deployment.id for deployment in node.deployments if deployment.name == name)
    await pilot.pause()
    screen.query_one("#deployment", Select).value = wanted
    await until(pilot, lambda: screen._talking_to == wanted)
    return screen


async def test_chat(pilot: ConsolePilot) -> None:
    """The starter answers, and the line below says how fast."""
    screen = await _open(pilot, "starter-chat")
    screen.query_one(Composer).text = "Hello, what can you do?"
    await pilot.press("ctrl+r")
    await until(pilot, lambda: len(screen.query(Turn)) == 2 and " out" in screen.query(Turn).last().summary)
    assert screen.query(Turn).last().text


async def test_embedding(pilot: ConsolePilot) -> None:
    """Each line is a text; near texts have a higher cosine than far ones."""
    screen = await _open(pilot, "starter-embed")
    screen.query_one(Composer).text = "a red fox\na crimson animal\ntax law"
    await pilot.press("ctrl+r")
    await until(pilot, lambda: screen.query(Turn))
    await until(pilot, lambda: "3 of 384 numbers" in screen_text(pilot))


async def test_reranking(pilot: ConsolePilot) -> None:
    """Documents come back best first."""
    screen = await _open(pilot, "starter-rerank")
    screen.query_one("#query", Input).value = "which animal is red?"
    screen.query_one(Composer).text = "the tax law of 1998\na red fox"
    await pilot.press("ctrl+r")
    await until(pilot, lambda: "for: which animal is red?" in screen_text(pilot))
    shown = screen_text(pilot)
    assert shown.index("a red fox") < shown.index("the tax law of 1998")


async def test_stop(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """Escape ends the answer, keeps what came, and closes the connection, which stops the server."""
    stream = EndlessStream()
    node.routes["POST", "/v1/chat/completions"] = lambda _: httpx.Response(200, stream=stream)
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.role)
        screen = await _open(pilot, "starter-chat")
        await pilot.press(*"Tell", "enter")
        await until(pilot, lambda: screen.query(Turn) and screen.query(Turn).last().text == "Once")
        await pilot.press("escape")
        await until(pilot, lambda: "stopped" in screen.query(Turn).last().summary)
        await until(pilot, lambda: stream.left)
        assert [turn.content for turn in screen._conversation.turns] == ["Tell", "Once"]


async def test_settings(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """Settings out of range are refused in the form; sound ones go into the request."""
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.role)
        screen = await _open(pilot, "starter-chat")
        await pilot.press("ctrl+t")
        await until(pilot, lambda: isinstance(app.screen, SettingsForm))
        app.screen.query_one("#temperature", Input).value = "9"
        await pilot.press("enter")
        assert "Temperature" in str(app.screen.query_one("#refusal").render())
        app.screen.query_one("#temperature", Input).value = "0"
        app.screen.query_one("#system", Input).value = "Be short."
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen)
        await pilot.press(*"Hi", "enter")
        await until(pilot, lambda: " out" in screen.query(Turn).last().summary if screen.query(Turn) else False)
    sent = next(request for request in node.requests if request.url.path == "/v1/chat/completions")
    assert b'"temperature":0' in sent.content.replace(b" ", b"")
    assert b"Be short." in sent.content


async def test_agent(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """An agent's wish for a tool is shown; what is typed next goes back as that tool's result."""
    wish = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    steps = iter(
        [
            {"action": "tool_request", "context": {"tool_request": wish}},
            {"action": "content", "context": {"content": "It is 4 degrees in Oslo."}},
        ]
    )
    node.routes["POST", "/v3/models/mod-5/deployments/dep-5/execute"] = lambda _: json_answer(next(steps))
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.role)
        screen = await _open(pilot, "invoice-agent")
        await pilot.press(*"Oslo", "enter")
        await until(pilot, lambda: screen.query_one(Composer).border_title == "Result of weather")
        assert screen.query(Turn).last().text == 'weather({"city": "Oslo"})'
        await pilot.press("4", "enter")
        await until(pilot, lambda: screen.query(Turn).last().text == "It is 4 degrees in Oslo.")
        assert screen.query_one(Composer).border_title == "Message to the agent"
    bodies = [json.loads(request.content) for request in node.requests if request.url.path.endswith("/execute")]
    assert bodies[1]["messages"][-1]["role"] == "tool"
    assert bodies[1]["messages"][-1]["name"] == "weather"


async def test_list_of_deployments(fixed_console: ConsoleApp) -> None:
    """Closing the list leads back into the text field, with a choice or without."""
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.role)
        screen = await _open(pilot, "starter-chat")
        await pilot.press("ctrl+o", "escape", *"Hi")
        await until(pilot, lambda: screen.query_one(TextArea).text == "Hi")
        await pilot.press("ctrl+o", "down", "enter")
        await until(pilot, lambda: screen._talking_to == "dep-2" and screen.query_one(Composer).has_focus)


async def test_question_not_lost(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """A question that could not be sent goes back into the text field, and the reason is shown."""
    node.routes["POST", "/v1/chat/completions"] = lambda _: problem(503, "'starter-chat' is loading", "not_ready")
    app = fixed_console
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.role)
        screen = await _open(pilot, "starter-chat")
        await pilot.press(*"Hi there", "enter")
        await until(pilot, lambda: screen.query(".turn-error"))
        await until(pilot, lambda: len(screen.query(Turn)) == 1)
        assert screen.query_one(Turn).text == "'starter-chat' is loading"
        assert screen.query_one(TextArea).text == "Hi there"
