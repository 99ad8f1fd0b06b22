"""Vectors and scores from real encoder weights, in batches that nobody notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from appliance.domain.errors import Internal, InvalidParameter, InvalidRequest, NotReady, PromptTooLong
from appliance.domain.inference import ChatRequest, CompletionRequest, EmbeddingRequest, Message, RerankingRequest
from appliance.engines.base import EmbeddingEngine, RerankingEngine, Tokenizing
from appliance.engines.llama.pooling import (
    MAX_TEXTS_PER_STEP,
    Drop,
    Job,
    LlamaEmbeddingEngine,
    LlamaRerankingEngine,
    PooledOptions,
    PooledStepper,
)
from appliance.engines.llama.runtime import Context, ContextOptions, Model
from appliance.engines.stream import Outbox
from tests.engines.llama.by_hand import Reader

OPTIONS = PooledOptions(text_tokens=32, batch_tokens=64, slots=4, threads=1, pooling="mean")
TEXTS = tuple(f"the {word} of the model" for word in ("answer", "question", "one", "they")) * 10


@pytest.fixture
async def embedder(bert: Path) -> AsyncIterator[LlamaEmbeddingEngine]:
    engine = LlamaEmbeddingEngine(Model(bert), OPTIONS)
    yield engine
    engine.close()


@pytest.fixture
async def ranker(rank_bert: Path) -> AsyncIterator[LlamaRerankingEngine]:
    engine = LlamaRerankingEngine(
        Model(rank_bert), PooledOptions(text_tokens=32, batch_tokens=64, slots=4, threads=1, pooling="rank")
    )
    yield engine
    engine.close()


async def test_a_text_has_one_vector_whatever_it_is_batched_with(embedder: LlamaEmbeddingEngine) -> None:
    """Forty texts at once in several batches: each vector is the one the text has alone, in order."""
    assert isinstance(embedder, EmbeddingEngine)
    alone = [(await embedder.embed(EmbeddingRequest(texts=(text,)))).vectors[0] for text in TEXTS[:4]]
    together = await embedder.embed(EmbeddingRequest(texts=TEXTS))
    assert np.allclose(together.vectors, alone * 10, atol=1e-5)
    assert together.tokens == len(TEXTS) * 7
    assert embedder.stats().active == 0


async def test_requests_share_batches_and_get_their_own(embedder: LlamaEmbeddingEngine) -> None:
    """Concurrent requests are answered each with its own texts' vectors."""
    one, other = EmbeddingRequest(texts=TEXTS[:3]), EmbeddingRequest(texts=TEXTS[1:2])
    results = await asyncio.gather(*(embedder.embed(each) for each in (one, other, one)))
    assert np.allclose(results[0].vectors, results[2].vectors, atol=1e-5)
    assert np.allclose(results[0].vectors[1], results[1].vectors[0], atol=1e-5)


async def test_token_ids_are_a_text(embedder: LlamaEmbeddingEngine) -> None:
    """The ids that a text has give its vector; ids of no token are refused by their number."""
    tokens = await embedder.tokenize(CompletionRequest(prompt=TEXTS[0]))
    words, ids = [await embedder.embed(EmbeddingRequest(texts=(each,))) for each in (TEXTS[0], tokens.ids)]
    assert np.allclose(words.vectors, ids.vectors, atol=1e-5)
    assert words.tokens == ids.tokens == len(tokens.ids)
    with pytest.raises(InvalidParameter, match="token 9999"):
        await embedder.embed(EmbeddingRequest(texts=((9999,),)))


async def test_pooling_engines_hold_no_conversations(ranker: LlamaRerankingEngine) -> None:
    """They count texts, and say so when they are sent messages."""
    assert isinstance(ranker, Tokenizing)
    assert ranker.context_length_tokens == 32
    bare = await ranker.tokenize(CompletionRequest(prompt="the model"), add_special=False)
    assert (await ranker.detokenize(bare.ids)).replace("▁", " ").strip() == "the model"
    with pytest.raises(InvalidRequest, match="messages"):
        await ranker.tokenize(ChatRequest(messages=(Message(role="user", content="hello"),)))


async def test_vectors_have_length_one_unless_asked_otherwise(embedder: LlamaEmbeddingEngine) -> None:
    """Scaled by default, raw on request, in one direction."""
    scaled = (await embedder.embed(EmbeddingRequest(texts=TEXTS[:1]))).vectors[0]
    raw = (await embedder.embed(EmbeddingRequest(texts=TEXTS[:1], normalize=False))).vectors[0]
    assert np.linalg.norm(scaled) == pytest.approx(1.0, abs=1e-5)
    assert np.linalg.norm(raw) != pytest.approx(1.0, abs=1e-2)
    assert np.allclose(np.array(raw) / np.linalg.norm(raw), scaled, atol=1e-5)


