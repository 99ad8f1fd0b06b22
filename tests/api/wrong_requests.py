"""What a wrong request is: it must be refused with this status and these words. The ``wrong_*`` files list them.

``{name}`` in paths and bodies stands for an id of the stage (``conftest.Stage.names``).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx

UNKNOWN = "00000000-0000-4000-8000-00000000dead"
HELLO = [{"role": "user", "content": "hello"}]
BIG = "x" * 200_000
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class Wrong(NamedTuple):
    """One wrong request. ``words`` must all be in the answer's ``detail``."""

    what: str
    method: str
    path: str
    status: int
    words: tuple[str, ...] = ()
    body: Any = None
    content: bytes | None = None
    headers: dict[str, str | bytes] | None = None
    key: str = "admin"

    def send(self, client: httpx.Client, names: dict[str, str], keys: dict[str, str]) -> httpx.Response:
        """Send it, with the placeholders filled in."""
        headers = {"content-type": "application/json", **(self.headers or {})}
        if self.key in keys:
            headers.setdefault("x-api-key", keys[self.key])
        content = self.content
        if content is None and self.body is not None:
            content = _fill(json.dumps(self.body), names).encode()
        return client.request(self.method, _fill(self.path, names), content=content, headers=headers)


def _fill(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


def chat(**body: Any) -> dict[str, Any]:
    """An OpenAI chat body with something wrong in it."""
    return {"model": "api-chat", "messages": HELLO, "max_tokens": 1, **body}


def model(**body: Any) -> dict[str, Any]:
    """A model body with something wrong in it."""
    sound = {
        "name": "api-wrong",
        "model_type": "CHAT_COMPLETION",
        "model_template_id": "{chat_template}",
        "model_creation_parameters": {"weights": "api-llama"},
    }
    return {**sound, **body}


def template(**body: Any) -> dict[str, Any]:
    """A template body with something wrong in it."""
    sound = {
        "name": "api-wrong",
        "endpoint_type": "SYNC",
        "model_type": "COMPLETION",
        "vendor_configuration": {"bundle_config": {"registry": "local", "image": "llama.cpp", "tag": "1"}},
    }
    return {**sound, **body}


def tool(**parameters: Any) -> list[dict[str, Any]]:
    """A tool whose schema is wrong."""
    return [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
