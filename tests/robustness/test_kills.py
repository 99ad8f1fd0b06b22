"""What a power cut must not do: make a thing twice, or give back tokens that were used."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.support.server import Server, running_server

DELAYS_SECONDS = (0.0, 0.003, 0.006, 0.012, 0.05)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of this file kill and start again."""
    with running_server(tmp_path_factory.mktemp("killed") / "home") as running:
        yield running


def _kill(server: Server) -> None:
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.parametrize("delay_seconds", DELAYS_SECONDS)
def test_a_create_that_is_sent_again_after_a_kill(killed: Server, delay_seconds: float) -> None:
    """Whenever the server dies, the same request makes the file once: then, or when it is sent again.

    Between the two it may be 409: the file is there, and its answer was lost.
    """
    name = f"{uuid4().hex}.jsonl"
    form = {"data": {"purpose": "batch"}, "files": {"file": (name, b"{}\n")}, "headers": {"idempotency-key": name}}
    arrived = threading.Event()

    def send() -> None:
        with killed.client() as client:
            client.get("/livez")
            arrived.set()
            try:
                client.post("/v1/files", **form)
            except httpx.TransportError:
                return

    sender = threading.Thread(target=send)
    sender.start()
    arrived.wait()
    time.sleep(delay_seconds)  # not a wait for something: the moment of the kill
    _kill(killed)
    sender.join()
    killed.start()

    with killed.client() as client:
        again = client.post("/v1/files", **form)
        assert again.status_code in {200, 409}, again.text
        (file,) = [file for file in client.get("/v1/files").json()["data"] if file["filename"] == name]
        if again.status_code == 200:
            assert again.json()["id"] == file["id"]
            assert client.post("/v1/files", **form).headers["idempotent-replayed"] == "true"
        else:
            assert file["id"] in again.json()["detail"]


def test_used_tokens_stay_used(killed: Server) -> None:
    """A key whose tokens of the day are spent is refused after a kill too, with the same numbers."""
    body = {"model": "starter-embed", "input": "one two three four"}
    with killed.client() as admin:
        limits = {"tokens_per_day": 3}
        made = admin.post("/admin/keys", json={"name": "spent", "role": "member", "limits": limits}).json()
    with killed.client(made["secret"]) as client:
        client.post("/v1/embeddings", json=body).raise_for_status()
        before = client.post("/v1/embeddings", json=body)
    assert before.status_code == 429
    _kill(killed)
    killed.start()

    with killed.client(made["secret"]) as client:
        after = client.post("/v1/embeddings", json=body)
    assert after.status_code == 429
    assert after.json()["detail"].split(";")[0] == before.json()["detail"].split(";")[0]
