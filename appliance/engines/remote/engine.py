"""The engines over an upstream: each request is one HTTP request, and as many run at once as there are slots.

Everything here lives on the event loop. A generation is a task that reads the upstream's events into a stream;
cancelling it closes the connection, which is how an upstream learns that nobody listens any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from appliance.domain.clock import Clock, SystemClock
from appliance.domain.errors import ApplianceError, Internal, InvalidRequest, NotReady
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    Message,
    RerankingRequest,
    RerankingResult,
    Sampling,
    Usage,
)
from appliance.domain.models import ModelType
from appliance.engines.base import EmbeddingEngine, EngineStats, RerankingEngine, TextEngine, refuse_images, texts_only
from appliance.engines.remote import answer, ask, faults
from appliance.engines.remote.answer import AnswerReader, BrokenOff, Failed, ListedModel, Malformed
from appliance.engines.remote.backend import RemoteSpec
from appliance.engines.remote.client import Connection, UpstreamClient
from appliance.engines.stream import GenerationStream, News

log = logging.getLogger(__name__)

Keys = Callable[[str], str | None]
RemoteEngine = TextEngine | EmbeddingEngine | RerankingEngine

PROVE_SECONDS: Final = 15.0
CLOSE_SECONDS: Final = 10.0
QUICK_BYTES: Final = 256 << 10
"""Answers up to this size are read on the loop: a hop to another thread would take longer."""
NO_LIST: Final = ListedModel(id="")


# --- making one ------------------------------------------------------------------------------------------------------


def make_engine(spec: RemoteSpec, keys: Keys, listed: ListedModel) -> RemoteEngine:
    """The engine of the spec's model type."""
    client = _client(spec, keys, spec.timeout_seconds)
    if spec.model_type is ModelType.EMBEDDING:
        return RemoteEmbeddingEngine(spec, client)
    if spec.model_type is ModelType.RERANKING:
        return RemoteRerankingEngine(spec, client)
    return RemoteTextEngine(spec, client, listed)


async def prove(spec: RemoteSpec, keys: Keys) -> ListedModel:
    """The model's entry in the upstream's list; without a list, proof by the smallest request. Raises NotReady."""
    client = _client(spec, keys, min(PROVE_SECONDS, spec.timeout_seconds))
    try:
        return await _look_up(client, spec)
    except InvalidRequest as error:
        raise NotReady(error.message) from error
    finally:
        await client.aclose()


def _client(spec: RemoteSpec, keys: Keys, timeout_seconds: float) -> UpstreamClient:
    connection = Connection(
        upstream=spec.upstream,
        base_url=spec.base_url,
        key=lambda: keys(spec.upstream_id),
        connections=spec.slots + 1,
        timeout_seconds=timeout_seconds,
    )
    return UpstreamClient(connection)


async def _look_up(client: UpstreamClient, spec: RemoteSpec) -> ListedModel:
    body = await client.get("/models")
    if body is None:
        await _smallest_request(client, spec)
        return NO_LIST
    try:
        models = answer.models_of(body)
    except Malformed as error:
        raise faults.broken(spec.upstream, f"GET /models: {error}") from None
    for listed in models:
        if listed.id == spec.model:
            return listed
    raise faults.not_listed(spec.upstream, spec.model, [listed.id for listed in models])


async def _smallest_request(client: UpstreamClient, spec: RemoteSpec) -> None:
    """For upstreams without a list of models."""
    if spec.model_type is ModelType.EMBEDDING:
        await RemoteEmbeddingEngine(spec, client).embed(EmbeddingRequest(texts=("Hello",)))
    elif spec.model_type is ModelType.RERANKING:
        await RemoteRerankingEngine(spec, client).rerank(RerankingRequest(query="Hello", chunks=("world",)))
    else:
        async for _ in await _smallest_text(RemoteTextEngine(spec, client, NO_LIST), spec.model_type):
            pass


async def _smallest_text(engine: RemoteTextEngine, model_type: ModelType) -> GenerationStream:
    sampling = Sampling(max_tokens=1)
    if model_type is ModelType.COMPLETION:
        return await engine.complete(CompletionRequest(prompt="Hello", sampling=sampling))
    return await engine.chat(ChatRequest(messages=(Message(role="user", content="Hello"),), sampling=sampling))


