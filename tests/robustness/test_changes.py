"""Deployments that change while they serve, and weights that are damaged behind the appliance's back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.robustness.conftest import LONG_CONTEXT, LONG_CONTEXT_TOKENS
from tests.support import chain
from tests.support.chain import Deployed
from tests.support.server import Server
from tests.support.tiny_models import write_llama

HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def changing(server: Server) -> Iterator[Deployed]:
    """A deployment to change."""
    with server.client() as client:
        path = write_llama(server.home / "import" / "changing.gguf", seed=11, context_length=LONG_CONTEXT_TOKENS)
        chain.import_weights(client, path, "changing")
        deployed = chain.deploy(client, chain.CHAT, "changing", "changing", model_creation_parameters=LONG_CONTEXT)
        yield deployed
        now_of = client.get("/admin/state").json()["deployments"]
        model_id = next(d["model_id"] for d in now_of if d["id"] == deployed.deployment_id)
        chain.remove(client, deployed._replace(model_id=model_id))
        client.delete("/admin/artifacts/changing").raise_for_status()


@contextmanager
def other_model(client: httpx.Client, server: Server, name: str, seed: int) -> Iterator[str]:
    """Another chat model on weights of its own; its id."""
    path = write_llama(server.home / "import" / f"{name}.gguf", seed=seed, context_length=LONG_CONTEXT_TOKENS)
    chain.import_weights(client, path, name)
    model_id = chain.make_model(client, chain.CHAT, name, name, "CHAT_COMPLETION")
    yield model_id
    client.delete(f"/v3/models/{model_id}").raise_for_status()
    client.delete(f"/admin/artifacts/{name}").raise_for_status()


@contextmanager
def stream_of(client: httpx.Client, model: str) -> Iterator[Iterator[bytes]]:
    """An answer that comes until the block ends."""
    body = {"model": model, "prompt": "hello", "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        yield pieces


def answer_of(client: httpx.Client, deployed: Deployed) -> Any:
    return client.post(deployed.execute, json=HELLO).raise_for_status().json()


def test_a_patch_reloads_while_answers_run(admin: httpx.Client, changing: Deployed) -> None:
    """New slots come with a new engine; an answer that runs on the old one goes on, and the old one leaves after it."""
    with stream_of(admin, "changing") as pieces:
        changed = admin.patch(changing.path, json={"vendor_configuration": {"per_worker": 3}})
        assert changed.status_code == 200, changed.text
        assert changed.json()["status"] == "READY"
        assert b"data: " in next(pieces)
        states = {r["state"] for r in residents(admin, changing)}
        assert states == {"READY", "DRAINING"}
        answer_of(admin, changing)

    (left,) = chain.until(lambda: gone_but_one(admin, changing), "the old engine leaves")
    assert left["slots"] == 3


def test_metrics_have_each_series_once(server: Server, admin: httpx.Client, changing: Deployed) -> None:
    """While an old engine drains beside the new one, their requests are counted together: a series that stood there
    twice would be refused by who collects them."""
    with stream_of(admin, "changing"):
        slots = {"vendor_configuration": {"per_worker": 5}}
        admin.patch(changing.path, json=slots).raise_for_status()
        with stream_of(admin, "changing"):
            assert {r["state"] for r in residents(admin, changing)} == {"READY", "DRAINING"}
            lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))
    (leases,) = [line for line in lines if line.startswith("appliance_resident_leases{") and '"changing"' in line]
    assert float(leases.rpartition(" ")[2]) == 2


def gone_but_one(admin: httpx.Client, deployed: Deployed) -> list[dict[str, Any]] | None:
    found = residents(admin, deployed)
    return found if len(found) == 1 else None


def residents(admin: httpx.Client, deployed: Deployed) -> list[dict[str, Any]]:
    found = admin.get("/admin/state").json()["residents"]
    return [r for r in found if r["deployment_id"] == deployed.deployment_id]


def test_a_failed_swap_keeps_the_old_model(server: Server, admin: httpx.Client, changing: Deployed) -> None:
    """Weights damaged on the disk after their import do not load; the swap is refused and the old model answers on."""
    before = answer_of(admin, changing)
    with other_model(admin, server, "damaged", seed=12) as model_id:
        digest = next(a["digest"] for a in admin.get("/admin/artifacts").json() if a["name"] == "damaged")
        (blob,) = (path for path in server.home.glob(f"store/**/*{digest}*") if path.is_file())
        blob.chmod(0o600)
        with blob.open("r+b") as file:
            file.truncate(blob.stat().st_size // 2)

        refused = admin.post(f"/admin/deployments/{changing.deployment_id}/swap", json={"model_id": model_id})

        assert 400 <= refused.status_code < 500, refused.text
        assert admin.get(changing.path).json()["model_instance_id"] == changing.model_id
        assert admin.get(changing.path).json()["status"] == "READY"
        assert answer_of(admin, changing) == before


def test_a_swap_changes_the_model_while_answers_run(server: Server, admin: httpx.Client, changing: Deployed) -> None:
    """The deployment's id and name answer with the other model from then on; a running answer is not cut."""
    before = answer_of(admin, changing)
    with other_model(admin, server, "other", seed=13) as model_id:
        with stream_of(admin, "changing") as pieces:
            swapped = admin.post(f"/admin/deployments/{changing.deployment_id}/swap", json={"model_id": model_id})
            assert swapped.status_code == 200, swapped.text
            assert b"data: " in next(pieces)
        now = changing._replace(model_id=model_id)
        assert answer_of(admin, now) != before
        assert admin.get(changing.path).status_code == 404

        back = admin.post(f"/admin/deployments/{changing.deployment_id}/swap", json={"model_id": changing.model_id})
        assert back.status_code == 200, back.text
        assert answer_of(admin, changing) == before


def test_a_deployment_deleted_while_it_answers(server: Server, admin: httpx.Client, changing: Deployed) -> None:
    """Deleting waits for nobody: the running answer goes on, new calls are 404, and the engine leaves at the end."""
    body = {"name": "deleted", "model_creation_parameters": LONG_CONTEXT}
    made = admin.post(f"/v3/models/{changing.model_id}/deployments", json=body).json()
    deleted = Deployed("deleted", changing.model_id, made["id"])
    chain.wait_for_status(admin, deleted, "READY")

    with stream_of(admin, "deleted") as pieces:
        assert admin.delete(deleted.path).status_code == 200
        assert b"data: " in next(pieces)
        assert admin.post(deleted.execute, json=HELLO).status_code == 404

    again = admin.post(f"/v3/models/{changing.model_id}/deployments", json={"name": "deleted"})
    assert again.status_code == 200, again.text
    admin.delete(f"/v3/models/{changing.model_id}/deployments/{again.json()['id']}").raise_for_status()
