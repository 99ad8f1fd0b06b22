"""The client: typed answers, one kind of error per cause, nothing that steers a terminal, no key in sight."""

from __future__ import annotations

import ssl

import httpx
import pytest

from appliance.wire import admin
from tests.tui.support import fixed_records as records
from tests.tui.support.fixed_node import ANSWER, FixedNode, json_answer, problem
from tui.client import Client
from tui.problems import Refused, Unexpected, Unreachable


@pytest.fixture
def client(node: FixedNode) -> Client:
    return Client("appliance.example:8080/", " a-key\n", httpx.MockTransport(node.answer))


class TestAnswers:
    """What comes back from a sound server."""

    async def test_state(self, client: Client) -> None:
        """The node's state arrives as the wire's own struct."""
        assert await client.state() == records.STATE

    async def test_stream(self, client: Client) -> None:
        """A streamed answer is its pieces in order, then the count of tokens."""
        chunks = [chunk async for chunk in client.stream("/v1/chat/completions", {"model": "starter-chat"})]
        assert "".join(chunk.text for chunk in chunks) == ANSWER
        assert chunks[-1].usage is not None
        assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.cached_tokens) == (24, 8)

    async def test_key_and_url(self, client: Client, node: FixedNode) -> None:
        """The key goes into one header, trimmed; a URL without a scheme is HTTP."""
        await client.state()
        assert node.requests[0].headers["x-api-key"] == "a-key"
        assert str(node.requests[0].url) == "http://appliance.example:8080/admin/state"

    async def test_names_are_escaped(self, client: Client, node: FixedNode) -> None:
        """A name with a slash stays one segment of the path."""
        with pytest.raises(Refused):
            await client.delete_artifact("../keys/1")
        assert node.requests[0].url.raw_path == b"/admin/artifacts/..%2Fkeys%2F1"

    async def test_control_characters(self, client: Client, node: FixedNode) -> None:
        """A name with an escape sequence cannot reach the operator's terminal."""
        hostile = records.key(7, "\x1b]0;owned\x07\u202eevil", "member", "ak_\n")
        node.routes["GET", "/admin/keys"] = lambda _: json_answer([hostile])
        (key,) = await client.keys()
        assert key.name == "\ufffd]0;owned\ufffd\ufffdevil"


class TestErrors:
    """What comes back otherwise."""

    async def test_refused(self, client: Client, node: FixedNode) -> None:
        """A refusal carries the server's own words."""
        node.routes["POST", "/admin/keys"] = lambda _: problem(
            403, "this key is a member's; use an admin's", "forbidden"
        )
        with pytest.raises(Refused, match="use an admin's") as caught:
            await client.create_key(admin.KeyCreate(name="x", role="member"))
        assert (caught.value.title, caught.value.code) == ("Not allowed", "forbidden")

    async def test_a_full_disk(self, client: Client, node: FixedNode) -> None:
        """It is no fault of what was sent, whose size has the same status."""
        node.routes["POST", "/admin/keys"] = lambda _: problem(413, "0.6 GiB are free on the disk", "disk_full")
        with pytest.raises(Refused) as caught:
            await client.create_key(admin.KeyCreate(name="x", role="member"))
        assert caught.value.title == "Disk full"

    async def test_incident(self, client: Client, node: FixedNode) -> None:
        """A fault of the server names the incident that its log explains."""
        fault = admin.Problem(detail="the engine died", code="internal", errors=[], incident_id="ab12")
        node.routes["GET", "/admin/zoo"] = lambda _: json_answer(fault, 500)
        with pytest.raises(Refused, match=r"the engine died \(incident ab12\)") as caught:
            await client.zoo()
        assert caught.value.title == "Server error 500"

    async def test_refused_without_words(self, client: Client, node: FixedNode) -> None:
        """An error page of something in between is reported by its status."""
        node.routes["GET", "/admin/zoo"] = lambda _: httpx.Response(502, text="<html>bad gateway</html>")
        with pytest.raises(Refused, match="status 502 without an explanation"):
            await client.zoo()

    async def test_another_service(self, client: Client, node: FixedNode) -> None:
        """Sound HTTP that is no appliance's is recognised, not misread."""
        node.routes["GET", "/admin/state"] = lambda _: httpx.Response(200, text="<html>welcome</html>")
        with pytest.raises(Unexpected, match="is this an appliance"):
            await client.state()

    async def test_gone(self, client: Client, node: FixedNode) -> None:
        """A server that is gone is Unreachable, with its address."""
        node.gone = True
        with pytest.raises(Unreachable, match=r"http://appliance\.example:8080: connection refused"):
            await client.state()

    async def test_too_slow(self, client: Client, node: FixedNode) -> None:
        """A server that does not answer in time is Unreachable."""

        def stall(request: httpx.Request) -> httpx.Response:
            raise httpx.ReadTimeout("", request=request)

        node.routes["GET", "/admin/state"] = stall
        with pytest.raises(Unreachable, match="did not answer in time"):
            await client.state()

    async def test_refused_stream(self, client: Client, node: FixedNode) -> None:
        """A stream that is refused before its first byte has the server's own words too."""
        node.routes["POST", "/v1/completions"] = lambda _: problem(400, "the prompt has 900 tokens, 512 fit")
        with pytest.raises(Refused, match="900 tokens"):
            [chunk async for chunk in client.stream("/v1/completions", {})]

    @pytest.mark.parametrize("event", ['{"detail": "the engine died"}', '{"error": {"message": "the engine died"}}'])
    async def test_stream_that_breaks(self, client: Client, node: FixedNode, event: str) -> None:
        """An error in the middle of a stream is an error, not an answer."""
        node.routes["POST", "/v1/completions"] = lambda _: httpx.Response(200, text=f"data: {event}\n\n")
        with pytest.raises(Refused, match="the engine died"):
            [chunk async for chunk in client.stream("/v1/completions", {})]

    def test_key_that_cannot_be_one(self) -> None:
        """A key with characters that no header takes is refused before anything is sent."""
        with pytest.raises(Refused, match="copy it again"):
            Client("http://localhost", "schlüssel")


@pytest.mark.parametrize(("url", "checks"), [("http://localhost:8080", False), ("https://localhost:8080", True)])
async def test_certificates_are_read_where_they_are_needed(url: str, checks: bool) -> None:
    """Over plain HTTP none are; over TLS the server's is checked by those that are known."""
    client = Client(url, "a-key")
    trust = client._http._transport._pool._ssl_context
    assert bool(trust.get_ca_certs()) is checks
    assert trust.verify_mode is ssl.CERT_REQUIRED
    await client.aclose()
