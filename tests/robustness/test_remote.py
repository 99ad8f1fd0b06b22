"""What goes wrong between two appliances: keys, hosts, an upstream that stops and comes back, clients that leave."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.robustness.conftest import LONG_CONTEXT, LONG_CONTEXT_TOKENS
from tests.support import chain, upstreams
from tests.support.chain import Deployed
from tests.support.fake_upstream import DONE, MODEL, Exchange, said, say, stream, without_end
from tests.support.fake_upstream import fake_upstream as running_fake
from tests.support.server import Server, running_server
from tests.support.tiny_models import write_llama

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The upstream, with a model whose answers go on until its long context is full."""
    with running_server(tmp_path_factory.mktemp("back") / "home", APPLIANCE_SHUTDOWN_GRACE_SECONDS="1") as running:
        with running.client() as client:
            path = write_llama(running.home / "import" / "endless.gguf", context_length=LONG_CONTEXT_TOKENS)
            chain.import_weights(client, path, "endless")
            chain.deploy(client, chain.CHAT, "endless", "endless", model_creation_parameters=LONG_CONTEXT)
        yield running


@pytest.fixture(scope="module")
def front_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("front") / "home"


@pytest.fixture(scope="module")
def front(back: Server, front_home: Path) -> Iterator[Server]:
    """The appliance in front of it."""
    host = urlsplit(back.url).netloc
    with running_server(front_home, APPLIANCE_UPSTREAM_HOSTS=f"{host},localhost") as running:
        with running.client() as client:
            upstreams.add(client, "back", f"{back.url}/v1", key=back.member_key)
        yield running


@pytest.fixture
def client(front: Server) -> Iterator[httpx.Client]:
    with front.client() as made:
        yield made


@pytest.fixture(scope="module")
def remote(front: Server) -> Deployed:
    """The endless model, offered by the one in front."""
    with front.client() as client:
        return upstreams.deploy(client, "far", "CHAT_COMPLETION", "endless", "back")


def back_resident(back: Server) -> dict[str, object]:
    return next(r for r in back.state()["residents"] if r["deployment_name"] == "endless")


# --- what an administrator may add -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://api.example.com/v1", 'upstream_hosts = ["127.0.0.1:'),
        ("http://127.0.0.1:1/v1", '"127.0.0.1:1"]'),
        ("https://user:secret@localhost/v1", "user or password"),
        ("file:///etc/passwd", "https://"),
        ("http://localhost/v1?x=1", "query"),
    ],
)
def test_hosts_that_are_not_allowed(client: httpx.Client, url: str, words: str) -> None:
    """The refusal is the line of the configuration that would allow it; a password in it is not repeated."""
    answer = client.post("/admin/upstreams", json={"name": "wrong", "base_url": url})

    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]
    assert "secret" not in answer.text
    assert "wrong" not in [u["name"] for u in client.get("/admin/upstreams").json()]


def test_names_vendors_and_keys_are_checked(client: httpx.Client) -> None:
    """A name once, a vendor once, a key without blanks; and a key that is refused is not repeated."""
    body = {"name": "first", "base_url": "http://localhost:1/v1", "vendor": "COHERE"}
    client.post("/admin/upstreams", json=body).raise_for_status()
    same_name = client.post("/admin/upstreams", json={**body, "vendor": None})
    same_vendor = client.post("/admin/upstreams", json={**body, "name": "second"})
    blanks = client.post("/admin/upstreams", json={**body, "name": "third", "vendor": None, "key": "sk secret\n"})
    bad_name = client.post("/admin/upstreams", json={**body, "name": "a/b", "vendor": None})

    assert (same_name.status_code, same_name.json()["code"]) == (409, "name_taken")
    assert (same_vendor.status_code, same_vendor.json()["code"]) == (409, "name_taken")
    assert "'first'" in same_vendor.json()["detail"]
    assert blanks.status_code == 422
    assert "secret" not in blanks.text
    assert bad_name.status_code == 422
    assert client.delete("/admin/upstreams/first").json()["count"] == 1
    assert client.delete("/admin/upstreams/first").status_code == 404


