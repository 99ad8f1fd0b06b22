"""The two engines: embedding and reranking, each a tokenizer, a session and the collector that batches for it.

Made by ``backend`` in a worker thread; requests come on the event loop. Tokenizing more than a few sentences runs in
worker threads, everything that touches the session in the collector's. Engines over the same weights share the session,
each with a tokenizer and a collector of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from appliance.domain.errors import ApplianceError, BadWeights, InvalidParameter, WrongWeights
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingResult,
    RerankingRequest,
    RerankingResult,
    Tokens,
)
from appliance.domain.models import ModelType
from appliance.engines.base import CPU, EngineSpec, EngineStats, Placement, plain_text
from appliance.engines.onnx.collector import Collector, Work
from appliance.engines.onnx.line import Line
from appliance.engines.onnx.session import Session
from appliance.engines.onnx.settings import CROSS_ENCODER, LATE_INTERACTION, PASS_TOKENS, Settings, session_key
from appliance.engines.onnx.tasks import POOLINGS, EncodedText, Floats, max_similarity, pad, relevance, unit, unpad
from appliance.engines.onnx.text import Tokenizer
from appliance.engines.shared import WEIGHTS

QUICK_CHARACTERS: Final = 4096
"""Texts up to this length together are tokenized on the loop: a hop to another thread would take longer."""
TEXTS_PER_HOP: Final = 64
"""Texts that a worker thread tokenizes at once, so that others get their turn, and who leaves is not worked for."""


class Encoder:
    """A loaded graph with its tokenizer: texts in, token vectors or rows of numbers out."""

    def __init__(self, spec: EngineSpec, settings: Settings, placement: Placement, limit_bytes: int) -> None:
        """Load, and run a first pass to see what the graph gives; blocks.

        Raises BadWeights, WrongWeights, CannotFit.
        """
        self.tokenizer = Tokenizer(
            spec.weights / "tokenizer.json",
            max_tokens=settings.max_tokens,
            vocabulary_size=spec.card.vocabulary_size,
        )
        model, threads = spec.weights / "model.onnx", settings.threads
        if placement.gpus:
            key, device = placement.weights_key or session_key(spec, settings), placement.gpus[0].device
            load = partial(Session, model, device=device, threads=threads, limit_bytes=limit_bytes)
        else:
            key, load = session_key(spec, settings), partial(Session, model, device=CPU, threads=threads)
        self._hold = WEIGHTS.load(key, load)
        self.session = self._hold.weights
        self.sample = self._first_pass()

    def run(self, texts: Sequence[EncodedText]) -> list[Floats]:
        """One batch. What the runtime raises means a broken session: whoever loads next gets another one."""
        batch = pad(texts, self.tokenizer.pad_id)
        try:
            return unpad(self.session.run(batch), texts)
        except Exception:
            self.spoil()
            raise

    def spoil(self) -> None:
        """Whoever comes next over these weights gets a session of their own."""
        self._hold.spoil()

    def close(self) -> None:
        """Let go of the session, which is freed when no other engine has it. Twice is fine."""
        self._hold.release()

    @property
    def gives_token_vectors(self) -> bool:
        """Whether a text's output is [tokens, width], else one row of numbers."""
        return self.sample.ndim == 2

    def _first_pass(self) -> Floats:
        try:
            (output,) = self.run(self.tokenizer.encode([""], "an empty text"))
        except Exception as error:  # the runtime's exceptions share no base of their own
            self.close()
            raise BadWeights(f"the model's first pass failed: {str(error)[:500]}") from error
        if output.ndim not in (1, 2) or not np.isfinite(output).all():
            self.close()
            raise WrongWeights(f"output '{self.session.output_name}' is no vector per token or per text of numbers")
        return output