async def test_a_decoder_can_embed(weights: Path) -> None:
    """Generating weights pool too, and batches do not see each other through the cache."""
    engine = LlamaEmbeddingEngine(
        Model(weights), PooledOptions(text_tokens=64, batch_tokens=64, slots=2, threads=1, pooling="last")
    )
    alone = [(await engine.embed(EmbeddingRequest(texts=(text,)))).vectors[0] for text in TEXTS[:4]]
    together = await engine.embed(EmbeddingRequest(texts=TEXTS))
    assert np.allclose(together.vectors, alone * 10, atol=1e-4)
    engine.close()


async def test_a_long_text_is_named(embedder: LlamaEmbeddingEngine, ranker: LlamaRerankingEngine) -> None:
    """The index of the text or chunk and both numbers; nothing is cut."""
    with pytest.raises(PromptTooLong, match=r"42 tokens.*takes 32.*texts\[1\]") as raised:
        await embedder.embed(EmbeddingRequest(texts=("the", "the " * 40)))
    assert raised.value.errors[0][0] == ("texts", 1)
    with pytest.raises(PromptTooLong, match=r"chunks\[2\]"):
        await ranker.rerank(RerankingRequest(query="the", chunks=("a", "a", "a " * 40)))


async def test_every_chunk_gets_its_score(ranker: LlamaRerankingEngine) -> None:
    """Scores come in the order of the chunks and do not depend on what else is asked."""
    assert isinstance(ranker, RerankingEngine)
    chunks = ("a question", "an answer", "the model", "they")
    together = await ranker.rerank(RerankingRequest(query="the model", chunks=chunks))
    alone = [(await ranker.rerank(RerankingRequest(query="the model", chunks=(c,)))).scores[0] for c in chunks]
    assert together.scores == pytest.approx(alone, abs=1e-4)
    assert len(set(together.scores)) == 4
    single = await ranker.rerank(RerankingRequest(query="the model", chunks=chunks[:1]))
    assert single.tokens == len(("[CLS]", "the", "model", "[SEP]", "a", "question", "[SEP]"))


async def test_a_request_that_is_cancelled_is_dropped(embedder: LlamaEmbeddingEngine) -> None:
    """Its remaining texts are not computed, and the next request is answered."""
    task = asyncio.create_task(embedder.embed(EmbeddingRequest(texts=TEXTS * 20)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len((await embedder.embed(EmbeddingRequest(texts=TEXTS[:2]))).vectors) == 2


def test_a_dropped_job_leaves_the_others(bert: Path) -> None:
    """Between two steps: one job goes away, the other is finished in as few batches as it needs."""
    model = Model(bert)
    options = ContextOptions(cells_tokens=64, sequences=MAX_TEXTS_PER_STEP, batch_tokens=64, threads=1, pooling="mean")
    outbox = Outbox()
    stepper = PooledStepper(Context(model, options), model.embedding_length, outbox)
    texts = [model.vocabulary.tokenize(text) for text in TEXTS]
    leaving, staying = Reader(), Reader()
    stepper.take(Job(leaving, texts, True))
    stepper.take(Job(staying, texts[:3], True))
    stepper.step()
    assert (stepper.stats.active, stepper.stats.waiting) == (1, 1)
    stepper.take(Drop(leaving))
    assert stepper.step() is False
    assert stepper.steps == 2
    stepper.close()


async def test_closing_ends_what_runs(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request under way learns that it can be sent again; a later one that there is no engine."""
    engine = LlamaEmbeddingEngine(Model(bert), OPTIONS)
    under_way = threading.Event()
    step = engine._stepper.step

    def told() -> bool:
        under_way.set()
        return step()

    monkeypatch.setattr(engine._stepper, "step", told)
    task = asyncio.create_task(engine.embed(EmbeddingRequest(texts=TEXTS * 50)))
    assert await asyncio.to_thread(under_way.wait, 60)
    await asyncio.to_thread(engine.close)
    with pytest.raises((NotReady, Internal)):
        await task
    with pytest.raises(Internal):
        await engine.embed(EmbeddingRequest(texts=("a",)))


async def test_a_fault_reaches_every_request(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a step is an Internal for all, and the engine says why it failed."""
    engine = LlamaEmbeddingEngine(Model(bert), OPTIONS)
    monkeypatch.setattr(engine._stepper._context, "decode", lambda: False)
    with pytest.raises(Internal, match="empty cache"):
        await engine.embed(EmbeddingRequest(texts=TEXTS))
    assert engine.failure is not None
    engine.close()