def test_an_upstream_in_use_stays(client: httpx.Client, remote: Deployed) -> None:
    """It is not removed under a deployment, which the refusal names."""
    answer = client.delete("/admin/upstreams/back")
    assert answer.status_code == 409
    assert "far" in answer.json()["detail"]


def test_members_see_no_upstreams(front: Server) -> None:
    """Only admins add, list, change and remove them."""
    with front.client(front.member_key) as member:
        body = {"name": "mine", "base_url": "http://localhost:1/v1"}
        for answer in (
            member.get("/admin/upstreams"),
            member.post("/admin/upstreams", json=body),
            member.patch("/admin/upstreams/back", json={"key": "x"}),
            member.delete("/admin/upstreams/back"),
        ):
            assert answer.status_code == 403


# --- deployments that cannot be ----------------------------------------------------------------------------------


def test_no_upstream_for_the_vendor(client: httpx.Client) -> None:
    """A model of an external vendor can be made; deploying it says what an administrator does, and then works."""
    model_id = upstreams.make_model(client, "lonely", "CHAT_COMPLETION", "endless", model_vendor="ANTHROPIC")
    path = f"/v3/models/{model_id}/deployments"
    refused = client.post(path, json={"name": "lonely"})
    named = client.post(path, json={"name": "lonely", "model_creation_parameters": {"upstream": "nowhere"}})
    unknown = client.post(path, json={"name": "lonely", "model_creation_parameters": {"weights": "x"}})

    assert refused.status_code == 422
    assert "appliance upstreams add NAME --vendor ANTHROPIC" in refused.json()["detail"]
    assert named.status_code == 422
    assert "no upstream 'nowhere'" in named.json()["detail"]
    assert unknown.status_code == 422
    assert "timeout_seconds, upstream" in unknown.json()["detail"]
    client.delete(f"/v3/models/{model_id}").raise_for_status()


def test_a_vendor_leads_to_its_upstream(client: httpx.Client, back: Server) -> None:
    """Without a name in its parameters a model goes where its vendor's models go."""
    upstreams.add(client, "google", f"{back.url}/v1", key=back.member_key, vendor="GOOGLE")
    model_id = upstreams.make_model(client, "by-vendor", "CHAT_COMPLETION", "endless", model_vendor="GOOGLE")
    made = client.post(f"/v3/models/{model_id}/deployments", json={"name": "by-vendor"}).raise_for_status().json()
    deployed = Deployed("by-vendor", model_id, made["id"])
    chain.wait_for_status(client, deployed, "READY")
    changed = client.patch(f"/v3/models/{model_id}", json={"base_model_id": "other"})

    assert client.post(deployed.execute, json=HELLO).status_code == 200
    assert changed.status_code == 409
    chain.remove(client, deployed)
    client.delete("/admin/upstreams/google").raise_for_status()


def test_a_model_without_its_upstreams_name(client: httpx.Client) -> None:
    """base_model_id says which of the upstream's models is meant; without it there is no deployment."""
    body = {"name": "nameless", "model_type": "AGENT", "model_vendor": "OTHER"}
    model_id = client.post("/v3/models", json=body).raise_for_status().json()["id"]
    parameters = {"name": "nameless", "model_creation_parameters": {"upstream": "back"}}
    answer = client.post(f"/v3/models/{model_id}/deployments", json=parameters)

    assert answer.status_code == 422
    assert "base_model_id" in answer.json()["detail"]
    client.delete(f"/v3/models/{model_id}").raise_for_status()