class _OnnxEngine:
    """What both engines share."""

    def __init__(self, encoder: Encoder, settings: Settings, slots: int) -> None:
        self._encoder = encoder
        self._slots = slots
        line: Line[Any] = Line(settings.batch_tokens, PASS_TOKENS[settings.device])
        self._collector = Collector(encoder.run, line, name="onnx-collector")

    async def _encode(self, texts: Sequence[str] | Sequence[tuple[str, str]], subject: str) -> list[EncodedText]:
        """Token ids. Raises PromptTooLong; ``subject`` is a format that takes the text's index."""
        tokenizer = self._encoder.tokenizer
        if sum(map(_characters, texts)) <= QUICK_CHARACTERS:
            return tokenizer.encode_here(texts, subject)
        encoded: list[EncodedText] = []
        for start in range(0, len(texts), TEXTS_PER_HOP):
            some = texts[start : start + TEXTS_PER_HOP]
            encoded += await asyncio.to_thread(tokenizer.encode, some, subject, start)
        return encoded

    async def _given(self, texts: Sequence[str | tuple[int, ...]], subject: str) -> list[EncodedText]:
        """Token ids of texts, of which some may be ids already. Raises PromptTooLong, InvalidParameter."""
        words = [text for text in texts if isinstance(text, str)]
        if len(words) == len(texts):
            return await self._encode(words, subject)
        if words:
            raise InvalidParameter("texts and token ids cannot be mixed in one request; send two")
        ids = [text for text in texts if not isinstance(text, str)]
        return self._encoder.tokenizer.given(ids, subject)

    @property
    def context_length_tokens(self) -> int:
        """Tokens that one text may have."""
        return self._encoder.tokenizer.max_tokens

    async def tokenize(self, request: CompletionRequest | ChatRequest, *, add_special: bool = True) -> Tokens:
        """The tokens of a text as it would enter the model. Raises InvalidRequest for a conversation."""
        text = plain_text(request)
        return await asyncio.to_thread(self._encoder.tokenizer.tokens, text, add_special=add_special)

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids, as far as the tokenizer can restore it. Raises InvalidParameter."""
        return await asyncio.to_thread(self._encoder.tokenizer.text, tokens)

    @property
    def device(self) -> str:
        """The device of the built session."""
        return self._encoder.session.device

    @property
    def slots(self) -> int:
        """Requests that run at once; further ones wait in the same queue."""
        return self._slots

    @property
    def failure(self) -> str | None:
        """Why the engine can no longer run, or None while it is sound."""
        return self._collector.failure

    def stats(self) -> EngineStats:
        """Requests in the running batch, and requests that wait."""
        return self._collector.stats()

    @property
    def pulse(self) -> int | None:
        """Batches completed so far, while there is work."""
        return self._collector.pulse

    def give_up(self, error: ApplianceError) -> None:
        """End every request with the error: a batch does not end. Its session may be locked for good."""
        self._encoder.spoil()
        self._collector.give_up(error)

    def close(self) -> None:
        """Let the running batch end, then free everything; blocks. Twice is fine."""
        self._collector.close()
        self._encoder.close()


class OnnxEmbeddingEngine(_OnnxEngine):
    """Texts to vectors."""

    def __init__(self, encoder: Encoder, settings: Settings, slots: int) -> None:
        super().__init__(encoder, settings, slots)
        self._pool = POOLINGS[settings.pooling] if encoder.gives_token_vectors else np.asarray
        self._normalize = settings.normalize

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        """One vector per text. Raises PromptTooLong naming the text's index. Cancelling the task cancels the work."""
        texts = await self._given(request.texts, "text {index}")
        finish = self._unit_vector if _either(request.normalize, self._normalize) else self._vector
        vectors = await self._collector.submit([Work(text, finish) for text in texts])
        return EmbeddingResult(vectors=vectors, tokens=sum(map(len, texts)))

    def _vector(self, output: Floats) -> list[float]:
        vector: list[float] = self._pool(output).tolist()
        return vector

    def _unit_vector(self, output: Floats) -> list[float]:
        vector: list[float] = unit(self._pool(output)).tolist()
        return vector


