"""The playground's settings: how warm, how long, which system message, which tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from textual.app import ComposeResult
from textual.widgets import Input

from appliance.wire import sgp_v3
from appliance.wire.limits import MaxTokens, Temperature
from tui.conversation import Settings
from tui.screens.modal import FormDialog
from tui.widgets.field_row import FieldError, FieldRow

TOOLS_HINT = (
    'JSON list: [{"name": "weather", "description": "weather of a city", "arguments": {"properties": '
    '{"city": {"type": "string"}}}}]'
)


class SettingsForm(FormDialog[Settings]):
    """Checked against the same bounds as the server's."""

    heading = "Playground settings"
    submit_label = "Apply"

    def __init__(self, settings: Settings, model_type: str) -> None:
        super().__init__()
        self._settings = settings
        self._model_type = model_type

    def compose_fields(self) -> ComposeResult:
        """One row per setting; tools for agents only."""
        settings = self._settings
        warm = Input(f"{settings.temperature:g}", compact=True, id="temperature")
        yield FieldRow("Temperature", warm, "0 to 2; at 0 the likeliest token is always taken")
        longest = Input(str(settings.max_tokens or ""), compact=True, id="max-tokens")
        yield FieldRow("Longest answer", longest, "in tokens; empty: as many as the context leaves")
        system = Input(settings.system, compact=True, id="system")
        yield FieldRow("System message", system, "instructions that come before the conversation")
        tools = FieldRow("Tools", Input(_tools_text(settings), compact=True, id="tools"), TOOLS_HINT)
        tools.display = self._model_type == "AGENT"
        yield tools

    def submission(self) -> Callable[[], Awaitable[Settings]]:
        """The new settings; nothing is asked of the server."""
        temperature, longest, system, tools = (row.text for row in self.query(FieldRow))
        return partial(
            _given,
            Settings(
                temperature=_read(temperature or "0.2", Temperature, "Temperature"),
                max_tokens=_read(longest, MaxTokens, "Longest answer") if longest else None,
                system=system,
                tools=_read_tools(tools) if tools else [],
            ),
        )


async def _given(settings: Settings) -> Settings:
    return settings


def _read(text: str, kind: Any, label: str) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise FieldError(f"{label}: {error}, got '{text}'") from error


def _read_tools(text: str) -> list[sgp_v3.Tool]:
    try:
        return msgspec.json.decode(text, type=list[sgp_v3.Tool])
    except msgspec.DecodeError as error:
        raise FieldError(f"Tools: {error}") from error


def _tools_text(settings: Settings) -> str:
    return msgspec.json.encode(settings.tools).decode() if settings.tools else ""
