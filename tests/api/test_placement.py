"""Resources of deployments on a real server: where they go, what they may take, and what is said when they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.server import Server, running_server

HAS_GPU = Path("/dev/nvidia0").exists()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture
def model_id(client: httpx.Client) -> str:
    """The built-in chat model's."""
    return str(next(m["id"] for m in client.get("/v3/models").json() if m["name"] == "starter-chat"))


def deploy(client: httpx.Client, model_id: str, name: str, **body: Any) -> httpx.Response:
    return client.post(f"/v3/models/{model_id}/deployments", json={"name": name, **body})


def settled(client: httpx.Client, name: str) -> dict[str, Any]:
    """The deployment's state once its load has ended."""

    def found() -> dict[str, Any] | None:
        each: dict[str, Any] = next(d for d in client.get("/admin/state").json()["deployments"] if d["name"] == name)
        return each if each["status"] in {"READY", "FAILED"} else None

    chain.until(lambda: found() is not None, f"'{name}' is loaded or not")
    state = found()
    assert state is not None
    return state


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_a_gpu_that_is_not_there(client: httpx.Client, model_id: str) -> None:
    """Made, then FAILED with what was asked for, what there is and the next step; a call says the same."""
    made = deploy(client, model_id, "on-a-gpu", vendor_configuration={"gpus": 1})
    assert made.status_code == 200, made.text
    state = settled(client, "on-a-gpu")
    assert state["status"] == "FAILED"
    assert "'on-a-gpu' asks for 1 GPU and this machine has none (no NVIDIA GPU" in state["status_reason"]
    assert "set gpus to 0 to run it in RAM" in state["status_reason"]
    answer = client.post("/v1/completions", json={"model": "on-a-gpu", "prompt": "Hello", "max_tokens": 1})
    assert answer.status_code in {400, 503}, answer.text
    assert "asks for 1 GPU" in answer.json()["detail"]
    plan = client.post("/admin/plan", json={"deployment": "on-a-gpu"}).json()
    assert (plan["outcome"], plan["evicts"]) == ("never", [])
    assert "asks for 1 GPU" in plan["reason"]
    client.delete(f"/v3/models/{model_id}/deployments/{made.json()['id']}").raise_for_status()


def test_memory_is_a_limit(client: httpx.Client, model_id: str) -> None:
    """More RAM than ``memory`` allows is refused with both numbers, and nothing is stored; with more it loads."""
    refused = deploy(client, model_id, "in-little", vendor_configuration={"memory": "1Mi"})
    assert refused.status_code == 400, refused.text
    assert refused.json()["code"] == "cannot_fit"
    assert "of RAM and its resources allow 1.0 MiB; raise 'memory'" in refused.json()["detail"]
    assert all(d["name"] != "in-little" for d in client.get("/admin/state").json()["deployments"])
    made = deploy(client, model_id, "in-much", vendor_configuration={"memory": "8Gi", "cpus": 3})
    assert made.status_code == 200, made.text
    assert settled(client, "in-much")["status"] == "READY"
    client.delete(f"/v3/models/{model_id}/deployments/{made.json()['id']}").raise_for_status()


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"vendor_configuration": {"memory": "lots"}}, 422, "memory"),
        ({"vendor_configuration": {"memory": "8Gi\n"}}, 422, "memory"),
        ({"vendor_configuration": {"gpus": -1}}, 422, "gpus"),
        ({"vendor_configuration": {"gpus": 65}}, 422, "gpus"),
        ({"model_creation_parameters": {"gpu_layers": "auto"}}, 422, "no GPU is asked for"),
        ({"vendor_configuration": {"gpu_type": "nvidia-hopper-h100"}}, 400, "no GPU is asked for; set gpus"),
        ({"vendor_configuration": {"gpus": 2, "num_shards": 4}}, 400, "num_shards is 4 and gpus is 2"),
        ({"vendor_configuration": {"num_shards": 2}}, 400, "num_shards is 2 and no GPU is asked for"),
        (
            {"vendor_configuration": {"gpus": 1}, "model_creation_parameters": {"gpu_layers": "99"}},
            422,
            "a number from 1 to 7",
        ),
    ],
)
def test_wrong_resources(client: httpx.Client, model_id: str, body: dict[str, Any], status: int, detail: str) -> None:
    """Refused by name, and nothing is stored."""
    answer = deploy(client, model_id, "wrong", **body)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_the_state_shows_where_everything_is(client: httpx.Client) -> None:
    """A resident's bytes by device add up to what is reserved for it; RAM's account is the ledger's."""
    body = {"model": "starter-chat", "prompt": "Hello", "max_tokens": 1}
    client.post("/v1/completions", json=body).raise_for_status()
    state = client.get("/admin/state").json()
    resident = next(r for r in state["residents"] if r["deployment_name"] == "starter-chat")
    assert [(share["device"], share["layers"]) for share in resident["placement"]] == [("cpu", 7)]
    assert sum(share["reserved_bytes"] for share in resident["placement"]) == resident["predicted_bytes"]
    ram = state["devices"][0]
    assert (ram["id"], ram["budget_bytes"], ram["reserved_bytes"]) == (
        "cpu",
        state["memory_budget_bytes"],
        state["memory_reserved_bytes"],
    )