def test_a_model_the_upstream_does_not_have(client: httpx.Client) -> None:
    """The deployment FAILED with the list of those it has, and requests get the reason."""
    deployed = upstreams.start(client, "unknown", "CHAT_COMPLETION", "absent", "back")
    reason = upstreams.failed(client, deployed)
    answer = client.post(deployed.execute, json=HELLO)

    assert "no model 'absent'" in reason
    assert "'endless'" in reason
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "absent" in answer.json()["detail"]
    chain.remove(client, deployed)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_wrong_key_and_then_the_right_one(client: httpx.Client, back: Server, front: Server) -> None:
    """A refused key FAILS the deployment with what to do; once the right one is given it becomes READY by itself."""
    upstreams.add(client, "locked", f"{back.url}/v1", key="sk-wrong")
    deployed = upstreams.start(client, "locked", "CHAT_COMPLETION", "endless", "locked")
    assert "rekey locked" in upstreams.failed(client, deployed)

    key_file = front.home.parent / "key"
    key_file.write_text(f"{back.member_key}\n")
    front.cli("upstreams", "rekey", "locked", "--key-file", str(key_file))
    chain.until(lambda: client.get(deployed.path).json()["status"] == "READY" or None, "it is asked again")
    assert client.post(deployed.execute, json=HELLO).status_code == 200

    client.patch("/admin/upstreams/locked", json={"key": "sk-wrong-again"}).raise_for_status()
    refused = client.post(deployed.execute, json=HELLO)
    assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
    assert "rekey locked" in refused.json()["detail"]
    assert "rekey locked" in upstreams.failed(client, deployed)
    chain.remove(client, deployed)
    client.delete("/admin/upstreams/locked").raise_for_status()


def test_work_in_the_background_outlasts_a_restart_of_the_upstream(front: Server, client: httpx.Client) -> None:
    """What an upstream refuses while it starts is asked for again; a caller who waits is told when to try again."""
    with running_fake() as fake:
        upstreams.add(client, "starting", fake.base_url.replace("127.0.0.1", "localhost"))
        deployed = upstreams.deploy(client, "starting", "CHAT_COMPLETION", MODEL, "starting")
        starts = say(503, {"detail": "starting"}, retry_after="1")
        answers = [starts, starts, starts]
        whole = stream(said("there"), said(None, "stop"), DONE)
        fake.answers["/v1/chat/completions"] = lambda exchange: (answers.pop() if answers else whole)(exchange)

        refused = client.post(deployed.execute, json=HELLO)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        where = {"model_endpoint_id": deployed.deployment_id}
        task = client.post("/v1/async-tasks", params=where, json={"args": HELLO}).raise_for_status().json()["task_id"]
        line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "starting", **HELLO}}
        form = {"file": ("lines.jsonl", json.dumps(line).encode())}
        file = client.post("/v1/files", files=form, data={"purpose": "batch"}).raise_for_status().json()
        body = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
        batch = client.post("/v1/batches", json=body).raise_for_status().json()["id"]

        def ended(path: str, final: set[str]) -> dict[str, Any]:
            def look() -> dict[str, Any] | None:
                found: dict[str, Any] = client.get(path).raise_for_status().json()
                return found if found["status"] in final else None

            return chain.until(look, f"{path} ends")

        assert ended(f"/v1/async-tasks/{task}", {"SUCCESS", "FAILURE"})["status"] == "SUCCESS"
        counts = ended(f"/v1/batches/{batch}", {"completed", "failed"})["request_counts"]
        assert counts == {"total": 1, "completed": 1, "failed": 0}
        assert not answers
        chain.remove(client, deployed)
    client.delete("/admin/upstreams/starting").raise_for_status()


# --- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_upstream(front: Server, back: Server, remote: Deployed, stream: bool) -> None:
    """Who leaves the one in front in the middle of an answer frees the slot of the one behind, and both log it."""
    body = {"model": "far", "messages": HELLO["messages"], "stream": stream}
    with front.client() as client:
        before = len(chain.calls_of(client, remote))
        with httpx.Client(base_url=front.url, headers={"x-api-key": front.member_key}, timeout=60) as leaving:
            if stream:
                with leaving.stream("POST", "/v1/chat/completions", json=body) as answer:
                    pieces = answer.iter_raw()  # kept: an iterator that is dropped takes the connection with it
                    next(pieces)
                    chain.until(lambda: back_resident(back)["leases"] == 1, "the upstream answers")
            else:
                with pytest.raises(httpx.ReadTimeout):
                    leaving.post("/v1/chat/completions", json=body, timeout=2)
        chain.until(lambda: back_resident(back)["leases"] == 0, "the upstream's slot is free")
        chain.until(lambda: len(chain.calls_of(client, remote)) > before, "the call is logged in front")
        assert chain.calls_of(client, remote)[0]["finish_reason"] == "cancelled"
        assert chain.resident_of(client, remote)["leases"] == 0  # type: ignore[index]
    with back.client() as client:
        deployment = back_resident(back)["deployment_id"]
        (call, *_) = client.get(f"/admin/deployments/{deployment}/calls").json()
        assert call["finish_reason"] == "cancelled"