class CrossEncoderEngine(_OnnxEngine):
    """Each chunk is read together with the query; the graph's own score comes out, as it is."""

    async def rerank(self, request: RerankingRequest) -> RerankingResult:
        """One score per chunk. Raises PromptTooLong naming the chunk's index. Cancelling cancels the work."""
        pairs = [(request.query, chunk) for chunk in request.chunks]
        texts = await self._encode(pairs, "the query with chunk {index}")
        scores = await self._collector.submit([Work(text, relevance) for text in texts])
        return RerankingResult(scores=scores, tokens=sum(map(len, texts)))


class LateInteractionEngine(_OnnxEngine):
    """Query and chunks are read apart and compared token by token; any embedding model can do it."""

    async def rerank(self, request: RerankingRequest) -> RerankingResult:
        """One score in [-1, 1] per chunk. Raises PromptTooLong naming the chunk. Cancelling cancels the work."""
        (query,) = await self._encode([request.query], "the query")
        chunks = await self._encode(request.chunks, "chunk {index}")
        comparison = _Comparison()
        works = [comparison.query(query), *map(comparison.chunk, chunks)]
        _, *scores = await self._collector.submit(works, opening=0)
        return RerankingResult(scores=scores, tokens=len(query) + sum(map(len, chunks)))


class _Comparison:
    """One request's query, once it has run, and what its chunks score against it."""

    def __init__(self) -> None:
        self._query = np.empty((0, 0), np.float32)

    def query(self, text: EncodedText) -> Work[float]:
        return Work(text, lambda output: self._keep(unit(output[text.content])))

    def chunk(self, text: EncodedText) -> Work[float]:
        return Work(text, lambda output: max_similarity(self._query, output[text.content]))

    def _keep(self, query: Floats) -> float:
        self._query = query
        return 1.0  # with itself


def load_engine(
    spec: EngineSpec, settings: Settings, placement: Placement, limit_bytes: int
) -> OnnxEmbeddingEngine | CrossEncoderEngine | LateInteractionEngine:
    """The engine for the spec's model type where it is placed, on a GPU within ``limit_bytes``; blocks.

    Raises BadWeights, WrongWeights, CannotFit.
    """
    encoder = Encoder(spec, settings, placement, limit_bytes)
    try:
        if spec.model_type is ModelType.EMBEDDING:
            _check_embedding(encoder, spec)
            return OnnxEmbeddingEngine(encoder, settings, spec.slots)
        if _scoring(encoder, settings) == CROSS_ENCODER:
            return CrossEncoderEngine(encoder, settings, spec.slots)
        return LateInteractionEngine(encoder, settings, spec.slots)
    except WrongWeights:
        encoder.close()
        raise


def _check_embedding(encoder: Encoder, spec: EngineSpec) -> None:
    if encoder.session.output_name == "logits":
        raise WrongWeights("the graph gives 'logits', not vectors; weights for embedding are needed")
    if "pooling" in spec.parameters and not encoder.gives_token_vectors:
        raise WrongWeights(
            f"parameter 'pooling': output '{encoder.session.output_name}' is one vector per text, pooled by the graph; "
            f"leave the parameter out"
        )


def _scoring(encoder: Encoder, settings: Settings) -> str:
    """What the parameter says if the graph can do it, else what the graph can do. Raises WrongWeights."""
    possible = LATE_INTERACTION if encoder.gives_token_vectors else CROSS_ENCODER
    name, width = encoder.session.output_name, encoder.sample.shape[-1]
    if settings.scoring not in (None, possible):
        kind = "a vector per token" if encoder.gives_token_vectors else "one row of numbers per text"
        raise WrongWeights(f"parameter 'scoring': output '{name}' is {kind}, which suits '{possible}' only")
    if possible == CROSS_ENCODER and width not in (1, 2):
        raise WrongWeights(f"output '{name}' has {width} numbers per text; a cross-encoder gives 1 or 2")
    return possible


def _characters(text: str | tuple[str, str]) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))


def _either(first: bool | None, second: bool) -> bool:
    return second if first is None else first