def test_the_plan_shows_the_devices(client: httpx.Client, model_id: str) -> None:
    """One entry for RAM, with the bytes that the whole comes to and what is free there."""
    plan = client.post("/admin/plan", json={"model_id": model_id}).json()
    assert [share["device"] for share in plan["placement"]] == ["cpu"]
    assert plan["placement"][0]["reserved_bytes"] == plan["total_bytes"]
    assert plan["placement"][0]["free_bytes"] == plan["free_bytes"]


def test_shipped_templates_limit_nothing(client: httpx.Client) -> None:
    """Clients want numbers where they have none: the largest that there are, and no GPU."""
    shipped = [t for t in client.get("/v3/model-templates").json() if t["name"].startswith(("llama-cpp-", "onnx-"))]
    configurations = [t["vendor_configuration"]["endpoint_config"] for t in shipped]
    assert len(shipped) == 7
    assert {(c["cpus"], c["memory"], c["gpus"]) for c in configurations} == {(1024, "1024Ti", 0)}


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_built_in_models_on_gpus(tmp_path: Path) -> None:
    """``builtin_gpus`` of the configuration goes into the shipped llama.cpp templates: built-ins want a GPU then."""
    with running_server(tmp_path / "home", APPLIANCE_BUILTIN_GPUS="1") as server, server.client() as client:
        templates = client.get("/v3/model-templates").json()
        asked = {t["name"]: t["vendor_configuration"]["endpoint_config"]["gpus"] for t in templates}
        assert {name.split("-")[0]: gpus for name, gpus in asked.items()} == {"llama": 1, "onnx": 0}
        answer = client.post("/v1/completions", json={"model": "starter-chat", "prompt": "Hello", "max_tokens": 1})
        assert answer.status_code == 400, answer.text
        assert "'starter-chat' asks for 1 GPU and this machine has none" in answer.json()["detail"]
        assert settled(client, "starter-chat")["status"] == "FAILED"


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
def test_a_real_gpu_serves(client: httpx.Client, model_id: str) -> None:
    """On a GPU with a llama.cpp for it: READY there, booked there, and the driver sees this process on it.

    With a llama.cpp without CUDA: FAILED, and the reason says so.
    """
    made = deploy(client, model_id, "on-a-gpu", vendor_configuration={"gpus": 1}).raise_for_status()
    state = settled(client, "on-a-gpu")
    if state["status"] == "FAILED":
        assert "this build of llama.cpp has no CUDA backend" in state["status_reason"]
    else:
        node = client.get("/admin/state").json()
        resident = next(r for r in node["residents"] if r["deployment_name"] == "on-a-gpu")
        device = next(d for d in node["devices"] if d["id"] == resident["device"])
        booked = next(s["reserved_bytes"] for s in resident["placement"] if s["device"] == device["id"])
        assert 0 < booked <= device["reserved_bytes"] <= device["budget_bytes"] < device["total_bytes"]
    client.delete(f"/v3/models/{model_id}/deployments/{made.json()['id']}").raise_for_status()
