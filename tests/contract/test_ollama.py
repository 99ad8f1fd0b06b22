"""The ``ollama`` client against ``/api``: lists, chats, prompts, tools, formats, vectors, residency, errors; and what
Open WebUI, Continue, LangChain and Home Assistant send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import ollama
import pytest
from ollama import AsyncClient, Client, ResponseError

from tests.contract.conftest import CallLog, Starters, settled
from tests.support import chain
from tests.support.server import Server
from tests.support.tiny_models import write_llama

CHAT, EMBED, RERANK = "starter-chat", "starter-embed", "starter-rerank"
QUESTION: Any = [{"role": "user", "content": "Hello, what can you do?"}]
IN_OSLO: Any = [{"role": "user", "content": "Get the weather in Oslo."}]
GREEDY: Any = {"temperature": 0, "num_predict": 48}
CITY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 24}},
    "required": ["city"],
}


def headers_of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """The official client with a member's key."""
    with Client(host=server.url, headers=headers_of(server.member_key)) as made:
        yield made


def get_weather(city: str) -> str:
    """Get the weather for a city.

    Args:
        city: which city
    """
    return json.dumps({"degrees": 4, "city": city})


# --- what is there ---------------------------------------------------------------------------------------------------


def test_clients_find_out_that_they_are_understood(server: Server, member: httpx.Client) -> None:
    """``GET /`` says the words that they look for, ``HEAD /`` is 200, both without a key; the version is one that
    clients can compare."""
    assert httpx.get(server.url).text == "Ollama is running"
    probed = httpx.head(server.url)
    assert (probed.status_code, probed.content) == (200, b"")
    assert [int(part) for part in member.get("/api/version").json()["version"].split(".")] >= [0, 6, 4]


@pytest.mark.parametrize("path", ["/api/tags", "/api/version", "/api/ps", "//api/tags", "//v3/models", "/.//v3/models"])
def test_only_the_greeting_needs_no_key(path: str, server: Server) -> None:
    """Everything else wants one, however its path is written."""
    with httpx.Client(base_url=server.url) as stranger:
        assert stranger.get(httpx.URL(server.url + path)).status_code in {401, 404}


def test_what_can_be_called_is_listed_with_a_tag(client: Client) -> None:
    """Each model with its header's facts; names end in ``:latest``, because clients take them apart there."""
    listed = {model.model: model for model in client.list().models}
    assert {f"{CHAT}:latest", f"{EMBED}:latest"} <= set(listed)
    assert f"{RERANK}:latest" not in listed
    chat = listed[f"{CHAT}:latest"]
    assert chat.details is not None
    assert (chat.details.format, chat.details.family, chat.details.quantization_level) == ("gguf", "llama", "Q8_0")
    assert chat.details.parameter_size == "5.0M"
    assert chat.size
    assert len(chat.digest or "") == 64


def test_a_model_can_be_shown(client: Client) -> None:
    """Its template, licence, what it can do, and how many tokens a request may use."""
    shown = client.show(f"{CHAT}:latest")
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["llama.context_length"] == 2048
    assert "num_ctx" in (shown.parameters or "")
    assert "<|im_start|>" in (shown.template or "")
    assert client.show(EMBED).capabilities == ["embedding"]


def test_a_model_that_thinks_says_so(client: Client, server: Server, admin: httpx.Client) -> None:
    """By its chat template; no other can be told to think. One without a template takes prompts as they are."""
    folder = server.home / "import"
    for name, template in (
        ("ollama-thinks", "{{ enable_thinking }}{{ messages[-1].content }}"),
        ("ollama-plain", None),
    ):
        chain.import_weights(admin, write_llama(folder / f"{name}.gguf", chat_template=template), name)
    thinks = chain.deploy(admin, chain.CHAT, "ollama-thinks", "contract-ollama-thinks")
    plain = chain.deploy(admin, chain.CHAT, "ollama-plain", "contract-ollama-plain")
    try:
        assert client.show(thinks.name).capabilities == ["completion", "tools", "thinking"]
        short: Any = {"num_predict": 1}
        told, not_told = (client.chat(thinks.name, QUESTION, options=short, think=think) for think in (True, None))
        assert (told.prompt_eval_count or 0) > (not_told.prompt_eval_count or 0)
        assert client.show(plain.name).capabilities == ["completion", "tools"]
        raw, as_it_is = (client.generate(plain.name, "xyz", raw=raw, options=short) for raw in (True, False))
        assert raw.prompt_eval_count == as_it_is.prompt_eval_count
    finally:
        for deployed in (thinks, plain):
            chain.remove(admin, deployed)
            admin.delete(f"/admin/artifacts/{deployed.name.removeprefix('contract-')}").raise_for_status()


