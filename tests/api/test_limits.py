"""Limits that the operator sets: body size, memory budget, free disk. On a server of its own with little of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import chain
from tests.support.server import Server, running_server
from tests.support.tiny_models import write_llama

MAX_BODY_BYTES = 65_536
BUDGET_BYTES = 1 << 20


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose every limit is small."""
    home = tmp_path_factory.mktemp("cramped") / "home"
    limits = {
        "APPLIANCE_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "APPLIANCE_MEMORY_BUDGET_BYTES": str(BUDGET_BYTES),
    }
    with running_server(home, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def weights(cramped: Server) -> Path:
    return write_llama(cramped.home / "import" / "tiny.gguf")


@pytest.fixture
def client(cramped: Server) -> Iterator[httpx.Client]:
    with cramped.client() as found:
        yield found


def test_a_body_over_the_limit_is_413(client: httpx.Client) -> None:
    """A body whose announced length is above ``max_body_bytes`` is refused before it is read."""
    answer = client.post("/v2/completions", json={"model": "a", "prompt": "x" * MAX_BODY_BYTES})

    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
    assert str(MAX_BODY_BYTES) in answer.json()["detail"]


def test_a_body_without_a_length_is_413_when_it_grows_over_the_limit(client: httpx.Client) -> None:
    """A chunked body is counted while it comes."""

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 8192

    answer = client.post("/v2/completions", content=pieces(), headers={"content-type": "application/json"})

    assert answer.status_code == 413
    assert str(MAX_BODY_BYTES) in answer.json()["detail"]


def test_what_cannot_fit_is_refused_with_the_bytes(client: httpx.Client, weights: Path) -> None:
    """A deployment larger than the whole memory budget is a 400 that names need and budget, and is not stored."""
    chain.import_weights(client, weights, "tiny")
    model_id = chain.make_model(client, chain.CHAT, "tiny", "large", "CHAT_COMPLETION")

    answer = client.post(
        f"/v3/models/{model_id}/deployments",
        json={"name": "large", "model_creation_parameters": {"cache_tokens": 100_000}},
    )

    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "cannot_fit"
    assert "MiB" in answer.json()["detail"]
    assert "1.0 MiB for all models" in answer.json()["detail"]
    assert client.get(f"/v3/models/{model_id}/deployments").json() == []


def test_a_full_disk_is_413_and_keeps_nothing(cramped: Server, weights: Path) -> None:
    """An import that would eat into the disk's reserve is refused with the bytes; deployments and lists still work."""
    cramped.stop()
    cramped.environment["APPLIANCE_DISK_RESERVE_BYTES"] = str(1 << 60)
    cramped.start()
    with cramped.client() as client:
        before = client.get("/admin/artifacts").json()

        answer = client.post("/admin/imports", json={"paths": [str(weights)], "name": "tiny-again"})

        assert answer.status_code == 413, answer.text
        assert answer.json()["code"] == "disk_full"
        assert "bytes" in answer.json()["detail"] or "iB" in answer.json()["detail"]
        assert client.get("/admin/artifacts").json() == before
