"""The official ``scale-gp`` client in strict mode: ranking chunks."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from scale_egp.sdk.client import EGPClient
from scale_egp.sdk.types.chunks import (
    Chunk,
    CrossEncoderRankStrategy,
    ModelRankParams,
    ModelRankStrategy,
    RougeRankStrategy,
)
from scale_gp import AsyncSGPClient, BadRequestError, NotFoundError, SGPClient, UnprocessableEntityError

from tests.contract.conftest import CallLog, Starters

QUERY = "how do I get a key?"
CHUNKS: list[Any] = [
    {"chunk_id": "1", "text": "bananas are yellow", "score": 0.9, "metadata": {"page": 1}, "title": "Fruit"},
    {"chunk_id": "2", "text": "a key is made by an admin", "score": 0.1, "embedding": [0.5, 0.25]},
    {"chunk_id": "3", "text": "rain", "score": 0.5, "attachment_url": "u", "user_supplied_metadata": {"a": [1]}},
]


def rank(sgp: SGPClient, strategy: dict[str, Any], **options: Any) -> Any:
    """The ranked chunks of a strategy."""
    return sgp.chunks.rank(query=QUERY, relevant_chunks=CHUNKS, rank_strategy=strategy, **options).relevant_chunks


def test_a_cross_encoder_without_params(sgp: SGPClient, starters: Starters, calls: CallLog, account_id: str) -> None:
    """The built-in reranker ranks: best first, with new scores that are never null, all else as it was sent."""
    with calls.one_more(starters.rerank) as logged:
        ranked = rank(sgp, {"method": "cross_encoder"}, account_id=account_id)
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v4", "RERANKING")
    assert ranked[0].chunk_id == "2"
    scores = [chunk.score for chunk in ranked]
    assert scores == sorted(scores, reverse=True)
    by_id = {chunk.chunk_id: chunk for chunk in ranked}
    assert by_id["1"].metadata == {"page": 1}
    assert (by_id["1"].title, by_id["2"].embedding) == ("Fruit", [0.5, 0.25])
    assert (by_id["3"].attachment_url, by_id["3"].user_supplied_metadata) == ("u", {"a": [1]})
    assert [chunk.chunk_id for chunk in rank(sgp, {"method": "cross_encoder"}, top_k=1)] == ["2"]
    assert [chunk.chunk_id for chunk in rank(sgp, {})] == [chunk.chunk_id for chunk in ranked]
    named = rank(sgp, {"params": {"cross_encoder_model": "any/Starter-Rerank"}})
    assert [chunk.score for chunk in named] == scores


def test_a_cross_encoder_that_is_not_here(sgp: SGPClient) -> None:
    """A name that somebody chose is a model to import; until then the refusal says what ranks without it."""
    strategy = {"method": "cross_encoder", "params": {"cross_encoder_model": "Qwen/Qwen3-Reranker-8B"}}
    with pytest.raises(NotFoundError, match="starter-rerank"):
        rank(sgp, strategy)


def test_rouge(sgp: SGPClient) -> None:
    """Word overlap by each metric and score, between 0 and 1; the default is the recall of pairs of words."""
    assert rank(sgp, {"method": "rouge"})[0].chunk_id == "2"  # "a key"
    for metric in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        for score in ("recall", "precision", "fmeasure"):
            ranked = rank(sgp, {"method": "rouge", "params": {"metric": metric, "score": score}})
            assert ranked[0].chunk_id == "2"
            assert all(0 <= chunk.score <= 1 for chunk in ranked)
    with pytest.raises(UnprocessableEntityError, match="metric"):
        rank(sgp, {"method": "rouge", "params": {"metric": "bleu"}})


def test_a_model(sgp: SGPClient, starters: Starters) -> None:
    """A deployment's id or a model's name; the query and chunks that a client puts into ``model_params`` do no harm."""
    expected = [chunk.score for chunk in rank(sgp, {"method": "cross_encoder"})]
    for params in (
        {"model_deployment_id": starters.rerank},
        {"base_model_name": "starter-rerank"},
        {"base_model_name": "any/starter-rerank", "model_params": {"query": QUERY, "chunks": CHUNKS}},
    ):
        assert [chunk.score for chunk in rank(sgp, {"method": "model", "params": params})] == expected
    with pytest.raises(UnprocessableEntityError, match="either"):
        rank(sgp, {"method": "model"})
    with pytest.raises(UnprocessableEntityError, match="colour"):
        rank(sgp, {"params": {"base_model_name": "starter-rerank", "model_params": {"colour": 1}}})
    with pytest.raises(BadRequestError, match="CHAT_COMPLETION"):
        rank(sgp, {"params": {"base_model_name": "starter-chat"}})


def test_what_is_not_served_is_refused(sgp: SGPClient) -> None:
    """An endpoint on the internet, parameters of another method, and numbers out of range."""
    azure = {"method": "azure_ai_foundry", "params": {"endpoint_url": "https://x.example", "endpoint_api_key": "k"}}
    with pytest.raises(BadRequestError, match="upstream"):
        rank(sgp, azure)
    with pytest.raises(UnprocessableEntityError, match="metric"):
        rank(sgp, {"method": "cross_encoder", "params": {"metric": "rouge1"}})
    with pytest.raises(UnprocessableEntityError, match="several methods"):
        rank(sgp, {"params": {"metric": "rouge1", "base_model_name": "starter-rerank"}})
    with pytest.raises(UnprocessableEntityError, match="top_k"):
        rank(sgp, {}, top_k=0)


async def test_the_asynchronous_client_ranks_nothing(async_sgp: AsyncSGPClient) -> None:
    """No chunks are ranked to no chunks."""
    ranked = await async_sgp.chunks.rank(query=QUERY, relevant_chunks=[], rank_strategy={"method": "cross_encoder"})
    assert ranked.relevant_chunks == []


def test_v2s_client_ranks_too(egp: EGPClient, starters: Starters, calls: CallLog) -> None:
    """It sends nulls, and puts the query and whole chunks into ``model_params`` (contract 2.9)."""
    chunks = [Chunk(chunk_id=c["chunk_id"], text=c["text"], score=None) for c in CHUNKS]
    strategy = ModelRankStrategy(params=ModelRankParams(base_model_name="starter-rerank"))
    with calls.one_more(starters.rerank) as logged:
        ranked = egp.chunks().rank(QUERY, chunks, strategy, top_k=2)
    assert ranked[0].chunk_id == "2"
    assert (len(ranked), logged["dialect"]) == (2, "sgp_v2")
    assert egp.chunks().rank(QUERY, chunks, RougeRankStrategy())[0].chunk_id == "2"


def test_v2s_client_names_a_cross_encoder_by_itself(egp: EGPClient, starters: Starters, calls: CallLog) -> None:
    """Nobody has chosen it, so the built-in reranker ranks, as it does without a name."""
    chunks = [Chunk(chunk_id=c["chunk_id"], text=c["text"], score=None) for c in CHUNKS]
    with calls.one_more(starters.rerank) as logged:
        ranked = egp.chunks().rank(QUERY, chunks, CrossEncoderRankStrategy())
    assert (ranked[0].chunk_id, logged["dialect"]) == ("2", "sgp_v2")


def test_the_answer_says_what_ranked(sgp: SGPClient) -> None:
    """In a header, which no client's shape minds; word overlap is no model."""
    named = {"method": "cross_encoder", "params": {"cross_encoder_model": "cross-encoder/ms-marco-MiniLM-L-12-v2"}}
    by = {}
    strategies: dict[str, Any] = {"named": named, "default": {}, "rouge": {"method": "rouge"}}
    for name, strategy in strategies.items():
        answer = sgp.chunks.with_raw_response.rank(
            query=QUERY,
            relevant_chunks=CHUNKS,
            rank_strategy=strategy,
        )
        by[name] = answer.headers.get("x-ranked-by")
    assert by == {"named": "starter-rerank", "default": "starter-rerank", "rouge": None}


def test_the_older_prefix(member: httpx.Client, calls: CallLog, starters: Starters) -> None:
    """``/egp/v1`` ranks with the same body."""
    body = {"query": QUERY, "relevant_chunks": CHUNKS, "rank_strategy": {"method": "cross_encoder"}}
    with calls.one_more(starters.rerank) as logged:
        ranked = member.post("/egp/v1/chunks/rank", json=body).json()["relevant_chunks"]
    assert (ranked[0]["chunk_id"], logged["dialect"]) == ("2", "egp_v1")
