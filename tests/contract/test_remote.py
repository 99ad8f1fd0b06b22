"""An appliance behind an appliance: what one serves, another offers as its own, with the same answers and counts.

``server`` is the upstream. ``front`` is a second process on a home of its own, which reaches it as any
OpenAI-compatible endpoint, with a member's key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from scale_egp.sdk.client import EGPClient
from scale_egp.sdk.enums import ModelType, ModelVendor
from scale_egp.sdk.types.models import EmbeddingRequest

from tests.contract.conftest import CallLog, MakeV5, Starters, name_of_its_own, settled, settled_v5, v5_client
from tests.support import chain, upstreams
from tests.support.chain import Deployed
from tests.support.server import Server, running_server

COUNTS = ("prompt_tokens", "response_tokens", "finish_reason", "error_code")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Look up the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Oslo?"}]


class Front(NamedTuple):
    """The second appliance and its remote deployments."""

    server: Server
    chat: Deployed
    text: Deployed
    agent: Deployed
    embed: Deployed
    rerank: Deployed


@pytest.fixture(scope="module")
def front(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """An appliance without weights of its own for these models: each runs at the other one."""
    home = tmp_path_factory.mktemp("front") / "home"
    host = httpx.URL(server.url).netloc.decode()
    with running_server(home, APPLIANCE_UPSTREAM_HOSTS=host) as running, running.client() as client:
        upstreams.add(client, "back", f"{server.url}/v1", key=server.member_key)
        yield Front(
            running,
            chat=upstreams.deploy(client, "r-chat", "CHAT_COMPLETION", "starter-chat", "back"),
            text=upstreams.deploy(client, "r-text", "COMPLETION", "starter-chat", "back"),
            agent=upstreams.deploy(client, "r-agent", "AGENT", "starter-chat", "back"),
            embed=upstreams.deploy(client, "r-embed", "EMBEDDING", "starter-embed", "back"),
            rerank=upstreams.deploy(client, "r-rerank", "RERANKING", "starter-rerank", "back"),
        )


@pytest.fixture
def there(front: Front) -> Iterator[httpx.Client]:
    """A client of the second appliance, with a member's key."""
    with front.server.client(front.server.member_key) as client:
        yield client


@pytest.fixture
def there_openai(front: Front) -> Iterator[openai.OpenAI]:
    """The official OpenAI client at the second appliance."""
    with openai.OpenAI(base_url=f"{front.server.url}/v1", api_key=front.server.member_key, max_retries=0) as client:
        yield client


def newest(client: httpx.Client, deployment_id: str) -> dict[str, Any]:
    """Counts of the newest call."""
    found = CallLog(client).of(deployment_id)[0]
    return {name: found[name] for name in COUNTS}


def same_counts(admin: httpx.Client, front: Front, of: Deployed, back_id: str) -> dict[str, Any]:
    """The newest call is logged on both sides with the same counts, which this returns."""
    with front.server.client() as client:
        here = newest(client, of.deployment_id)
    assert here == newest(admin, back_id)
    return here


# --- the five model types over v3 --------------------------------------------------------------------------------


def test_completion(there: httpx.Client, admin: httpx.Client, front: Front, starters: Starters) -> None:
    """COMPLETION: the text that the upstream gives for the same prompt, its tokens on both logs."""
    asked = {"prompt": "The appliance", "max_tokens": 8, "temperature": 0}
    direct = settled(lambda: admin.post("/v1/completions", json={"model": "starter-chat", **asked}).json())
    body = {"prompts": [asked["prompt"]], "max_tokens": 8, "temperature": 0}
    answer = there.post(front.text.execute, json=body).raise_for_status().json()

    assert answer["completions"] == [[asked["prompt"], [direct["choices"][0]["text"]]]]
    assert answer["response_tokens"] == direct["usage"]["completion_tokens"] > 0
    assert answer["prompt_tokens"] == direct["usage"]["prompt_tokens"] > 0
    assert same_counts(admin, front, front.text, starters.chat)["response_tokens"] == answer["response_tokens"]