# --- what all three share --------------------------------------------------------------------------------------------


class _Remote:
    """Slots, counts, and the way to an end."""

    def __init__(self, spec: RemoteSpec, client: UpstreamClient) -> None:
        self._spec = spec
        self._client = client
        self._clock: Clock = SystemClock()
        self._free = asyncio.Semaphore(spec.slots)
        self._active = 0
        self._waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def device(self) -> str:
        """Not this machine."""
        return "remote"

    @property
    def slots(self) -> int:
        """Requests that the upstream gets at once; further ones wait here."""
        return self._spec.slots

    @property
    def failure(self) -> str | None:
        """Why the upstream has to be asked again before the next request."""
        return self._client.lost

    def stats(self) -> EngineStats:
        """Requests at the upstream, and requests that wait for a slot."""
        return EngineStats(active=self._active, waiting=self._waiting)

    async def prove(self) -> None:
        """The upstream still serves the model: ask its list, which costs no tokens. NotReady fails the engine too."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PROVE_SECONDS):
                await _look_up(self._client, self._spec)
        except TimeoutError:
            self._client.lost = "it does not answer"
            raise faults.silent(self._spec.upstream, PROVE_SECONDS) from None
        except NotReady as error:
            self._client.lost = error.message
            raise

    def close(self) -> None:
        """Cancel what runs and close the connections. Blocks, but not the loop's own thread; twice is fine."""
        loop, self._loop = self._loop, None
        if self._closed or loop is None or not loop.is_running():
            self._closed = True
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._end(), loop).result(CLOSE_SECONDS)

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            self._free.release()

    async def _whole(self, path: str, body: object, read: Callable[[bytes], Any]) -> Any:
        """One answer that comes in one piece, read off the loop when it is long."""
        async with self._slot():
            content = await self._client.post(path, body)
        try:
            return read(content) if len(content) <= QUICK_BYTES else await asyncio.to_thread(read, content)
        except Malformed as error:
            raise faults.broken(self._spec.upstream, str(error)) from None


class RemoteEmbeddingEngine(_Remote):
    """``appliance.engines.base.EmbeddingEngine`` over ``POST /embeddings``."""

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        """One vector per text, as they come or scaled to length 1. Raises InvalidRequest, NotReady, Busy."""
        body = ask.embedding(texts_only(request.texts), self._spec.model)
        expected = len(request.texts)
        vectors, tokens = await self._whole("/embeddings", body, lambda found: answer.vectors_of(found, expected))
        wanted = request.normalize if request.normalize is not None else self._spec.parameters.get("normalize")
        if wanted:
            vectors = [answer.unit(vector) for vector in vectors]
        return EmbeddingResult(vectors=vectors, tokens=tokens)


class RemoteRerankingEngine(_Remote):
    """``appliance.engines.base.RerankingEngine`` over ``POST /rerank``."""

    async def rerank(self, request: RerankingRequest) -> RerankingResult:
        """One score per chunk. Raises InvalidRequest, NotReady, Busy."""
        body = ask.reranking(request, self._spec.model)
        expected = len(request.chunks)
        scores, tokens = await self._whole("/rerank", body, lambda found: answer.scores_of(found, expected))
        return RerankingResult(scores=scores, tokens=tokens)