# --- chat ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CHAT, f"{CHAT}:latest"])
def test_a_chat_is_counted_timed_and_logged(name: str, client: Client, calls: CallLog, starters: Starters) -> None:
    """The answer's counts are those of the call log, its times nanoseconds, and its name the one that was asked for."""
    with calls.one_more(starters.chat) as logged:
        answer = client.chat(name, QUESTION, options=GREEDY)
    assert answer.model == name
    assert (answer.message.role, answer.done, answer.done_reason) == ("assistant", True, "stop")
    assert answer.message.content
    assert (answer.prompt_eval_count, answer.eval_count) == (logged["prompt_tokens"], logged["response_tokens"])
    assert answer.eval_duration == pytest.approx(logged["decode_milliseconds"] * 1e6, rel=0.01)
    assert (answer.total_duration or 0) >= (answer.eval_duration or 0) > 0
    assert (logged["dialect"], logged["model_type"]) == ("ollama", "CHAT_COMPLETION")


def test_a_streamed_chat_equals_the_whole_one(client: Client, calls: CallLog, starters: Starters) -> None:
    """Pieces joined are the whole answer; the last line alone is done, has no text, and carries the logged counts."""
    whole = settled(lambda: client.chat(CHAT, QUESTION, options=GREEDY))
    with calls.one_more(starters.chat) as logged:
        *pieces, last = list(client.chat(CHAT, QUESTION, options=GREEDY, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert not any(piece.done for piece in pieces)
    assert (last.done, last.done_reason, last.message.content) == (True, whole.done_reason, "")
    assert (last.prompt_eval_count, last.eval_count) == (logged["prompt_tokens"], logged["response_tokens"])


async def test_the_asynchronous_client(server: Server) -> None:
    """It lists, chats and streams the same."""
    client = AsyncClient(host=server.url, headers=headers_of(server.member_key))
    async with client:
        assert (await client.list()).models
        whole = await client.chat(CHAT, QUESTION, options=GREEDY)
        stream = await client.chat(CHAT, QUESTION, options=GREEDY, stream=True)
        pieces = [piece async for piece in stream]
        vectors = await client.embed(EMBED, ["hello"])
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert len(vectors.embeddings) == 1


def test_lines_byte_by_byte(member: httpx.Client) -> None:
    """Without ``stream`` the answer comes as JSON objects, one a line; with false as one object."""
    body = {"model": CHAT, "messages": QUESTION, "options": GREEDY}
    streamed = member.post("/api/chat", json=body)
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert streamed.text.endswith("}\n")
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    assert all({"model", "created_at", "message", "done"} <= set(line) for line in lines)
    whole = member.post("/api/chat", json={**body, "stream": False})
    assert whole.headers["content-type"].startswith("application/json")
    assert whole.json()["message"]["content"] == "".join(line["message"]["content"] for line in lines)


def test_options_are_honoured(client: Client) -> None:
    """Limits, stop texts, seeds, and a context that leaves no room."""
    limited = client.chat(CHAT, QUESTION, options={"num_predict": 3, "temperature": 0})
    assert (limited.eval_count, limited.done_reason) == (3, "length")
    whole = settled(lambda: client.chat(CHAT, QUESTION, options=GREEDY)).message.content or ""
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    assert client.chat(CHAT, QUESTION, options={**GREEDY, "stop": [stop]}).message.content == whole.split(stop)[0]
    seeded = {"temperature": 1.5, "seed": 4, "num_predict": 12}
    first = settled(lambda: client.generate(CHAT, "Once", options=seeded)).response
    assert client.generate(CHAT, "Once", options=seeded).response == first
    assert client.chat(CHAT, QUESTION, options={**GREEDY, "num_ctx": 32768}).message.content == whole
    bounded = client.chat(CHAT, QUESTION, options={"num_ctx": 20, "temperature": 0})
    assert (bounded.prompt_eval_count or 0) + (bounded.eval_count or 0) == 20
    with pytest.raises(ResponseError, match=r"allows for 4 .* 2048"):
        client.chat(CHAT, QUESTION, options={"num_ctx": 4})


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_a_prompt_is_answered_as_a_chat(client: Client, calls: CallLog, starters: Starters) -> None:
    """With the model's template around it; ``raw`` goes to the model as it is."""
    chat = settled(lambda: client.chat(CHAT, QUESTION, options=GREEDY))
    assert client.generate(CHAT, QUESTION[0]["content"], options=GREEDY).response == chat.message.content
    with calls.one_more(starters.chat) as logged:
        raw = client.generate(CHAT, QUESTION[0]["content"], raw=True, options={**GREEDY, "num_predict": 4})
    assert (raw.prompt_eval_count or 0) < (chat.prompt_eval_count or 0)
    assert (logged["dialect"], logged["model_type"]) == ("ollama", "COMPLETION")


def test_a_prompt_streams(client: Client) -> None:
    """Pieces joined are the whole response."""
    whole = settled(lambda: client.generate(CHAT, "Hello", system="Be brief.", options=GREEDY))
    pieces = list(client.generate(CHAT, "Hello", system="Be brief.", options=GREEDY, stream=True))
    assert "".join(piece.response or "" for piece in pieces) == whole.response
    assert [piece.done for piece in pieces].index(True) == len(pieces) - 1


def test_logprobs(client: Client) -> None:
    """Each token has its log probability and the likeliest others, whole and streamed."""
    options: Any = {"num_predict": 4, "temperature": 0}
    whole = client.generate(CHAT, "Hello", options=options, logprobs=True, top_logprobs=2)
    assert whole.logprobs is not None
    assert "".join(entry.token for entry in whole.logprobs) == whole.response
    assert all(entry.logprob <= 0 and len(entry.top_logprobs or ()) == 2 for entry in whole.logprobs)
    pieces = client.generate(CHAT, "Hello", options=options, logprobs=True, stream=True)
    assert len([entry for piece in pieces for entry in piece.logprobs or ()]) == 4


# --- tools and formats -----------------------------------------------------------------------------------------------


def test_a_round_trip_with_a_function(client: Client) -> None:
    """The client describes a Python function, the model calls it, and the result is answered in words."""
    asked = client.chat(CHAT, IN_OSLO, tools=[get_weather], options=GREEDY)
    (call,) = asked.message.tool_calls or ()
    assert (call.function.name, asked.done_reason) == ("get_weather", "stop")
    result = get_weather(**call.function.arguments)
    messages = [*IN_OSLO, asked.message, {"role": "tool", "tool_name": call.function.name, "content": result}]
    answer = client.chat(CHAT, messages, tools=[get_weather], options=GREEDY)
    assert answer.message.content


def test_a_call_streams_as_the_whole_one(client: Client) -> None:
    """In one piece with its arguments, equal to the call given at once."""
    whole = settled(lambda: client.chat(CHAT, IN_OSLO, tools=[get_weather], options=GREEDY)).message
    pieces = list(client.chat(CHAT, IN_OSLO, tools=[get_weather], options=GREEDY, stream=True))
    streamed = [call for piece in pieces for call in piece.message.tool_calls or ()]
    assert [c.function for c in streamed] == [c.function for c in whole.tool_calls or ()]


def test_an_answer_follows_a_format(client: Client) -> None:
    """``json`` gives a JSON object, a schema one that is valid under it, for chats and prompts."""
    chat = client.chat(CHAT, IN_OSLO, format=CITY_SCHEMA, options={"temperature": 0, "num_predict": 200})
    jsonschema.validate(json.loads(chat.message.content or ""), CITY_SCHEMA)
    prompt = client.generate(CHAT, "Oslo?", format=CITY_SCHEMA, options={"temperature": 0, "num_predict": 200})
    jsonschema.validate(json.loads(prompt.response or ""), CITY_SCHEMA)
    free = client.chat(CHAT, QUESTION, format="json", options=GREEDY).message.content or ""
    assert free.startswith("{")


# --- vectors ---------------------------------------------------------------------------------------------------------


def test_embeddings(client: Client, calls: CallLog, starters: Starters) -> None:
    """One vector of length 1 per text, cut on request; the older form has the vector of one text."""
    texts = ["a model group is a namespace", "bananas are yellow"]
    with calls.one_more(starters.embed) as logged:
        found = client.embed(EMBED, texts)
    assert [len(vector) for vector in found.embeddings] == [384, 384]
    assert all(sum(x * x for x in vector) == pytest.approx(1, abs=1e-4) for vector in found.embeddings)
    assert found.prompt_eval_count == logged["prompt_tokens"] > 0
    assert logged["dialect"] == "ollama"
    alone = client.embed(EMBED, texts[0], dimensions=64)
    assert sum(x * x for x in alone.embeddings[0]) == pytest.approx(1, abs=1e-4)
    assert len(alone.embeddings[0]) == 64
    older = list(client.embeddings(EMBED, texts[0]).embedding)
    length = sum(x * x for x in older) ** 0.5
    assert [x / length for x in older] == pytest.approx(list(client.embed(EMBED, texts[0]).embeddings[0]), abs=1e-4)
    assert client.embed(EMBED, []).embeddings == []
    with pytest.raises(ResponseError, match="512") as refused:
        client.embed(EMBED, "word " * 4000, truncate=True)
    assert refused.value.status_code == 400


# --- residency -------------------------------------------------------------------------------------------------------


def test_a_model_comes_and_goes(client: Client, admin: httpx.Client) -> None:
    """Without a prompt the model is loaded, and with ``keep_alive`` 0 let go; ``ps`` says what is in memory."""
    deployed = chain.deploy(admin, chain.CHAT, CHAT, "contract-ollama-comes")
    try:
        assert client.generate(deployed.name, keep_alive="10m").done_reason == "load"
        (running,) = [m for m in client.ps().models if m.model == f"{deployed.name}:latest"]
        assert running.size
        assert (running.size_vram, running.context_length) == (0, 2048)
        assert running.expires_at is not None
        assert client.generate(deployed.name, keep_alive=0).done_reason == "unload"
        assert f"{deployed.name}:latest" not in [m.model for m in client.ps().models]
        assert client.chat(deployed.name, [], keep_alive=-1).done_reason == "load"
        assert client.chat(deployed.name, QUESTION, options=GREEDY, keep_alive="0s").message.content
        assert f"{deployed.name}:latest" not in [m.model for m in client.ps().models]
        list(client.generate(deployed.name, "Hello", options=GREEDY, keep_alive=0, stream=True))
        assert f"{deployed.name}:latest" not in [m.model for m in client.ps().models]
    finally:
        chain.remove(admin, deployed)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors_are_the_clients_own(client: Client, server: Server) -> None:
    """Every refusal is a ``ResponseError`` with its status and a text that says what to do."""
    wrong: list[tuple[int, str, Any]] = [
        (404, "not found", lambda: client.chat("llama-99", QUESTION)),
        (404, "not found", lambda: client.show("llama-99:latest")),
        (400, "text only", lambda: client.chat(CHAT, [{"role": "user", "content": "a", "images": [b"png"]}])),
        (400, "thinking", lambda: client.chat(CHAT, QUESTION, think=True)),
        (400, "mirostat", lambda: client.chat(CHAT, QUESTION, options={"mirostat": 2})),
        (400, "temperature", lambda: client.chat(CHAT, QUESTION, options={"temperature": 9})),
        (400, "frobnicate", lambda: client.chat(CHAT, QUESTION, options={"frobnicate": 1})),
        (400, "keep_alive", lambda: client.chat(CHAT, QUESTION, keep_alive="soon")),
        (400, "insert", lambda: client.generate(CHAT, "a", suffix="b")),
        (400, "EMBEDDING", lambda: client.chat(EMBED, QUESTION)),
        (400, "CHAT_COMPLETION", lambda: client.embed(CHAT, "a")),
        (400, "2048", lambda: list(client.generate(CHAT, "word " * 4000, stream=True))),
    ]
    for status, words, ask in wrong:
        with pytest.raises(ResponseError, match=words) as refused:
            ask()
        assert refused.value.status_code == status
    for headers in ({}, headers_of("sk-wrong")):
        with Client(host=server.url, headers=headers) as stranger, pytest.raises(ResponseError, match="key") as stopped:
            stranger.list()
        assert stopped.value.status_code == 401


def test_routes_that_change_the_store_say_how_it_is_done_here(client: Client) -> None:
    """Each is refused with the way that leads there."""
    wrong: list[tuple[str, Any]] = [
        ("appliance models import", lambda: client.pull("llama3.2")),
        ("appliance models import", lambda: list(client.pull("llama3.2", stream=True))),
        ("POST /v3/models", lambda: client.create("mine", from_=CHAT)),
        ("deployments", lambda: client.copy(CHAT, "mine")),
        ("DELETE", lambda: client.delete(CHAT)),
        ("not pushed", lambda: client.push(CHAT)),
    ]
    for words, ask in wrong:
        with pytest.raises(ResponseError, match=words) as refused:
            ask()
        assert refused.value.status_code == 400


def test_a_blob_is_not_taken(member: httpx.Client) -> None:
    """Nor read."""
    answer = member.post(f"/api/blobs/sha256:{'a' * 64}", content=b"x" * 100_000)
    assert (answer.status_code, answer.json()["error"]) == (400, answer.json()["detail"])


# --- what real clients send ------------------------------------------------------------------------------------------

REAL: dict[str, tuple[str, dict[str, Any]]] = {
    "Open WebUI chats": (
        "/api/chat",
        {
            "model": f"{CHAT}:latest",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "options": {"num_thread": 4, "num_gpu": 99, "use_mmap": True, "num_ctx": 2048, "seed": 0, "stop": ["END"]},
            "keep_alive": "5m",
        },
    ),
    "Open WebUI sends a tool's answer back": (
        "/api/chat",
        {
            "model": CHAT,
            "messages": [
                {"role": "user", "content": "Weather?"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"index": 0, "id": "call_1", "function": {"name": "w", "arguments": {"city": "Oslo"}}}
                    ],
                },
                {"role": "tool", "content": "4", "tool_call_id": "call_1"},
            ],
            "options": {},
        },
    ),
    "LangChain chats": (
        "/api/chat",
        {
            "model": CHAT,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello", "images": []},
            ],
            "stream": True,
            "options": {"temperature": 0.0, "num_predict": 8, "repeat_last_n": 64, "mirostat": 0, "num_ctx": None},
            "keep_alive": None,
            "format": "",
            "tools": [],
            "think": None,
        },
    ),
    "Continue completes code": (
        "/api/generate",
        {
            "model": CHAT,
            "prompt": "<fim_prefix>def f(<fim_suffix>):<fim_middle>",
            "raw": True,
            "options": {
                "temperature": 0.01,
                "num_predict": 8,
                "num_ctx": 8096,
                "stop": [
                    *("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>", "<|endoftext|>", "</fim_middle>"),
                    *("</code>", "/src/", "#- coding: utf-8", "```", "\nfunction", "\nclass", "\nmodule", "\nexport"),
                ],
            },
            "keep_alive": 1800,
        },
    ),
    "Home Assistant asks": (
        "/api/chat",
        {
            "model": CHAT,
            "messages": [{"role": "user", "content": "Turn on the light"}],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "HassTurnOn",
                        "description": "Turns on a device",
                        "parameters": {
                            "type": "object",
                            "properties": {"area": {"type": "string"}, "level": {"type": "integer", "minimum": 0}},
                            "required": [],
                        },
                    },
                }
            ],
            "stream": True,
            "options": {"num_ctx": 8192},
            "keep_alive": "-1s",
            "think": False,
        },
    ),
    "a shell script": ("/api/generate", {"model": CHAT, "prompt": "Hello", "stream": False}),
}


@pytest.mark.parametrize("what", REAL)
def test_what_real_clients_send_is_understood(what: str, member: httpx.Client) -> None:
    """Every field of theirs is honoured or without effect, and the last object is done."""
    path, body = REAL[what]
    answer = member.post(path, json={**body, "options": {"num_predict": 8, **body.get("options", {})}})
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.text.splitlines()[-1])["done"] is True


def test_older_clients_say_name(member: httpx.Client) -> None:
    """Continue shows a model by ``name``, and curl sends JSON as a form."""
    assert member.post("/api/show", json={"name": CHAT}).json()["capabilities"]
    form = {"content-type": "application/x-www-form-urlencoded"}
    raw = json.dumps({"model": CHAT, "prompt": "Hello", "stream": False, "options": GREEDY}).encode()
    assert member.post("/api/generate", content=raw, headers=form).json()["response"]


def test_a_key_may_stand_in_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own variables are enough: no line of code changes."""
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    monkeypatch.setenv("OLLAMA_API_KEY", server.member_key)
    with ollama.Client() as made:
        assert made.list().models
