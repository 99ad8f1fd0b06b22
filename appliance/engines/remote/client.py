"""HTTP to one upstream: the server's only use of httpx. It knows paths, bytes and limits, and no OpenAI spelling.

Redirects are not followed and the environment's proxies are not used: a request goes where the administrator allowed
it to go. Answers are not compressed, have a largest size, and leave the connection closed when nobody wants the rest.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import httpx
import msgspec
from msgspec import Struct

import appliance
from appliance.domain.errors import ApplianceError
from appliance.engines.remote import faults
from appliance.engines.remote.events import Event, EventReader, EventTooLong

MAX_ANSWER_BYTES: Final = 256 << 20
MAX_STREAM_BYTES: Final = 64 << 20
MAX_REFUSAL_BYTES: Final = 64 << 10
CONNECT_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 4.0
"""Below the 5 seconds after which common servers close an idle connection, so that ours is the end that closes."""

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request is the call log's business


class Connection(Struct, frozen=True, kw_only=True):
    """Where an upstream is, and how it is spoken to."""

    upstream: str
    base_url: str
    key: Callable[[], str | None]
    """Asked for each request, so that a changed key holds at once."""
    connections: int
    timeout_seconds: float


class UpstreamClient:
    """Requests to one upstream; belongs to one event loop. Close it; twice is fine."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.lost: str | None = None
        """Why the upstream must be asked anew whether it serves at all: it is gone, or refuses the key."""
        self._http = httpx.AsyncClient(
            verify=_trust(connection.base_url),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=connection.connections, keepalive_expiry=KEEP_ALIVE_SECONDS),
            headers={"user-agent": f"model-appliance/{appliance.__version__}", "accept-encoding": "identity"},
        )

    @property
    def upstream(self) -> str:
        """Its name."""
        return self._connection.upstream

    async def get(self, path: str) -> bytes | None:
        """The whole body of an answer, None where there is nothing. Raises NotReady, Busy, InvalidRequest."""
        try:
            return await self._whole("GET", path, None)
        except _Absent:
            return None

    async def post(self, path: str, body: object) -> bytes:
        """The whole body of the answer to a JSON body. Raises NotReady, Busy, InvalidRequest."""
        return await self._whole("POST", path, body)

    async def events(self, path: str, body: object) -> AsyncGenerator[Event, None]:
        """The events of the answer to a JSON body. Leaving the iteration closes the connection.

        Raises NotReady, Busy, InvalidRequest. The caller bounds the time.
        """
        async with self._answer("POST", path, body) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                raise faults.broken(self.upstream, f"{kind[:64] or 'no content type'} where a stream was asked for")
            reader = EventReader()
            try:
                async for chunk in self._chunks(response, MAX_STREAM_BYTES):
                    for event in reader.feed(chunk):
                        yield event
                for event in reader.finish():
                    yield event
            except EventTooLong:
                raise faults.broken(self.upstream, "an event of its stream is too long") from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # --- one request ---------------------------------------------------------------------------------------------

    async def _whole(self, method: str, path: str, body: object) -> bytes:
        seconds = self._connection.timeout_seconds
        try:
            async with asyncio.timeout(seconds), self._answer(method, path, body) as response:
                return b"".join([chunk async for chunk in self._chunks(response, MAX_ANSWER_BYTES)])
        except TimeoutError:
            raise faults.silent(self.upstream, seconds) from None

    @asynccontextmanager
    async def _answer(self, method: str, path: str, body: object) -> AsyncIterator[httpx.Response]:
        """A sound answer whose body has not been read."""
        key = self._connection.key()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = msgspec.json.encode(body)
        request = self._http.build_request(method, self._connection.base_url + path, headers=headers, content=content)
        try:
            response = await self._http.send(request, stream=True)
            try:
                await self._check(response, f"{method} {path}", key)
                yield response
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def _check(self, response: httpx.Response, asked: str, key: str | None) -> None:
        status = response.status_code
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise faults.broken(self.upstream, "a compressed answer that was not asked for")
        if status == 200:
            return
        if response.request.method == "GET" and status in (404, 405, 501):
            raise _Absent
        words = faults.words_of(await _beginning(response), key)
        if status in (401, 403):
            self.lost = f"its key was refused ({status})"
        raise faults.refusal(self.upstream, asked, status, response.headers, words)

    async def _chunks(self, response: httpx.Response, limit_bytes: int) -> AsyncIterator[bytes]:
        total = 0
        async for chunk in response.aiter_raw():
            total += len(chunk)
            if total > limit_bytes:
                raise faults.broken(self.upstream, f"an answer above {limit_bytes:,} bytes")
            yield chunk

    def _unreachable(self, error: httpx.TransportError) -> ApplianceError:
        why = str(error) or type(error).__name__
        if isinstance(error, httpx.PoolTimeout | httpx.ReadTimeout | httpx.WriteTimeout):
            return faults.silent(self.upstream, self._connection.timeout_seconds)
        self.lost = why[:200]
        return faults.unreachable(self.upstream, why[:200])


class _Absent(Exception):
    """Nothing at this path."""


async def _beginning(response: httpx.Response) -> bytes:
    """The first bytes of a refusal's body; the rest is not read."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= MAX_REFUSAL_BYTES:
            break
    return bytes(body[:MAX_REFUSAL_BYTES])


def _trust(base_url: str) -> ssl.SSLContext:
    """The machine's trust store, where a site puts the certificate of its own authority."""
    if base_url.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; reading all certificates takes its time
    return ssl.create_default_context()