# --- an upstream that is wrong ---------------------------------------------------------------------------------------


def test_a_hostile_upstream_through_the_whole_chain(tmp_path: Path) -> None:
    """Whatever an upstream sends, a caller gets an error of ours and never a 500, and the server serves on."""
    with running_fake() as fake, running_server(tmp_path / "home", APPLIANCE_UPSTREAM_HOSTS=fake.host) as server:
        with server.client() as client:
            upstreams.add(client, "fake", fake.base_url, key="sk-fake-key")
            deployed = upstreams.deploy(
                client, "fake", "CHAT_COMPLETION", MODEL, "fake", parameters={"timeout_seconds": 0.5}
            )
            wrong = {
                "a key that is sent back": (say(400, {"error": {"message": "bad sk-fake-key"}}), 400),
                "busy": (say(429, {}, retry_after="3"), 429),
                "broken": (say(500, {"error": "sk-fake-key"}), 503),
                "nothing": (without_end(b": \n\n", pause_seconds=0.01), 503),
                "no news": (without_end(b"data: {}\n\n", pause_seconds=0.01), 503),
                "no stream": (say(200, said("a")), 503),
            }
            for what, (answer, status) in wrong.items():
                fake.answers["/v1/chat/completions"] = answer
                for path, body in ((deployed.execute, HELLO), ("/v1/chat/completions", {**HELLO, "model": "fake"})):
                    got = client.post(path, json=body)
                    assert got.status_code == status, (what, got.text)
                    assert "sk-fake-key" not in got.text
                    assert "'fake'" in got.json()["detail"]
            logged = chain.calls_of(client, deployed)
            assert len(logged) == 2 * len(wrong)
            assert {call["error_code"] for call in logged} == {"invalid_request", "busy", "not_ready"}
            assert client.get("/livez").status_code == 200
        assert "incident" not in server.log()
        assert "sk-fake-key" not in server.log()


def test_a_failure_before_the_first_delta_of_a_stream(tmp_path: Path) -> None:
    """In every dialect that streams it is a status and a JSON body, and the call is logged as failed."""
    with (
        running_fake() as fake,
        running_server(tmp_path / "home", APPLIANCE_UPSTREAM_HOSTS=fake.host) as server,
        server.client() as client,
    ):
        upstreams.add(client, "fake", fake.base_url)
        deployed = upstreams.deploy(client, "fake", "CHAT_COMPLETION", MODEL, "fake")
        for asked in ("/v1/chat/completions", "/v1/completions"):
            fake.answers[asked] = say(400, {"error": {"message": "not this"}})
        chat, prompt, named = {"messages": HELLO["messages"]}, {"prompt": "hello"}, {"model": "fake", "stream": True}
        bodies: dict[str, dict[str, object]] = {
            "/v1/chat/completions": named | chat,
            "/v1/completions": named | prompt,
            "/v1/responses": named | {"input": "hello"},
            "/v1/messages": named | chat | {"max_tokens": 2},
            "/api/chat": named | chat,
            "/api/generate": named | prompt,
            "/v2/completions": named | prompt,
            "/egp/v1/chat-completions": named | chat,
            "/v4/completions": named | prompt,
            "/v4/chat-completions": named | chat,
            "/v4/beta/chat/completions": named | chat,
            f"/v4/models/{deployed.deployment_id}/chat-completions": {"stream": True, "chat_history": [], **prompt},
            deployed.execute.replace("/v3", "/v4"): {"stream": True, **chat},
            "/v5/completions": named | prompt,
            "/v5/inference": {"model": "fake", "args": {"stream": True, **chat}},
        }
        for path, body in bodies.items():
            answer = client.post(path, json=body)
            assert answer.status_code == 400, (path, answer.text)
            assert "not this" in answer.json()["detail"], path

        logged = chain.calls_of(client, deployed)
        assert {(call["error_code"], call["finish_reason"]) for call in logged} == {("invalid_request", None)}
        assert len(logged) == len(bodies)


