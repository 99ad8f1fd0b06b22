"""Engines over an upstream that does what it is told: how they load, answer, are cancelled, and survive hostility."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from appliance.domain.errors import Busy, InvalidRequest, NotReady
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    FinishReason,
    Message,
    RerankingRequest,
    Sampling,
)
from appliance.domain.models import ModelType
from appliance.engines.base import EmbeddingEngine, RerankingEngine, TextEngine
from appliance.engines.parts import Answer, split
from appliance.engines.probe import probe
from appliance.engines.remote import client as client_module
from tests.engines.remote.conftest import KEY, Load
from tests.support.fake_upstream import (
    DONE,
    MODEL,
    FakeUpstream,
    counted,
    hang,
    hang_up,
    redirect,
    said,
    say,
    stream,
    without_end,
)

CHAT = "/v1/chat/completions"
HELLO = ChatRequest(messages=(Message(role="user", content="hello"),))
ANSWER = stream(said("", role="assistant"), said("Hel"), said("lo"), said(None, "stop"), counted(5, 2), DONE)
VECTORS = {"data": [{"index": 0, "embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 2}}


async def answer_of(engine: Any, request: ChatRequest = HELLO) -> tuple[str, list[Delta], Any]:
    generation = await engine.chat(request)
    deltas = [delta async for delta in generation]
    return "".join(delta.text for delta in deltas), deltas, generation.usage


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        (ModelType.COMPLETION, TextEngine),
        (ModelType.CHAT_COMPLETION, TextEngine),
        (ModelType.AGENT, TextEngine),
        (ModelType.EMBEDDING, EmbeddingEngine),
        (ModelType.RERANKING, RerankingEngine),
    ],
)
async def test_it_loads_by_the_list(load: Load, upstream: FakeUpstream, model_type: ModelType, kind: type) -> None:
    """A model that the upstream lists is ready without a token spent, asked for with the key and nothing compressed."""
    engine = await load(model_type)

    assert isinstance(engine, kind)
    assert (engine.device, engine.slots, engine.failure) == ("remote", 10, None)
    (asked,) = upstream.asked
    assert (asked.method, asked.path) == ("GET", "/v1/models")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["user-agent"].startswith("model-appliance/")


async def test_a_model_that_is_not_listed(load: Load) -> None:
    """It is not ready, and the message shows what there is."""
    with pytest.raises(NotReady, match=f"no model 'other'.*{MODEL}"):
        await load(model="other")


@pytest.mark.parametrize(
    ("model_type", "path", "answer"),
    [
        (ModelType.CHAT_COMPLETION, CHAT, ANSWER),
        (ModelType.COMPLETION, "/v1/completions", stream({"choices": [{"text": "a", "finish_reason": "length"}]})),
        (ModelType.EMBEDDING, "/v1/embeddings", say(200, VECTORS)),
        (ModelType.RERANKING, "/v1/rerank", say(200, {"results": [{"index": 0, "relevance_score": 1}]})),
    ],
)
async def test_an_upstream_without_a_list(
    load: Load, upstream: FakeUpstream, model_type: ModelType, path: str, answer: Any
) -> None:
    """Where there is no list, the smallest request of the model's own type is the proof."""
    del upstream.answers["/v1/models"]
    with pytest.raises(NotReady, match="404"):
        await load(model_type)
    upstream.answers[path] = answer
    await load(model_type)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (say(401, {"error": {"message": f"wrong key {KEY}"}}), "refuses the key"),
        (say(500, {"detail": "sorry"}), "sorry"),
        (say(400, {"detail": "no"}), "refuses the request"),
        (say(200, {"models": []}), "OpenAI's form"),
        (redirect("http://127.0.0.1:1/v1/models"), "redirect"),
        (hang_up, "cannot be reached"),
    ],
)
async def test_an_upstream_that_does_not_serve(load: Load, upstream: FakeUpstream, answer: Any, words: str) -> None:
    """It is not ready, with the reason, and never the key."""
    upstream.answers["/v1/models"] = answer
    with pytest.raises(NotReady, match=words) as refused:
        await load()
    assert KEY not in refused.value.message


