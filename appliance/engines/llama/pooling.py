"""Embeddings and rankings over GGUF weights: many short texts a step, one vector or score each.

Both sides of it: the engines on the event loop turn texts into tokens, the stepper on the engine's thread packs the
texts of all requests, in arrival order, into batches by a token budget. A text is never split over two batches: pooling
sees only what is in one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.domain.errors import (
    ApplianceError,
    Internal,
    InvalidParameter,
    NotReady,
    PromptTooLong,
)
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingResult,
    RerankingRequest,
    RerankingResult,
    Tokens,
)
from appliance.engines.base import EngineStats, plain_text, texts_only
from appliance.engines.llama.runtime import Context, ContextOptions, Model, Vocabulary
from appliance.engines.stream import Outbox, Receiver, Reply
from appliance.engines.thread import EngineThread

Ints: TypeAlias = npt.NDArray[np.int32]
Vectors: TypeAlias = list[list[float]]

Item = TypeVar("Item", str, str | tuple[int, ...])

MAX_TEXTS_PER_STEP = 64


class PooledOptions(Struct, frozen=True, kw_only=True):
    """Sizes of a pooling engine."""

    text_tokens: int
    """Tokens one text may have."""
    batch_tokens: int
    slots: int
    threads: int
    pooling: str
    normalize: bool = True


class Job(Struct, frozen=True):
    """A command to the stepper: pool these texts."""

    receiver: Receiver
    texts: Sequence[Ints]
    normalize: bool


class Drop(Struct, frozen=True):
    """A command to the stepper: nobody waits for this job any more."""

    receiver: Receiver


class _Work:
    """A job under way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.started = 0
        self.vectors: Vectors = []

    @property
    def is_done(self) -> bool:
        return len(self.vectors) == len(self.job.texts)


class PooledStepper:
    """Packs texts into batches and pools them. One context, used by the engine's thread only."""

    def __init__(self, context: Context, width: int, outbox: Outbox) -> None:
        self._context = context
        self._width = width
        self._outbox = outbox
        self._work: deque[_Work] = deque()
        self.stats = EngineStats()
        self.steps = 0

    def take(self, command: Job | Drop) -> None:
        """Accept a job or drop one."""
        if isinstance(command, Job):
            self._work.append(_Work(command))
        else:
            self._work = deque(work for work in self._work if work.job.receiver is not command.receiver)
        self._publish()

    def step(self) -> bool:
        """Pool one batch. False when there is nothing left."""
        batch = self._fill()
        self._outbox.flush()
        if batch:
            if not self._context.decode():
                raise Internal("llama.cpp finds no room for a batch in an empty cache")
            for number, work in enumerate(batch):
                work.vectors.append(self._vector(number, normalize=work.job.normalize))
        self._deliver()
        self.steps += 1
        self._publish()
        return bool(self._work)

    def _fill(self) -> list[_Work]:
        """Fill the batch; return whose text got which sequence number."""
        self._context.clear()
        batch = self._context.batch
        batch.clear()
        chosen: list[_Work] = []
        for work in self._work:
            while work.started < len(work.job.texts):
                text = work.job.texts[work.started]
                full = batch.count + len(text) > self._context.options.batch_tokens
                if full or len(chosen) == self._context.options.sequences:
                    return chosen
                batch.add(len(chosen), 0, text, want_all=True)
                chosen.append(work)
                work.started += 1
        return chosen

    def _vector(self, number: int, *, normalize: bool) -> list[float]:
        vector = self._context.pooled(number, self._width)
        if normalize and (length := float(np.linalg.norm(vector))) > 0:
            vector = vector / np.float32(length)
        return [float(value) for value in vector]

    def _deliver(self) -> None:
        while self._work and self._work[0].is_done:
            work = self._work.popleft()
            self._outbox.put(work.job.receiver, work.vectors)

    def abandon(self, error: ApplianceError | None) -> None:
        """End every job."""
        for work in self._work:
            self._outbox.put(work.job.receiver, error or _cancelled())
        self._work.clear()
        self._publish()

    def close(self) -> None:
        """Free the context and the weights."""
        self._context.close()
        self._context.model.close()

    def _publish(self) -> None:
        active = sum(work.started > 0 for work in self._work)
        self.stats = EngineStats(active=active, waiting=len(self._work) - active)