def test_a_failure_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    """What fails after the first byte is an error event, and the call is logged as failed."""

    def breaks_off(exchange: Exchange) -> None:
        exchange.head(content_type="text/event-stream")
        exchange.write(b"data: " + json.dumps(said("Hello")).encode() + b"\n\n")

    with (
        running_fake() as fake,
        running_server(tmp_path / "home", APPLIANCE_UPSTREAM_HOSTS=fake.host) as server,
        server.client() as client,
    ):
        upstreams.add(client, "fake", fake.base_url)
        deployed = upstreams.deploy(client, "fake", "CHAT_COMPLETION", MODEL, "fake")
        fake.answers["/v1/chat/completions"] = breaks_off
        body = {**HELLO, "model": "fake", "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            text = "".join(answer.iter_text())

        assert "Hello" in text
        assert "event: error" in text
        assert "broke off" in text
        assert chain.calls_of(client, deployed)[0]["error_code"] == "not_ready"


# --- stops and starts; last, because they take the upstream away ---------------------------------------------------


def test_an_upstream_killed_in_the_middle_of_an_answer(front: Server, back: Server, remote: Deployed) -> None:
    """The caller's stream ends with an error event that says so, and the next start is found by itself."""
    port = urlsplit(back.url).port or 0
    body = {"model": "far", "messages": HELLO["messages"], "stream": True}
    with front.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            pieces = answer.iter_text()
            next(pieces)
            back.stop(signal.SIGKILL)
            rest = "".join(pieces)
        assert "event: error" in rest
        assert "'back' cannot be reached" in rest
        assert chain.calls_of(client, remote)[0]["error_code"] == "not_ready"
        back.start(port)
        chain.until(lambda: client.post(remote.execute, json=HELLO).status_code == 200, "the upstream is back")


def test_the_front_restarts_without_its_upstream(front: Server, back: Server, remote: Deployed) -> None:
    """An upstream that stops is said in answers and in the status; when it is back, READY comes by itself."""
    port = urlsplit(back.url).port or 0
    back.stop()
    with front.client() as client:
        refused = client.post(remote.execute, json=HELLO)
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert "'back' cannot be reached" in refused.json()["detail"]
        assert "cannot be reached" in upstreams.failed(client, remote)

    front.stop()
    front.start()
    with front.client() as client:
        assert "cannot be reached" in upstreams.failed(client, remote)
        back.start(port)
        chain.until(lambda: client.get(remote.path).json()["status"] == "READY" or None, "the upstream is back")
        assert client.post(remote.execute, json=HELLO).status_code == 200


def test_a_host_that_is_no_longer_allowed(front: Server, remote: Deployed) -> None:
    """Taking the host out of the configuration ends the deployment with the line that would allow it again."""
    allowed = front.environment["APPLIANCE_UPSTREAM_HOSTS"]
    front.stop()
    front.environment["APPLIANCE_UPSTREAM_HOSTS"] = ""
    front.start()
    try:
        with front.client() as client:
            assert "upstream_hosts" in upstreams.failed(client, remote)
            assert client.post(remote.execute, json=HELLO).status_code in {404, 503}
    finally:
        front.stop()
        front.environment["APPLIANCE_UPSTREAM_HOSTS"] = allowed
        front.start()
    with front.client() as client:
        chain.until(lambda: client.get(remote.path).json()["status"] == "READY" or None, "it is allowed again")