async def test_an_upstream_that_is_not_there(load: Load, upstream: FakeUpstream) -> None:
    """A closed port is said at once."""
    upstream.shutdown()
    upstream.server_close()
    with pytest.raises(NotReady, match="'cluster' cannot be reached"):
        await load()


async def test_proof_again(load: Load, upstream: FakeUpstream) -> None:
    """A swap proves the engine by the list too: it costs no tokens."""
    engine = await load()
    await probe(engine)
    assert [asked.path for asked in upstream.asked] == ["/v1/models", "/v1/models"]
    upstream.answers["/v1/models"] = say(503, {"detail": "going down"})
    with pytest.raises(NotReady, match="going down"):
        await probe(engine)
    assert "going down" in engine.failure


async def test_no_proxy_of_the_environment(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not asked: the key goes to the allowed host alone."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await load()


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_a_chat(load: Load, upstream: FakeUpstream) -> None:
    """Deltas as they come, the usage the upstream reports, and the times seen from here."""
    upstream.answers[CHAT] = ANSWER
    text, deltas, usage = await answer_of(await load())

    assert text == "Hello"
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert (usage.prompt_tokens, usage.response_tokens) == (5, 2)
    assert usage.prefill_milliseconds > 0
    assert usage.decode_milliseconds >= 0
    assert upstream.asked[-1].body["model"] == MODEL


async def test_thoughts_are_marked(load: Load, upstream: FakeUpstream) -> None:
    """Whatever an upstream tells as thoughts can be told from the answer here."""
    said = [{"delta": {"reasoning_content": "hm"}}, {"delta": {"content": "yes"}, "finish_reason": "stop"}]
    upstream.answers[CHAT] = stream(*({"choices": [choice]} for choice in said))
    running = await (await load()).chat(HELLO)
    text = "".join([delta.text async for delta in running])
    assert split(text, thoughts=running.marks_thoughts, calls=False) == Answer(thought="hm", text="yes", calls=())


async def test_a_completion(load: Load, upstream: FakeUpstream) -> None:
    """Text continues text."""
    upstream.answers["/v1/completions"] = stream({"choices": [{"text": "b", "finish_reason": "length"}]})
    engine = await load(ModelType.COMPLETION, parameters={"max_tokens": 77})
    generation = await engine.complete(CompletionRequest(prompt="a"))

    assert [(d.text, d.finish_reason) async for d in generation][-1][1] is FinishReason.LENGTH
    assert upstream.asked[-1].body["max_tokens"] == 77


async def test_vectors(load: Load, upstream: FakeUpstream) -> None:
    """As they come; scaled here when the request, or else the deployment, wants it."""
    upstream.answers["/v1/embeddings"] = say(200, VECTORS)
    plain, scaled = await load(ModelType.EMBEDDING), await load(ModelType.EMBEDDING, parameters={"normalize": True})

    async def vector(engine: Any, normalize: bool | None) -> list[float]:
        result = await engine.embed(EmbeddingRequest(texts=("a",), normalize=normalize))
        assert result.tokens == 2
        return list(result.vectors[0])

    assert await vector(plain, None) == [3.0, 4.0]
    assert await vector(plain, True) == await vector(scaled, None) == [0.6, 0.8]
    assert await vector(scaled, False) == [3.0, 4.0]


async def test_scores(load: Load, upstream: FakeUpstream) -> None:
    """One per chunk, in the chunks' order."""
    results = [{"index": 1, "relevance_score": 2.5}, {"index": 0, "relevance_score": -1}]
    upstream.answers["/v1/rerank"] = say(200, {"results": results})
    result = await (await load(ModelType.RERANKING)).rerank(RerankingRequest(query="q", chunks=("a", "b")))
    assert (result.scores, result.tokens) == ([-1, 2.5], 0)


async def test_counting_tokens_is_refused(load: Load) -> None:
    """Nobody here knows the upstream's tokenizer."""
    with pytest.raises(InvalidRequest, match="upstream"):
        await (await load()).count_tokens(HELLO)


async def test_a_long_answer_is_read_off_the_loop(
    load: Load, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the bound of what is quick the answer is the same."""
    monkeypatch.setattr("appliance.engines.remote.engine.QUICK_BYTES", 10)
    upstream.answers["/v1/embeddings"] = say(200, VECTORS)
    result = await (await load(ModelType.EMBEDDING)).embed(EmbeddingRequest(texts=("a",)))
    assert result.vectors == [[3.0, 4.0]]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (say(400, {"error": {"message": "prompt too long: 9 tokens"}}), InvalidRequest, "prompt too long: 9 tokens"),
        (say(429, {"detail": "later"}, retry_after="7"), Busy, "later"),
        (say(503, {"detail": "loading"}), NotReady, "loading"),
        (say(401, {}), NotReady, "rekey"),
        (hang_up, NotReady, "cannot be reached"),
        (redirect("http://127.0.0.1:1/elsewhere"), NotReady, "redirect"),
        (say(200, {"choices": []}), NotReady, "where a stream was asked for"),
        (stream(said("a")), NotReady, "broke off"),
        (stream(said("a"), DONE), NotReady, "broke off"),
        (stream(said("a"), b"data: {oops\n\n"), NotReady, "OpenAI's form"),
        (stream(b"<html>hello</html>\n\n"), NotReady, "broke off"),
        (stream(said("a"), {"error": {"message": "out of memory"}}), NotReady, "out of memory"),
        (stream(said("a"), b'event: error\ndata: {"detail": "gone"}\n\n'), NotReady, "gone"),
        (stream(b"data: " + b"x" * (5 << 20)), NotReady, "too long"),
        (without_end(b"data: " + b"x" * 65_536, pause_seconds=0), NotReady, "too long"),
        (without_end(b": " + b"x" * 65_536 + b"\n", pause_seconds=0), NotReady, "above"),
    ],
)
async def test_a_chat_that_fails(
    load: Load, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, answer: Any, error: type, words: str
) -> None:
    """Refusals, breaks, redirects, endless lines and what is no stream: our error, in words, and no slot lost."""
    monkeypatch.setattr(client_module, "MAX_STREAM_BYTES", 8 << 20)
    engine = await load()
    upstream.answers[CHAT] = answer
    with pytest.raises(error, match=words) as refused:
        await answer_of(engine)

    assert "cluster" in str(refused.value)
    assert KEY not in str(refused.value)
    assert engine.stats().active == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (hang, "nothing new for 0.2 s"),
        (without_end(b": still here\n\n", pause_seconds=0.01), "nothing new for 0.2 s"),
        (without_end(b'data: {"choices": [{"delta": {"content": ""}}]}\n\n', pause_seconds=0.01), "nothing new"),
    ],
)
async def test_an_endless_stream_of_nothing(load: Load, upstream: FakeUpstream, answer: Any, words: str) -> None:
    """Signs of life without news do not hold a slot for ever."""
    engine = await load(parameters={"timeout_seconds": 0.2})
    upstream.answers[CHAT] = answer
    with pytest.raises(NotReady, match=words):
        await answer_of(engine)
    assert engine.stats().active == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (without_end(b" " * 65_536, pause_seconds=0, kind="application/json"), "above"),
        (say(200, VECTORS, content_length="999999"), "above|cannot be reached"),
        (say(200, VECTORS, content_encoding="gzip"), "compressed"),
        (say(200, {"data": []}), "0 results for 1 texts"),
        (hang, "nothing new"),
    ],
)
async def test_an_embedding_that_fails(
    load: Load, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, answer: Any, words: str
) -> None:
    """An oversized, unfinished, compressed, wrong or missing body."""
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1 << 20)
    engine = await load(ModelType.EMBEDDING, parameters={"timeout_seconds": 0.5})
    upstream.answers["/v1/embeddings"] = answer
    with pytest.raises(NotReady, match=words):
        await engine.embed(EmbeddingRequest(texts=("a",)))
    assert engine.stats().active == 0


async def test_a_refusal_without_end(load: Load, upstream: FakeUpstream) -> None:
    """Of an error's body only the beginning is read."""
    engine = await load(ModelType.EMBEDDING)

    def endless(exchange: Any) -> None:
        exchange.head(400)
        while not exchange.server.stop.is_set():
            exchange.write(b"x" * 65_536)

    upstream.answers["/v1/embeddings"] = endless
    with pytest.raises(InvalidRequest, match="xxx"):
        await engine.embed(EmbeddingRequest(texts=("a",)))


async def test_losing_the_upstream_shows(load: Load, upstream: FakeUpstream) -> None:
    """An upstream that is gone, or refuses the key, fails the engine, so that it is proved anew; an error does not."""
    engine = await load()
    upstream.answers[CHAT] = say(500, {})
    with pytest.raises(NotReady):
        await answer_of(engine)
    assert engine.failure is None

    upstream.answers[CHAT] = say(403, {})
    with pytest.raises(NotReady):
        await answer_of(engine)
    assert "key was refused" in engine.failure


# --- cancelling, slots -----------------------------------------------------------------------------------------------


async def test_closing_a_stream_closes_the_connection(load: Load, upstream: FakeUpstream) -> None:
    """The upstream sees at once that nobody listens, and the slot is free."""
    piece = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    upstream.answers[CHAT] = without_end(piece, pause_seconds=0.01)
    engine = await load()
    generation = await engine.chat(HELLO)
    assert (await anext(aiter(generation))).text.startswith("a")
    assert engine.stats().active == 1

    generation.close()
    generation.close()
    assert await asyncio.to_thread(upstream.left.wait, 10)
    assert engine.stats().active == 0


async def test_cancelling_an_embedding_closes_the_connection(load: Load, upstream: FakeUpstream) -> None:
    """A caller that leaves takes its request with it."""
    upstream.answers["/v1/embeddings"] = without_end(b" ", pause_seconds=0.01, kind="application/json")
    engine = await load(ModelType.EMBEDDING)
    task = asyncio.create_task(engine.embed(EmbeddingRequest(texts=("a",))))
    while engine.stats().active == 0 or len(upstream.asked) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await asyncio.to_thread(upstream.left.wait, 10)
    assert engine.stats().active == 0


async def test_slots_bound_what_the_upstream_gets(load: Load, upstream: FakeUpstream) -> None:
    """With one slot the second request waits here until the first has ended."""
    upstream.answers[CHAT] = without_end(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', pause_seconds=0.01)
    engine = await load(slots=1)
    first, second = await engine.chat(HELLO), await engine.chat(HELLO)
    await anext(aiter(first))
    assert (engine.stats().active, engine.stats().waiting) == (1, 1)

    first.close()
    await anext(aiter(second))
    assert (engine.stats().active, engine.stats().waiting) == (1, 0)
    assert second.usage.queue_milliseconds > 0
    second.close()


async def test_closing_the_engine_ends_what_runs(load: Load, upstream: FakeUpstream) -> None:
    """Streams end as cancelled, begun or not, and closing twice is fine."""
    upstream.answers[CHAT] = without_end(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', pause_seconds=0.01)
    engine = await load(slots=1)
    running, waiting = await engine.chat(HELLO), await engine.chat(HELLO)
    await anext(aiter(running))
    await asyncio.to_thread(engine.close)
    await asyncio.to_thread(engine.close)

    for generation in (running, waiting):
        assert [delta async for delta in generation][-1].finish_reason is FinishReason.CANCELLED


async def test_the_key_is_in_no_log(load: Load, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture) -> None:
    """Not even where everything is logged."""
    caplog.set_level(logging.DEBUG)
    upstream.answers[CHAT] = ANSWER
    await answer_of(await load(), ChatRequest(messages=HELLO.messages, sampling=Sampling(max_tokens=1)))
    assert KEY not in caplog.text