def test_chat(there: httpx.Client, admin: httpx.Client, front: Front, starters: Starters) -> None:
    """CHAT_COMPLETION: the upstream's words."""
    messages = [{"role": "user", "content": "Hello, what can you do?"}]
    asked = {"messages": messages, "max_tokens": 12, "temperature": 0}
    direct = settled(lambda: admin.post("/v1/chat/completions", json={"model": "starter-chat", **asked}).json())
    answer = there.post(front.chat.execute, json=asked).raise_for_status().json()

    assert answer["message"]["content"] == direct["choices"][0]["message"]["content"]
    assert answer["finish_reason"] == direct["choices"][0]["finish_reason"]
    assert same_counts(admin, front, front.chat, starters.chat)["prompt_tokens"] > 0


def test_agent(there: httpx.Client, admin: httpx.Client, front: Front, starters: Starters) -> None:
    """AGENT: one step with a tool, and one with the tool's answer, which v3 gives without ids."""
    city = {"type": "string", "description": "a city"}
    tool = {
        "name": "get_weather",
        "description": "Look up the weather of a city",
        "arguments": {"type": "object", "properties": {"city": city}},
    }
    wanted = {"role": "agent", "tool_request": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    told = {"role": "tool", "name": "get_weather", "content": "rain"}
    counts = []
    for turns in (ASK_WEATHER, [*ASK_WEATHER, wanted, told]):
        answer = there.post(front.agent.execute, json={"messages": turns, "tools": [tool]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["action"] in {"content", "tool_request"}
        counts.append(same_counts(admin, front, front.agent, starters.chat)["prompt_tokens"])
    assert 0 < counts[0] < counts[1]


def test_embedding(there: httpx.Client, admin: httpx.Client, front: Front, starters: Starters) -> None:
    """EMBEDDING: the same vectors in the same order."""
    texts = ["weights are stored by digest", "rain", ""]
    direct = admin.post("/v1/embeddings", json={"model": "starter-embed", "input": texts}).json()
    answer = there.post(front.embed.execute, json={"texts": texts}).raise_for_status().json()

    for (text, vector), expected, entry in zip(answer["embeddings"], texts, direct["data"], strict=True):
        assert text == expected
        assert vector == pytest.approx(entry["embedding"], abs=1e-4)
    assert answer["tokens_used"] == direct["usage"]["prompt_tokens"] > 0
    same_counts(admin, front, front.embed, starters.embed)


def test_reranking(there: httpx.Client, admin: httpx.Client, front: Front, starters: Starters) -> None:
    """RERANKING: a score for each chunk in the chunks' order."""
    chunks = ["Only admins change templates.", "It rains.", "Weights are stored by digest."]
    answer = there.post(front.rerank.execute, json={"query": "who changes templates?", "chunks": chunks})
    body = {"model": "starter-rerank", "query": "who changes templates?", "documents": chunks}
    direct = admin.post("/v1/rerank", json=body).json()
    scores = {entry["index"]: entry["relevance_score"] for entry in direct["results"]}

    assert answer.json()["chunk_scores"] == pytest.approx([scores[0], scores[1], scores[2]], abs=1e-4)
    assert answer.json()["tokens_used"] == direct["usage"]["prompt_tokens"]
    same_counts(admin, front, front.rerank, starters.rerank)


# --- the OpenAI dialect, streaming -----------------------------------------------------------------------------------


def test_streamed_chat(there_openai: openai.OpenAI, admin: httpx.Client, front: Front, starters: Starters) -> None:
    """Pieces come one by one through both, and add up to the whole answer with its usage."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 12, "temperature": 0}
    whole = settled(lambda: there_openai.chat.completions.create(model="r-chat", **asked))
    chunks = list(
        there_openai.chat.completions.create(
            model="r-chat", stream=True, stream_options={"include_usage": True}, **asked
        )
    )
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]

    assert len(pieces) > 1
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert same_counts(admin, front, front.chat, starters.chat)["finish_reason"] in {"stop", "length"}


def test_streamed_completion(there: httpx.Client, front: Front) -> None:
    """``/v2/completions`` streams a remote model by its name, and its last event has the counts."""
    body = {"model": "r-chat", "prompt": "Hello!", "stream": True, "model_parameters": {"max_tokens": 6}}
    with there.stream("POST", "/v2/completions", json=body) as answer:
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]

    assert "".join(e["completion"]["text"] for e in events)
    assert events[-1]["token_usage"]["completion"] == 6 or events[-1]["completion"]["finish_reason"] == "stop"


def test_the_vocabulary_is_the_upstreams(there: httpx.Client) -> None:
    """Tokens of a model elsewhere cannot be told here, and that is said."""
    refused = there.post("/v1/tokenize", json={"model": "r-chat", "prompt": "hello"})
    assert refused.status_code == 400
    assert "upstream" in refused.json()["detail"]


def test_a_response_over_an_upstream(there_openai: openai.OpenAI) -> None:
    """Items and events are made here: an upstream needs to know chat completions only."""
    asked: dict[str, Any] = {"model": "r-chat", "input": "Hello", "temperature": 0, "max_output_tokens": 12}
    whole = there_openai.responses.create(**asked)
    assert whole.output_text
    with there_openai.responses.create(**asked, stream=True) as stream:
        last = list(stream)[-1]
    assert last.type in {"response.completed", "response.incomplete"}


def test_tools_streamed_and_whole(there_openai: openai.OpenAI) -> None:
    """A required call arrives as a tool call, streamed or not."""
    asked: dict[str, Any] = {"messages": ASK_WEATHER, "tools": [TOOL], "tool_choice": "required", "temperature": 0}
    whole = there_openai.chat.completions.create(model="r-chat", **asked)
    chunks = list(there_openai.chat.completions.create(model="r-chat", stream=True, **asked))

    (call,) = whole.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert whole.choices[0].finish_reason == "tool_calls"
    streamed = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
    assert [c.function and c.function.name for c in streamed] == ["get_weather"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_json_under_a_schema(there_openai: openai.OpenAI) -> None:
    """A constraint on the answer is carried and holds."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    asked: dict[str, Any] = {
        "messages": [{"role": "user", "content": "yes or no?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}},
        "max_tokens": 40,
    }
    answer = there_openai.chat.completions.create(model="r-chat", **asked)
    assert set(json.loads(answer.choices[0].message.content or "")) == {"ok"}


def test_logprobs_several_choices_and_token_ids(there_openai: openai.OpenAI, admin: httpx.Client) -> None:
    """Logprobs, choices, prompts of token ids and a bias on tokens reach the upstream and come back as from it."""
    asked: dict[str, Any] = {"prompt": [5, 6, 7], "max_tokens": 3, "temperature": 0, "logprobs": 2, "n": 2}
    asked["logit_bias"] = {"11": 100}
    answer = there_openai.completions.create(model="r-text", **asked).model_dump()
    direct = admin.post("/v1/completions", json={"model": "starter-chat", **asked}).json()

    for mine, theirs in zip(answer["choices"], direct["choices"], strict=True):
        assert mine["text"] == theirs["text"]
        assert mine["logprobs"]["tokens"] == theirs["logprobs"]["tokens"]
        assert mine["logprobs"]["token_logprobs"] == pytest.approx(theirs["logprobs"]["token_logprobs"], abs=0.3)
        assert len(mine["logprobs"]["top_logprobs"][0]) == len(theirs["logprobs"]["top_logprobs"][0])

    chat = there_openai.chat.completions.create(
        model="r-chat", messages=[{"role": "user", "content": "Hi"}], max_tokens=2, logprobs=True, top_logprobs=3
    )
    assert chat.choices[0].logprobs is not None
    assert chat.choices[0].logprobs.content is not None
    assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 3


def test_v3_request_parameters(there: httpx.Client, front: Front) -> None:
    """A remote model offers the sampling parameters of a local one; others are refused by name."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    fine = there.post(front.chat.execute, json={**body, "model_request_parameters": {"bindings": {"top_k": "1"}}})
    wrong = there.post(front.chat.execute, json={**body, "model_request_parameters": {"bindings": {"mirostat": 1}}})

    assert fine.status_code == 200, fine.text
    assert wrong.status_code == 422
    assert "mirostat" in wrong.json()["detail"]


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_request_the_upstream_refuses(there: httpx.Client) -> None:
    """Too long a prompt is a 400 with the upstream's words and numbers, streamed or not."""
    for stream in (False, True):
        body = {"model": "r-text", "prompt": "the " * 50_000, "max_tokens": 1, "stream": stream}
        answer = there.post("/v1/completions", json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["code"] == "invalid_request"
        assert "'back'" in answer.json()["detail"]
        assert "tokens" in answer.json()["detail"]


def test_no_memory_is_taken(front: Front) -> None:
    """A remote deployment is ready, elsewhere, and takes no byte of this machine's budget."""
    state = front.server.state()
    mine = [r for r in state["residents"] if r["deployment_id"] == front.chat.deployment_id]

    assert [(r["state"], r["device"], r["predicted_bytes"]) for r in mine] == [("READY", "remote", 0)]


def test_the_key_is_nowhere(front: Front, server: Server) -> None:
    """Neither answers nor logs nor files of the home hold the upstream's key, and the vault is the owner's alone."""
    with front.server.client() as client:
        listed = client.get("/admin/upstreams").raise_for_status()
        assert listed.json()[0]["has_key"] is True
        assert "r-chat" in listed.json()[0]["used_by"]
        everything = listed.text + client.get("/admin/state").text + front.server.log()
    everything += front.server.cli("upstreams", "list", "--json") + front.server.cli("upstreams", "list")
    assert server.member_key not in everything
    for path in front.server.home.glob("*"):
        if path.is_file():
            assert server.member_key.encode() not in path.read_bytes(), path.name
    assert (front.server.home / "vault.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("connect")  # closes what the client opens
def test_the_official_client_makes_one(front: Front) -> None:
    """scale-egp creates a model of an external vendor without a template, deploys it and executes it."""
    egp = EGPClient(api_key=front.server.member_key, endpoint_url=front.server.url)
    model = egp.models().create(
        name_of_its_own("model"),
        ModelType.EMBEDDING,
        model_vendor=ModelVendor.OTHER,
        base_model_id="starter-embed",
    )
    made = egp.models().deployments().create(model, name_of_its_own("deployment"), {"upstream": "back"})
    answer = egp.models().deployments().execute(made.id, model, EmbeddingRequest(texts=["hello"]))

    assert len(answer.embeddings[0][1]) == 384
    egp.models().deployments().delete(made.id, model)
    egp.models().delete(model.id)


def test_a_local_deployment_outgrows_the_machine(front: Front) -> None:
    """A swap moves a deployment from weights of this machine to the upstream and back; callers see one name."""
    asked = {"model": "grows", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    with front.server.client() as client:
        local = chain.deploy(client, chain.CHAT, "starter-chat", "grows")
        for model_id, device in ((front.chat.model_id, "remote"), (local.model_id, "cpu")):
            swap = client.post(f"/admin/deployments/{local.deployment_id}/swap", json={"model_id": model_id})
            assert swap.status_code == 200, swap.text
            assert client.post("/v1/chat/completions", json=asked).status_code == 200
            chain.until(lambda device=device: only_device(client, local) == device, f"it runs on {device}")
        chain.remove(client, local)


def only_device(client: httpx.Client, deployed: Deployed) -> str | None:
    """Where the deployment's only engine runs; None while there are two."""
    residents = client.get("/admin/state").json()["residents"]
    devices = [r["device"] for r in residents if r["deployment_id"] == deployed.deployment_id]
    return devices[0] if len(devices) == 1 else None


def test_a_plan_of_no_bytes(front: Front) -> None:
    """What a call would do to memory: nothing, however often it was loaded before."""
    with front.server.client() as client:
        plan = client.post("/admin/plan", json={"deployment": "r-embed"}).raise_for_status().json()
        imagined = client.post("/admin/plan", json={"model_id": front.embed.model_id}).raise_for_status().json()
    assert plan["outcome"] == "serves"
    assert (imagined["outcome"], imagined["total_bytes"], imagined["learned"]) == ("loads", 0, False)


def test_other_dialects_reach_the_upstream_too(there: httpx.Client, front: Front) -> None:
    """A remote model answers in Anthropic's and in Ollama's shape; what cannot be carried there is refused."""
    tool = TOOL["function"]
    messages = {
        "model": front.chat.name,
        "max_tokens": 100,
        "messages": ASK_WEATHER,
        "temperature": 0,
        "tools": [{"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}],
        "tool_choice": {"type": "any"},
    }
    answer = there.post("/v1/messages", json=messages).raise_for_status().json()
    assert (answer["content"][0]["type"], answer["content"][0]["name"]) == ("tool_use", "get_weather")
    begun = [*ASK_WEATHER, {"role": "assistant", "content": "It is"}]
    refused = there.post("/v1/messages", json={"model": front.chat.name, "max_tokens": 9, "messages": begun})
    assert (refused.status_code, "cannot go on" in refused.json()["error"]["message"]) == (400, True)

    chat = {"model": front.chat.name, "messages": ASK_WEATHER, "stream": False, "options": {"num_predict": 8}}
    told = there.post("/api/chat", json=chat).raise_for_status().json()
    assert told["eval_count"] == newest(there, front.chat.deployment_id)["response_tokens"]
    bounded = there.post("/api/chat", json={**chat, "options": {"num_ctx": 100}})
    assert (bounded.status_code, "together" in bounded.json()["error"]) == (400, True)
    assert f"{front.chat.name}:latest" in [m["name"] for m in there.get("/api/tags").json()["models"]]


# --- v5 --------------------------------------------------------------------------------------------------------------


def test_a_model_that_an_external_vendor_serves(make_v5: MakeV5, server: Server, front: Front) -> None:
    """v5 makes one in one call: it runs at the upstream of its vendor, under the name that it has there, and is shown
    with that vendor; the other dialects, whose clients do not know the vendor, call it OTHER."""
    name = make_v5().name
    account = httpx.get(f"{front.server.url}/user-info", headers={"x-api-key": front.server.member_key}).json()
    with front.server.client() as client:
        upstreams.add(client, "v5", f"{server.url}/v1/", key=server.member_key, vendor="XAI")
    with v5_client(front.server, front.server.member_key, account["access_profiles"][0]["account"]["id"]) as v5:
        body: Any = {"name": name, "model_vendor": "xai", "model_type": "chat_completion"}
        made = v5.models.create(model={**body, "model_metadata": {"a": 1}})
        ready = settled_v5(v5, made.id)
        assert (ready.status, ready.api_model_vendor, ready.vendor_configuration) == ("ready", "xai", None)
        answer: Any = v5.chat.completions.create(
            model=f"xai/{name}", messages=[{"role": "user", "content": "Hello"}], max_tokens=2
        )
        assert answer.usage.completion_tokens > 0
        assert v5.models.create(model={**body, "on_conflict": "update"}).metadata == {"a": 1}
        assert [model.name for model in v5.models.list(model_vendor="xai")] == [name]
        with front.server.client() as client:
            listed = {m["name"]: m for m in client.get("/v4/models").json()["items"]}
            assert listed[name]["model_vendor"] == "OTHER"
        with pytest.raises(Exception, match="launch and llmengine"):
            v5.models.update(made.id, model={"vendor_configuration": {"gpus": 1}})
        v5.models.delete(made.id)


# --- upstreams -------------------------------------------------------------------------------------------------------


def test_an_upstream_comes_and_goes(front: Front, server: Server) -> None:
    """It is added without its key being shown, given another, and removed as long as nothing runs there."""
    with front.server.client() as client:
        body = {"name": "spare", "base_url": f"{server.url}/v1", "key": "first", "vendor": "COHERE"}
        made = client.post("/admin/upstreams", json=body).raise_for_status()
        assert (made.json()["has_key"], made.json()["used_by"]) == (True, [])
        assert "first" not in made.text
        rekeyed = client.patch("/admin/upstreams/spare", json={"key": None}).raise_for_status().json()
        assert rekeyed["has_key"] is False
        assert client.delete("/admin/upstreams/spare").raise_for_status().json() == {"count": 1, "success": True}
        assert "spare" not in [upstream["name"] for upstream in client.get("/admin/upstreams").json()]
        assert client.delete("/admin/upstreams/back").status_code == 409
