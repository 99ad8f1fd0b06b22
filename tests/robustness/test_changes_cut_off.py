"""Changes of a deployment that come to nothing: the old engine stays in service, and why is kept.

``GatedServer`` keeps a load from returning; all else is real.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.chain import Deployed
from tests.support.gated_server import LOAD, GatedServer, gated_server
from tests.support.tiny_models import write_llama

HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "temperature": 0}
NOT_MADE = "its last change was not made"


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedServer]:
    home: Path = tmp_path_factory.mktemp("changes-cut-off") / "home"
    with gated_server(home, APPLIANCE_SHUTDOWN_GRACE_SECONDS="1", APPLIANCE_IDLE_SECONDS="1") as running:
        yield running


@pytest.fixture(scope="module")
def models(gated: GatedServer) -> dict[str, str]:
    """Ids of two chat models by name."""
    with gated.client() as client:
        for seed, name in enumerate(("old", "new"), start=41):
            chain.import_weights(client, write_llama(gated.home / "import" / f"{name}.gguf", seed=seed), name)
        return {name: chain.make_model(client, chain.CHAT, name, name, "CHAT_COMPLETION") for name in ("old", "new")}


@pytest.fixture
def served(gated: GatedServer, models: dict[str, str]) -> Iterator[Deployed]:
    """A deployment of the old one."""
    with gated.client() as client:
        path = f"/v3/models/{models['old']}/deployments"
        made = client.post(path, json={"name": "served"}).raise_for_status().json()
        deployed = Deployed("served", models["old"], made["id"])
        chain.wait_for_status(client, deployed, "READY")
    yield deployed
    with gated.client() as client:
        client.delete(deployed.path).raise_for_status()


def swap(gated: GatedServer, deployed: Deployed, model_id: str) -> httpx.Response | None:
    """The answer, or None when the server is gone before it."""
    with gated.client() as client:
        try:
            return client.post(f"/admin/deployments/{deployed.deployment_id}/swap", json={"model_id": model_id})
        except httpx.RemoteProtocolError:
            return None


def shown(gated: GatedServer, deployed: Deployed) -> dict[str, Any]:
    with gated.client() as client:
        found: dict[str, Any] = client.get(deployed.path).raise_for_status().json()
        return found


def answered(gated: GatedServer, deployed: Deployed) -> httpx.Response:
    with gated.client() as client:
        return client.post(deployed.execute, json=HELLO)


def test_a_kill_while_the_new_model_is_loaded(gated: GatedServer, models: dict[str, str], served: Deployed) -> None:
    """A load that took the server down condemns the change, not the model that served: that one answers after the next
    start, and the deployment says what became of the change until the next one."""
    with ThreadPoolExecutor(1) as other, gated.shut(LOAD) as wait_for_call:  # opened before the swap is waited for
        swapped = other.submit(swap, gated, served, models["new"])
        wait_for_call()
        gated.stop(signal.SIGKILL)
        assert swapped.result(timeout=60) is None
    gated.start()

    after = shown(gated, served)
    assert after["model_instance_id"] == models["old"]
    assert after["status"] == "READY"
    assert NOT_MADE in after["status_reason"]
    assert "ended the server" in after["status_reason"]
    answer = answered(gated, served)
    assert answer.status_code == 200, answer.text
    assert NOT_MADE in shown(gated, served)["status_reason"]

    assert swap(gated, served, models["new"]) is not None
    assert shown(gated, served._replace(model_id=models["new"]))["status_reason"] is None
    assert swap(gated, served, models["old"]) is not None


def test_the_new_engine_is_shown_beside_the_old_one(
    gated: GatedServer, models: dict[str, str], served: Deployed
) -> None:
    """Whose bytes are booked while a swap loads can be read in the state; the old engine is listed first."""
    with gated.client() as client:
        client.patch(served.path, json={"vendor_configuration": {"min_workers": 1}}).raise_for_status()
        chain.until(lambda: client.get("/readyz").status_code == 200, "the old engine is there to stay")
    with ThreadPoolExecutor(1) as other, gated.shut(LOAD) as wait_for_call:  # opened before the swap is waited for
        swapped = other.submit(swap, gated, served, models["new"])
        wait_for_call()
        seen = gated.state()
        swapping = [r for r in seen["residents"] if r["deployment_id"] == served.deployment_id]
    assert [resident["state"] for resident in swapping] == ["READY", "LOADING"]
    assert seen["memory_reserved_bytes"] == sum(resident["predicted_bytes"] for resident in swapping)
    answer = swapped.result(timeout=60)
    assert answer is not None
    assert answer.status_code == 200, answer.text
    assert swap(gated, served, models["old"]) is not None


def test_the_reason_of_a_failed_swap_is_kept(gated: GatedServer, models: dict[str, str], served: Deployed) -> None:
    """Whoever looks at the deployment later reads why it still serves the old model, also after that left memory for
    being idle and came back."""
    with gated.client() as client:
        digest = next(a["digest"] for a in client.get("/admin/artifacts").json() if a["name"] == "new")
    (blob,) = (path for path in gated.home.glob(f"store/**/*{digest}*") if path.is_file())
    whole = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(whole[: len(whole) // 2])

    refused = swap(gated, served, models["new"])

    assert refused is not None
    assert 400 <= refused.status_code < 500, refused.text
    reason = f"{NOT_MADE}: {refused.json()['detail']}"
    assert (shown(gated, served)["status"], shown(gated, served)["status_reason"]) == ("READY", reason)
    with gated.client() as client:
        chain.until(lambda: chain.resident_of(client, served) is None, "the idle engine leaves")
    assert answered(gated, served).status_code == 200
    assert (shown(gated, served)["status"], shown(gated, served)["status_reason"]) == ("READY", reason)
    blob.write_bytes(whole)
