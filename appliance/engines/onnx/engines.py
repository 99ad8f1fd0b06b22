"""The engines: embedding, of texts alone or of images too, and reranking; an encoder and the collector that batches for
it make each.

Made by ``backend`` in a worker thread; requests come on the event loop. Tokenizing more than a few sentences runs in
worker threads, everything that touches the session in the collector's. Engines over the same weights share the session,
each with a tokenizer and a collector of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from appliance.domain.errors import ApplianceError, InvalidParameter, NotReady, WrongWeights
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingResult,
    Image,
    RerankingRequest,
    RerankingResult,
    Tokens,
)
from appliance.domain.models import ModelType
from appliance.engines.base import EngineSpec, EngineStats, Placement, plain_text, texts_only
from appliance.engines.onnx.collector import Collector, Work
from appliance.engines.onnx.encoder import Encoder
from appliance.engines.onnx.line import Line
from appliance.engines.onnx.pixels import encode_picture
from appliance.engines.onnx.preprocessing import Preprocessing
from appliance.engines.onnx.settings import (
    CROSS_ENCODER,
    IMAGES_PER_HOP,
    LATE_INTERACTION,
    PASS_TOKENS,
    Settings,
)
from appliance.engines.onnx.tasks import (
    POOLINGS,
    EncodedImage,
    EncodedText,
    Floats,
    max_similarity,
    relevance,
    unit,
)
from appliance.engines.pictures import decode

QUICK_CHARACTERS: Final = 4096
"""Texts up to this length together are tokenized on the loop: a hop to another thread would take longer."""
TEXTS_PER_HOP: Final = 64
"""Texts that a worker thread tokenizes at once, so that others get their turn, and who leaves is not worked for."""


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
        """Token ids of texts, or of what is ids already. Raises PromptTooLong, InvalidParameter."""
        words = [text for text in texts if isinstance(text, str)]
        if len(words) == len(texts):
            return await self._encode(words, subject)
        if words:
            raise InvalidParameter("token ids and anything else cannot be mixed in one request; send two")
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
        """One vector per text. Raises PromptTooLong naming the text's index, InvalidRequest for images.

        Cancelling the task cancels the work.
        """
        texts = await self._given(texts_only(request.texts), "text {index}")
        finish = self._finish(request)
        vectors = await self._collector.submit([Work(text, finish) for text in texts])
        return EmbeddingResult(vectors=vectors, tokens=sum(map(len, texts)))

    def _finish(self, request: EmbeddingRequest) -> Callable[[Floats], list[float]]:
        return self._unit_vector if _either(request.normalize, self._normalize) else self._vector

    def _vector(self, output: Floats) -> list[float]:
        vector: list[float] = self._pool(output).tolist()
        return vector

    def _unit_vector(self, output: Floats) -> list[float]:
        vector: list[float] = unit(self._pool(output)).tolist()
        return vector


class OnnxImageEmbeddingEngine(OnnxEmbeddingEngine):
    """Texts and images to vectors of one space."""

    def __init__(self, encoder: Encoder, settings: Settings, how: Preprocessing, slots: int) -> None:
        super().__init__(encoder, settings, slots)
        self._how = how
        self._decoder = ThreadPoolExecutor(1, "onnx-images")  # an image takes much RAM while it is decoded

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        """One vector per text or image. Raises PromptTooLong, InvalidRequest naming its index.

        Cancelling the task cancels the work.
        """
        finish = self._finish(request)
        images = {place: each for place, each in enumerate(request.texts) if isinstance(each, Image)}
        texts = await self._given(["" if isinstance(each, Image) else each for each in request.texts], "text {index}")
        words = {place: text for place, text in enumerate(texts) if place not in images}
        vectors = await self._collector.submit([Work(text, finish) for text in words.values()])
        found = dict(zip(words, vectors, strict=True))
        places = list(images)
        for start in range(0, len(places), IMAGES_PER_HOP):
            some = places[start : start + IMAGES_PER_HOP]
            works = [Work(await self._encoded(images[place], f"image {place}"), finish) for place in some]
            found |= zip(some, await self._collector.submit(works), strict=True)
        tokens = sum(map(len, words.values())) + len(images) * self._encoder.image_tokens
        return EmbeddingResult(vectors=[found[place] for place in range(len(request.texts))], tokens=tokens)

    async def _encoded(self, image: Image, where: str) -> EncodedImage:
        try:
            encoding = asyncio.get_running_loop().run_in_executor(self._decoder, self._encode_image, image, where)
        except RuntimeError:
            raise NotReady("the engine was unloaded while this request waited; send it again") from None
        return await encoding

    def _encode_image(self, image: Image, where: str) -> EncodedImage:
        return encode_picture(decode(image, where), self._how, self._encoder.image_tokens, where)

    def close(self) -> None:
        """Let the running batch end, then free everything; blocks. Twice is fine."""
        super().close()
        self._decoder.shutdown()


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
            if settings.images is not None:
                return OnnxImageEmbeddingEngine(encoder, settings, settings.images, spec.slots)
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