class _PooledEngine:
    """What both tasks share. Owns the model from its making to ``close``."""

    def __init__(self, model: Model, options: PooledOptions, width: int) -> None:
        self._options = options
        self._vocabulary = model.vocabulary
        self._device = model.device
        outbox = Outbox()
        self._context = context = Context(
            model,
            ContextOptions(
                cells_tokens=options.batch_tokens,
                sequences=MAX_TEXTS_PER_STEP,
                batch_tokens=options.batch_tokens,
                threads=options.threads,
                pooling=options.pooling,
            ),
        )
        self._stepper = PooledStepper(context, width, outbox)
        self._thread: EngineThread[Job | Drop] = EngineThread("llama-pooled", self._stepper, outbox)

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    @property
    def slots(self) -> int:
        """Requests whose texts may share the batches."""
        return self._options.slots

    @property
    def failure(self) -> str | None:
        """Why the engine can no longer run."""
        return self._thread.failure

    def stats(self) -> EngineStats:
        """What it is doing right now."""
        stats = self._stepper.stats
        return msgspec.structs.replace(stats, waiting=stats.waiting + self._thread.unread)

    @property
    def pulse(self) -> int | None:
        """Batches pooled so far, while there is work."""
        return self._thread.pulse

    def give_up(self, error: ApplianceError) -> None:
        """End every request with the error: a batch does not end."""
        self._context.give_up()
        self._thread.give_up(error)

    def close(self) -> None:
        """Drop what runs and free everything. Blocks; twice is fine."""
        self._thread.close()

    @property
    def context_length_tokens(self) -> int:
        """Tokens that one text may have."""
        return self._options.text_tokens

    async def tokenize(self, request: CompletionRequest | ChatRequest, *, add_special: bool = True) -> Tokens:
        """The tokens of a text as it would enter the model. Raises InvalidRequest for a conversation."""
        ids = await asyncio.to_thread(
            lambda: self._vocabulary.tokenize(plain_text(request), add_special=add_special, parse_special=False)
        )
        numbers = tuple(ids.tolist())
        return Tokens(ids=numbers, pieces=await asyncio.to_thread(self._vocabulary.pieces, numbers))

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids, control tokens included. Raises InvalidParameter."""
        ids = self._vocabulary.checked(tokens, "tokens")
        return await asyncio.to_thread(self._vocabulary.text, ids)

    async def _pool(self, texts: Sequence[Ints], *, normalize: bool) -> Vectors:
        reply: Reply[Vectors] = Reply()
        self._thread.submit(Job(reply, texts, normalize), reply)
        try:
            return await reply.wait()
        except asyncio.CancelledError:
            self._thread.post(Drop(reply))
            raise

    def _tokenized(self, texts: Sequence[Item], what: str, tokenize: Callable[[Item], Ints]) -> list[Ints]:
        """Tokens of every text. Raises PromptTooLong or InvalidParameter naming the text."""
        found = []
        for index, text in enumerate(texts):
            tokens = tokenize(text)
            if not len(tokens):
                raise InvalidParameter(f"{what}[{index}] is empty and this model adds no marks; send some text")
            if len(tokens) > self._options.text_tokens:
                raise _too_long(what, index, len(tokens), self._options.text_tokens)
            found.append(tokens)
        return found


class LlamaEmbeddingEngine(_PooledEngine):
    """``appliance.engines.base.EmbeddingEngine`` for GGUF weights."""

    def __init__(self, model: Model, options: PooledOptions) -> None:
        super().__init__(model, options, model.embedding_length)

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        """One vector per text. Raises PromptTooLong naming the text's index, InvalidRequest for images."""
        given = texts_only(request.texts)
        texts = await asyncio.to_thread(self._tokenized, given, "texts", self._text_tokens)
        normalize = self._options.normalize if request.normalize is None else request.normalize
        vectors = await self._pool(texts, normalize=normalize)
        return EmbeddingResult(vectors=vectors, tokens=sum(map(len, texts)))

    def _text_tokens(self, text: str | tuple[int, ...]) -> Ints:
        if not isinstance(text, str):
            return self._vocabulary.checked(text, "texts")
        return self._vocabulary.tokenize(text, parse_special=False)


class LlamaRerankingEngine(_PooledEngine):
    """``appliance.engines.base.RerankingEngine`` for GGUF weights with a classifier head."""

    def __init__(self, model: Model, options: PooledOptions) -> None:
        super().__init__(model, options, model.class_count)
        self._template = model.chat_template("rerank")

    async def rerank(self, request: RerankingRequest) -> RerankingResult:
        """One score per chunk, as the weights give it. Raises PromptTooLong naming the chunk's index."""
        pairing = _Pairing(self._vocabulary, self._template, request.query)
        pairs = await asyncio.to_thread(self._tokenized, request.chunks, "chunks", pairing.tokens)
        vectors = await self._pool(pairs, normalize=False)
        return RerankingResult(scores=[vector[0] for vector in vectors], tokens=sum(map(len, pairs)))


class _Pairing:
    """A query beside a chunk, as rank models read it: by their own template, or between marks."""

    def __init__(self, vocabulary: Vocabulary, template: str | None, query: str) -> None:
        self._vocabulary = vocabulary
        self._template = template.replace("{query}", query) if template else None
        self._query = self._plain(query) if template is None else None
        frame = vocabulary.tokenize("")
        self._begin, self._end = np.split(frame, [1 if vocabulary.adds_bos else 0])

    def tokens(self, chunk: str) -> Ints:
        """Tokens of the pair."""
        if self._template is not None:
            return self._vocabulary.tokenize(self._template.replace("{document}", chunk), add_special=False)
        vocabulary = self._vocabulary
        middle = [vocabulary.eos] * vocabulary.adds_eos + [vocabulary.sep] * vocabulary.adds_sep
        parts: list[Any] = [self._begin, self._query, middle or self._end, self._plain(chunk), self._end]
        return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])

    def _plain(self, text: str) -> Ints:
        return self._vocabulary.tokenize(text, add_special=False, parse_special=False)


def _too_long(what: str, index: int, tokens: int, most: int) -> PromptTooLong:
    error = PromptTooLong(tokens, most, hint=f"it is {what}[{index}]; split it")
    error.errors = [((what, index), f"{tokens} tokens, {most} are allowed")]
    return error


def _cancelled() -> ApplianceError:
    return NotReady("the engine was closed while the request ran; send it again")
