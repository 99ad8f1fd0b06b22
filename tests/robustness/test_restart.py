"""What an operator and a power cut do to a server: end it, kill it, start it again, start it twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from appliance.registry.database import Database
from appliance.registry.deployments import loading_marks
from appliance.registry.migrations import REGISTRY
from tests.robustness.conftest import LONG_CONTEXT, LONG_CONTEXT_TOKENS
from tests.support import chain
from tests.support.chain import Deployed
from tests.support.server import Server, running_server
from tests.support.tiny_models import write_llama

HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("restarted") / "home"


@pytest.fixture(scope="module")
def restarted(home: Path) -> Iterator[Server]:
    """A server that the tests of this file stop and start as they like; each leaves it running."""
    with running_server(home, APPLIANCE_SHUTDOWN_GRACE_SECONDS="1") as running:
        yield running


@pytest.fixture(scope="module")
def deployed(restarted: Server) -> Deployed:
    """A deployment that was there before the restarts."""
    with restarted.client() as client:
        path = write_llama(restarted.home / "import" / "tiny.gguf", context_length=LONG_CONTEXT_TOKENS)
        chain.import_weights(client, path, "tiny")
        return chain.deploy(client, chain.CHAT, "tiny", "kept", model_creation_parameters=LONG_CONTEXT)


@pytest.fixture(scope="module")
def pinned(restarted: Server, deployed: Deployed) -> Deployed:
    """One that is always in memory."""
    with restarted.client() as client:
        return chain.deploy(client, chain.CHAT, "tiny", "pinned", vendor_configuration={"min_workers": 1})


def check_it_answers(server: Server, deployed: Deployed) -> None:
    with server.client(server.member_key) as client:
        assert client.get(deployed.path).json()["status"] == "READY"
        answer = client.post(deployed.execute, json=HELLO)
    assert answer.status_code == 200, answer.text


@contextmanager
def running_stream(server: Server, model: str) -> Iterator[Iterator[bytes]]:
    """An answer that has begun and has no end in sight: what is still to come of it."""
    body = {"model": model, "prompt": "hello", "stream": True}
    with server.client() as client, client.stream("POST", "/v1/completions", json=body) as answer:
        pieces = answer.iter_raw()  # kept: an iterator that is dropped takes the connection with it
        next(pieces)
        yield pieces


def test_deployments_and_keys_come_back(restarted: Server, deployed: Deployed, pinned: Deployed) -> None:
    """After a stop and a start on the same home deployments are READY and answer, and keys open the door."""
    assert restarted.stop() == 0
    restarted.start()

    check_it_answers(restarted, deployed)
    with restarted.client() as client:
        chain.until(lambda: client.get("/readyz").status_code == 200, "the pinned deployment is loaded")
        resident = chain.resident_of(client, pinned)
    assert resident is not None
    assert resident["pinned"]
    check_it_answers(restarted, pinned)


def test_model_servers_come_back(restarted: Server, deployed: Deployed, pinned: Deployed) -> None:
    """A server's alias, its backend and the way back outlive even a kill."""
    with restarted.client() as client:
        body = {"name": "desk", "alias": "desk", "model_deployment_id": deployed.deployment_id}
        place = f"/v4/serving/{client.post('/v4/serving', json=body).raise_for_status().json()['model_server_id']}"
        swap = {"new_model_deployment_id": pinned.deployment_id}
        client.put(f"{place}/backend", json=swap).raise_for_status()
    restarted.stop(signal.SIGKILL)
    restarted.start()

    with restarted.client() as client:
        assert client.get(f"{place}/deployment").json() == {"model_deployment_id": pinned.deployment_id}
        assert client.post("/v4/serving/a/desk/execute", json=HELLO).status_code == 200
        back = client.post(f"{place}/rollback").raise_for_status().json()
        assert back["rolled_back_to_deployment"] == deployed.deployment_id
        client.delete(place).raise_for_status()


def test_a_stop_ends_running_streams_in_time(restarted: Server, deployed: Deployed) -> None:
    """SIGTERM in the middle of an endless answer: cut off after the grace time, exit status 0, logged as cancelled."""
    with running_stream(restarted, "kept"):
        assert restarted.stop() == 0
    restarted.start()

    with restarted.client() as after:
        assert chain.calls_of(after, deployed)[0]["finish_reason"] == "cancelled"
    check_it_answers(restarted, deployed)


def test_a_kill_loses_requests_in_flight_and_nothing_else(restarted: Server, deployed: Deployed) -> None:
    """SIGKILL in the middle of answers: everything that was promised before is there after the next start."""
    with restarted.client() as client:
        answered = client.post("/v1/completions", json={"model": "kept", "prompt": "hello", "max_tokens": 3})
        assert answered.status_code == 200
        before = chain.calls_of(client, deployed)
    with ExitStack() as streams:
        for _ in range(3):
            streams.enter_context(running_stream(restarted, "kept"))
        assert restarted.stop(signal.SIGKILL) == -signal.SIGKILL
    restarted.start()

    check_it_answers(restarted, deployed)
    with restarted.client() as client:
        logged = {call["id"] for call in chain.calls_of(client, deployed)}
    assert {call["id"] for call in before} <= logged


def test_a_load_that_took_the_server_down_is_not_repeated(
    restarted: Server, deployed: Deployed, pinned: Deployed
) -> None:
    """A loading mark found at start turns that deployment FAILED with its reason; everything else serves.

    Changing the deployment tries again.
    """
    restarted.stop()
    mark(restarted.home, pinned)
    restarted.start()

    check_it_answers(restarted, deployed)
    with restarted.client() as client:
        shown = client.get(pinned.path).json()
        refused = client.post(pinned.execute, json=HELLO)
        ready = client.get("/readyz")
        assert shown["status"] == "FAILED"
        assert "ended the server" in shown["status_reason"]
        assert refused.status_code == 503
        assert refused.json()["code"] == "not_ready"
        assert shown["status_reason"] in refused.json()["detail"]
        assert ready.status_code == 503
        assert "'pinned' is FAILED" in ready.json()["reasons"][0]

        changed = client.patch(pinned.path, json={"vendor_configuration": {"min_workers": 1, "per_worker": 2}})
        assert changed.status_code == 200, changed.text
        chain.until(lambda: client.get("/readyz").status_code == 200, "it is loaded after all")
    check_it_answers(restarted, pinned)


def mark(home: Path, deployed: Deployed) -> None:
    """What a load leaves behind that never came to its end."""
    with Database(home / "registry.db", REGISTRY) as database:
        database.run_sync(lambda db: loading_marks.mark(db, deployed.deployment_id, datetime.now(UTC)))


def test_a_second_server_on_the_same_home_is_refused(restarted: Server) -> None:
    """It ends at once with status 1 and says which process is in the way; the first one serves on."""
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "serve", "--port", "0"],
        env=restarted.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert restarted.process is not None
    assert f"process {restarted.process.pid}" in done.stderr
    assert "--home" in done.stderr
    assert "Traceback" not in done.stderr
    assert httpx.get(f"{restarted.url}/livez").status_code == 200


def test_a_port_in_use_is_said_in_a_line(restarted: Server, tmp_path: Path) -> None:
    """A server whose port is taken ends with a status other than 0 and names the address."""
    port = urlsplit(restarted.url).port
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "serve", "--port", str(port)],
        env={**os.environ, "APPLIANCE_HOME": str(tmp_path / "other")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode != 0
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
