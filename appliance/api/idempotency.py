"""``Idempotency-Key``: a create that is sent again is answered as it was, and makes nothing a second time.

One middleware for all routes that are marked with ``CREATES`` or ``CREATES_SECRET``. See ``lifecycle.answers``.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Final

from litestar import Request
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.streaming import ClientLeft
from appliance.domain.errors import ApplianceError, Conflict, InvalidParameter
from appliance.lifecycle.answers import Answers
from appliance.lifecycle.answers import Request as Repeatable
from appliance.registry.answers import CLAIM, KeptAnswer

log = logging.getLogger(__name__)

HEADER: Final = "idempotency-key"
REPLAYED: Final = "idempotent-replayed"
MAX_KEY_LENGTH: Final = 255
MARK: Final = "idempotent"
CREATES: Final = {MARK: "answer"}
"""``opt`` of a route that makes something."""
CREATES_SECRET: Final = {MARK: "secret"}
"""The same, when its answer holds a secret, which is not kept."""


class Idempotency(ASGIMiddleware):
    """Answers a request again that was answered before. Behind the gate, which knows the caller."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Let the first through and keep its answer; replay it to the others."""
        mark = scope["route_handler"].opt.get(MARK)
        key = None if mark is None else Headers.from_scope(scope).get(HEADER)
        if mark is None or key is None:
            await next_app(scope, receive, send)
            return
        request: Request[Any, Any, Any] = Request(scope)
        _check(key)
        route = f"{request.method} {request.url.path}"
        repeatable = Repeatable(caller=scope["state"]["caller"], route=route, key=key)
        body = BodyDigest(request)
        async with self._answers.turn(repeatable) as kept:
            if kept is None:
                await self._first(repeatable, body, mark == "secret", (scope, receive, send, next_app))
            else:
                await _again(kept, key, body, receive, send)

    async def _first(
        self, request: Repeatable, body: BodyDigest, is_secret: bool, call: tuple[Scope, Receive, Send, ASGIApp]
    ) -> None:
        scope, receive, send, next_app = call
        claim = self._answers.claim(request, body.hex, is_secret=is_secret)
        answer = Answered()
        token = CLAIM.set(claim)
        try:
            await next_app(scope, body.reading(receive), answer.take)
        finally:
            CLAIM.reset(token)
        if claim.is_noted and answer.is_success and not is_secret:
            await self._keep(request, body, receive, answer)
        for message in answer.messages:
            await send(message)

    async def _keep(self, request: Repeatable, body: BodyDigest, receive: Receive, answer: Answered) -> None:
        """Before its first byte leaves. An answer that cannot be kept is given all the same."""
        try:
            await body.read_all(receive)
            await self._answers.keep(request, body.hex(), answer.status, answer.content.decode())
        except ApplianceError as error:
            log.error("the answer to %s was not kept: %s", request.route, error.message)


async def _again(kept: KeptAnswer, key: str, body: BodyDigest, receive: Receive, send: Send) -> None:
    await body.read_all(receive)
    when = f"{kept.created_at:%Y-%m-%d %H:%M:%S} UTC"
    if body.hex() != kept.request_digest:
        raise InvalidParameter(
            f"Idempotency-Key '{key[:64]}' was sent on {when} with another body or query; "
            "send another key with another request"
        )
    if kept.is_secret:
        raise Conflict(
            f"the first request with this Idempotency-Key made {kept.noun} '{kept.made_id}' on {when}, and its secret "
            "was in that answer alone; if it is lost, delete what was made and send another Idempotency-Key"
        )
    if kept.status_code is None or kept.body is None:
        raise Conflict(
            f"the first request with this Idempotency-Key made {kept.noun} '{kept.made_id}' on {when}, and the server "
            "ended before the answer was kept; look at what was made"
        )
    headers = [(b"content-type", b"application/json"), (REPLAYED.encode(), b"true")]
    await send({"type": "http.response.start", "status": kept.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": kept.body.encode(), "more_body": False})


def _check(key: str) -> None:
    if not (1 <= len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise InvalidParameter(
            f"Idempotency-Key has {len(key)} characters; give 1 to {MAX_KEY_LENGTH} printable ASCII ones"
        )


class Answered:
    """An answer that waits to be sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.status = 0
        self.content = b""

    @property
    def is_success(self) -> bool:
        """Whether it says that something was made."""
        return 200 <= self.status < 300

    async def take(self, message: Message) -> None:
        """One ASGI message of it."""
        self.messages.append(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.content += message["body"]


class BodyDigest:
    """SHA-256 of a request's query and body, while others read it.

    The boundary of a multipart form is left out: clients make up another one each time they send the same form.
    """

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        kind, options = request.content_type
        self._boundary = options.get("boundary", "").encode() if kind.startswith("multipart/") else b""
        self._hash = hashlib.sha256(request.scope["query_string"] + b"\0")
        self._held = b""
        self._is_complete = False

    def reading(self, receive: Receive) -> Receive:
        """``receive`` for whoever reads the body."""

        async def receive_and_hash() -> Any:
            message = await receive()
            self._feed(message)
            return message

        return receive_and_hash

    async def read_all(self, receive: Receive) -> None:
        """Read what nobody has read. Raises ClientLeft."""
        while not self._is_complete:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            self._feed(message)

    def hex(self) -> str:
        """Of what was read until now."""
        end = self._hash.copy()
        end.update(self._held)
        return end.hexdigest()

    def _feed(self, message: Any) -> None:
        if message["type"] != "http.request":
            return
        self._is_complete = not message.get("more_body", False)
        self._held += message.get("body", b"")
        if not self._boundary:
            self._hash.update(self._held)
            self._held = b""
            return
        *whole, rest = self._held.split(self._boundary)
        for piece in whole:
            self._hash.update(piece)
        kept = min(len(rest), len(self._boundary) - 1)  # a boundary may have begun there
        self._hash.update(rest[: len(rest) - kept])
        self._held = rest[len(rest) - kept :]
