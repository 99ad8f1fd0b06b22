"""Serves the document. The first who asks has it made, which takes a second or two: beside the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Litestar, Request, Router


def description_router(path: str) -> Router:
    """Where Litestar puts the document and its page; they are reached once the document is there."""
    return Router(path, route_handlers=[], include_in_schema=False, before_request=_Making().wait)


class _Making:
    """Of one application's document."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()
        self._is_made = False

    async def wait(self, request: Request[Any, Any, Any]) -> None:
        """Until the document is there; it is made in a thread, so that streams go on meanwhile."""
        if self._is_made:
            return
        async with self._one_at_a_time:
            await asyncio.to_thread(_make, request.app)
            self._is_made = True


def _make(app: Litestar) -> None:
    """Litestar keeps its half, and the document itself what is made of that."""
    app.openapi_schema.to_schema()
