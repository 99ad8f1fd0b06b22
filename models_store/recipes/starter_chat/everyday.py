"""A few hand-written tools and requests, as a first user would try them: a check that no generator made.

The generated items measure what was trained; these measure how far that carries.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def _tool(name: str, description: str, **types: str) -> Json:
    properties = {argument: {"type": kind} for argument, kind in types.items()}
    parameters = {"type": "object", "properties": properties, "required": list(types)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = (
    _tool("get_weather", "Get the current weather for a city.", city="string"),
    _tool("send_email", "Send an email to a person.", to="string", subject="string"),
    _tool("add", "Add two numbers.", a="integer", b="integer"),
    _tool("create_ticket", "Create a support ticket.", title="string"),
)

REQUESTS: tuple[tuple[str, str, Json], ...] = (
    ("What is the weather in Paris?", "get_weather", {"city": "Paris"}),
    ("What's the weather like in Tokyo?", "get_weather", {"city": "Tokyo"}),
    ("weather in Lisbon", "get_weather", {"city": "Lisbon"}),
    ("Get the weather for Oslo.", "get_weather", {"city": "Oslo"}),
    ("Send an email to ann@acme.org about lunch", "send_email", {"to": "ann@acme.org", "subject": "lunch"}),
    ('Send an email to Maria with subject "holiday plan"', "send_email", {"to": "Maria", "subject": "holiday plan"}),
    ("Add 3 and 4", "add", {"a": 3, "b": 4}),
    ("Please add 12 and 30.", "add", {"a": 12, "b": 30}),
    ('Create a ticket called "printer broken"', "create_ticket", {"title": "printer broken"}),
    ("Create a ticket with title red lamp", "create_ticket", {"title": "red lamp"}),
)