class RemoteTextEngine(_Remote):
    """``appliance.engines.base.TextEngine`` over ``POST /completions`` and ``POST /chat/completions``."""

    def __init__(self, spec: RemoteSpec, client: UpstreamClient, listed: ListedModel) -> None:
        super().__init__(spec, client)
        self._listed = listed

    @property
    def context_length_tokens(self) -> int:
        """What the upstream's list says; 0 where it says nothing."""
        return self._listed.max_model_len or 0

    async def complete(self, request: CompletionRequest) -> GenerationStream:
        """Start continuing a text. Raises InvalidRequest."""
        spec, owned_by = self._spec, self._listed.owned_by or ""
        body = ask.completion(request, spec.model, spec.max_tokens, owned_by)
        return self._start("/completions", body, request.sampling)

    async def chat(self, request: ChatRequest) -> GenerationStream:
        """Start answering a conversation. Raises InvalidRequest."""
        refuse_images(request.messages, "models elsewhere are sent text only")
        spec, owned_by = self._spec, self._listed.owned_by or ""
        body = ask.chat(request, spec.model, spec.max_tokens, owned_by)
        return self._start("/chat/completions", body, request.sampling)

    async def count_tokens(self, request: CompletionRequest | ChatRequest) -> int:
        """Refused: OpenAI's interface cannot say it."""
        raise InvalidRequest(f"the tokens of a prompt for '{self._spec.model}' are counted by its upstream alone")

    def _start(self, path: str, body: ask.Body, sampling: Sampling) -> GenerationStream:
        reader = AnswerReader(logprobs=sampling.logprobs is not None)

        def cancel() -> None:
            task.cancel()

        stream = GenerationStream(cancel)
        stream.marks_thoughts = True
        task = asyncio.create_task(self._generate(stream, path, body, reader))
        self._tasks.add(task)

        def ended(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():  # here, because a task cancelled before its first step runs no line of its own
                stream.receive(News(Delta(finish_reason=FinishReason.CANCELLED), reader.usage))

        task.add_done_callback(ended)
        return stream

    async def _generate(self, stream: GenerationStream, path: str, body: ask.Body, reader: AnswerReader) -> None:
        """Everything that can go wrong reaches the reader through the stream."""
        try:
            await self._transfer(stream, path, body, reader)
        except ApplianceError as error:
            stream.receive(error)
        except BrokenOff:
            stream.receive(faults.broken_off(self._spec.upstream))
        except Malformed as error:
            stream.receive(faults.broken(self._spec.upstream, str(error)))
        except Failed as failed:
            stream.receive(faults.gave_up(self._spec.upstream, faults.words_of(failed.body)))
        except Exception as error:
            log.exception("reading an answer of upstream '%s' failed", self._spec.upstream)
            stream.receive(Internal(f"the answer of upstream '{self._spec.upstream}' could not be read: {error!r}"))

    async def _transfer(self, stream: GenerationStream, path: str, body: ask.Body, reader: AnswerReader) -> None:
        timing = _Timing(self._clock, reader.usage)
        async with self._slot():
            timing.slot()
            seconds = self._spec.timeout_seconds
            try:
                async with asyncio.timeout(seconds) as patience:
                    async for delta in self._deltas(path, body, reader):
                        timing.news()
                        stream.receive(News(delta, reader.usage))
                        patience.reschedule(asyncio.get_running_loop().time() + seconds)
            except TimeoutError:
                raise faults.silent(self._spec.upstream, seconds) from None
            last = reader.end()
            timing.news()
        stream.receive(News(last, reader.usage))

    async def _deltas(self, path: str, body: ask.Body, reader: AnswerReader) -> AsyncIterator[Delta]:
        async with aclosing(self._client.events(path, body)) as events:
            async for event in events:
                if event.data == answer.DONE:
                    return
                if event.name == "error":
                    raise Failed(event.data)
                delta = reader.feed(event.data)
                if delta is not None:
                    yield delta


class _Timing:
    """Milliseconds of one generation, written into its usage as it goes."""

    def __init__(self, clock: Clock, usage: Usage) -> None:
        self._clock = clock
        self._usage = usage
        self._mark = clock.monotonic_seconds()
        self._first: float | None = None

    def slot(self) -> None:
        """The wait for a slot is over."""
        now = self._clock.monotonic_seconds()
        self._usage.queue_milliseconds = (now - self._mark) * 1000
        self._mark = now

    def news(self) -> None:
        """Something came: until the first it is prefill, as far as one can see from here, then decoding."""
        now = self._clock.monotonic_seconds()
        if self._first is None:
            self._first = now
            self._usage.prefill_milliseconds = (now - self._mark) * 1000
        self._usage.decode_milliseconds = (now - self._first) * 1000
