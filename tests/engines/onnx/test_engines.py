"""The engines over tiny folders, where every number can be computed by hand, and over the starter's real weights."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.domain.errors import BadWeights, Internal, NotReady, PromptTooLong, WrongWeights
from appliance.domain.inference import EmbeddingRequest, RerankingRequest
from appliance.domain.models import ModelType
from appliance.engines.base import EmbeddingEngine, RerankingEngine
from appliance.engines.onnx.backend import OnnxBackend
from tests.engines.onnx.conftest import Load, MakeSpec
from tests.support.onnx_folders import (
    POSITIONS,
    VOCABULARY,
    WIDTH,
    Table,
    random_table,
    write_cross_encoder,
    write_encoder,
    write_pooled_encoder,
)
from tests.support.starter_embed import golden

TABLE = random_table()
FACTS = Path(__file__).parents[3] / "models_store" / "recipes" / "starter_chat" / "facts.toml"
SENTENCES = tuple(re.findall(r'^answer = "(.+)"$', FACTS.read_text(), re.MULTILINE))
"""Sentences of the appliance's own domain."""
TEXTS = ("red green", "cat", "one two three blue dog")


def rows(text: str) -> Table:
    """A text's token vectors with its special tokens, in a tiny encoder."""
    return TABLE[[VOCABULARY.index(token) for token in ("[CLS]", *text.split(), "[SEP]")]]


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


async def vectors(engine: EmbeddingEngine, *texts: str, normalize: bool | None = None) -> Table:
    result = await engine.embed(EmbeddingRequest(texts=texts, normalize=normalize))
    return np.array(result.vectors, np.float32)


class TestEmbedding:
    """Texts to vectors over a tiny encoder."""

    def test_is_an_embedding_engine_only(self, encoder: Path, load: Load) -> None:
        """The lifecycle tells engines apart by what they can do."""
        engine = load(encoder)

        assert isinstance(engine, EmbeddingEngine)
        assert not isinstance(engine, RerankingEngine)
        assert (engine.device, engine.slots, engine.failure) == ("cpu", 10, None)

    @pytest.mark.parametrize(
        ("pooling", "expected"),
        [
            ("mean", [rows(text).mean(axis=0) for text in TEXTS]),
            ("cls", [rows(text)[0] for text in TEXTS]),
            ("last", [rows(text)[-1] for text in TEXTS]),
        ],
        ids=["mean", "cls", "last"],
    )
    async def test_pooling(self, encoder: Path, load: Load, pooling: str, expected: list[Table]) -> None:
        """Each pooling gives what numpy gives, without the padding of the batch."""
        engine = load(encoder, pooling=pooling, normalize=False)

        np.testing.assert_allclose(await vectors(engine, *TEXTS), expected, atol=1e-6)

    async def test_unit_vectors_unless_told_otherwise(self, encoder: Path, load: Load) -> None:
        """The deployment normalizes by default; a request may ask for the other."""
        engine = load(encoder)
        raw = rows("cat").mean(axis=0)

        np.testing.assert_allclose(await vectors(engine, "cat"), [unit(raw)], atol=1e-6)
        np.testing.assert_allclose(await vectors(engine, "cat", normalize=False), [raw], atol=1e-6)

    async def test_tokens_are_counted(self, encoder: Path, load: Load) -> None:
        """The count has the special tokens, and no padding."""
        assert (await load(encoder).embed(EmbeddingRequest(texts=TEXTS))).tokens == 4 + 3 + 7

    async def test_no_texts(self, encoder: Path, load: Load) -> None:
        """Nothing in, nothing out."""
        assert (await load(encoder).embed(EmbeddingRequest(texts=()))).vectors == []

    async def test_pooled_graph(self, tmp_path: Path, load: Load) -> None:
        """A graph that ends in one vector per text is used as it is."""
        engine = load(write_pooled_encoder(tmp_path / "pooled", TABLE), normalize=False)

        np.testing.assert_allclose(await vectors(engine, *TEXTS), [rows(t).sum(axis=0) for t in TEXTS], atol=1e-5)

    def test_pooled_graph_takes_no_pooling(self, tmp_path: Path, spec_of: MakeSpec) -> None:
        """A parameter that could not have an effect is refused by name."""
        folder = write_pooled_encoder(tmp_path / "pooled", TABLE)

        with pytest.raises(WrongWeights, match="parameter 'pooling'"):
            OnnxBackend().load(spec_of(folder, pooling="cls"))

    async def test_too_long_names_the_text(self, encoder: Path, load: Load) -> None:
        """Which text, how many tokens, how many are taken; nothing was cut."""
        long = "red " * POSITIONS

        with pytest.raises(
            PromptTooLong, match=f"text 1 has {POSITIONS + 2} tokens, this deployment takes {POSITIONS}"
        ):
            await load(encoder).embed(EmbeddingRequest(texts=("cat", long)))

    async def test_too_long_names_the_text_of_a_long_list(self, encoder: Path, load: Load) -> None:
        """The index counts from the list's beginning, however the list was shared out for tokenizing."""
        texts = ("red " * 20,) * 200 + ("red " * POSITIONS,)

        with pytest.raises(PromptTooLong, match="text 200 has"):
            await load(encoder).embed(EmbeddingRequest(texts=texts))

    async def test_concurrent_requests_keep_apart(self, encoder: Path, load: Load) -> None:
        """Requests that share batches get their own vectors."""
        engine = load(encoder, normalize=False)
        asked = [("cat",) * (i % 3) + ("red " * i,) for i in range(1, 20)]

        answered = await asyncio.gather(*(vectors(engine, *texts) for texts in asked))

        for texts, found in zip(asked, answered, strict=True):
            np.testing.assert_allclose(found, [rows(text).mean(axis=0) for text in texts], atol=1e-5)


class TestFailure:
    """A session that breaks, an engine that is gone."""

    async def test_broken_session(self, tmp_path: Path, load: Load) -> None:
        """A graph that native code cannot run to its end refuses the request and says so from then on."""
        engine = load(write_encoder(tmp_path / "short", random_table(rows=6)))

        with pytest.raises(Internal, match="the ONNX engine stopped"):
            await engine.embed(EmbeddingRequest(texts=("dog",)))

        assert "indices element out of data bounds" in engine.failure

    def test_first_pass_that_fails(self, tmp_path: Path, spec_of: MakeSpec) -> None:
        """A graph that cannot even take an empty text is refused at the load."""
        with pytest.raises(BadWeights, match="the model's first pass failed"):
            OnnxBackend().load(spec_of(write_encoder(tmp_path / "shorter", random_table(rows=2))))

    def test_numbers_that_are_none(self, tmp_path: Path, spec_of: MakeSpec) -> None:
        """Weights that give NaN are refused at the load, not answered with."""
        with pytest.raises(WrongWeights, match="of numbers"):
            OnnxBackend().load(spec_of(write_encoder(tmp_path / "nan", TABLE * np.float32("nan"))))

    async def test_closed(self, encoder: Path, load: Load) -> None:
        """Closing twice is fine; a later request is told to come again."""
        engine = load(encoder)
        engine.close()
        engine.close()

        with pytest.raises(NotReady):
            await engine.embed(EmbeddingRequest(texts=("cat",)))

    async def test_cancelled_request_leaves_nothing(self, encoder: Path, load: Load) -> None:
        """A caller that leaves takes its texts along; the next one is answered."""
        engine = load(encoder)
        leaving = asyncio.create_task(engine.embed(EmbeddingRequest(texts=("red green",) * 500)))
        while not (engine.stats().active or leaving.done()):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])

        assert len(await vectors(engine, "cat")) == 1
        assert engine.stats().waiting == 0


class TestCrossEncoder:
    """Query and chunk read together."""

    @pytest.mark.parametrize("labels", [1, 2])
    async def test_scores_are_the_graph_s(self, tmp_path: Path, load: Load, labels: int) -> None:
        """One logit as it is, of two the difference; in the order of the chunks."""
        head = np.random.default_rng(2).normal(size=(WIDTH, labels)).astype(np.float32)
        engine = load(write_cross_encoder(tmp_path / "cross", TABLE, head), ModelType.RERANKING)

        result = await engine.rerank(RerankingRequest(query="cat", chunks=TEXTS))

        separator = TABLE[VOCABULARY.index("[SEP]")]
        logits = [(rows("cat").sum(axis=0) + rows(t)[1:-1].sum(axis=0) + separator) @ head for t in TEXTS]
        expected = [row[0] if labels == 1 else row[1] - row[0] for row in logits]
        np.testing.assert_allclose(result.scores, expected, atol=1e-4)
        assert result.tokens == sum(4 + len(text.split()) for text in TEXTS)

    def test_other_heads_are_refused(self, tmp_path: Path, spec_of: MakeSpec) -> None:
        """A classifier of three classes has no order to rank by."""
        folder = write_cross_encoder(tmp_path / "cross", TABLE, np.ones((WIDTH, 3), np.float32))

        with pytest.raises(WrongWeights, match="'logits' has 3 numbers per text; a cross-encoder gives 1 or 2"):
            OnnxBackend().load(spec_of(folder, ModelType.RERANKING))

    @pytest.mark.parametrize("scoring", ["late-interaction", "cross-encoder"])
    def test_scoring_must_suit_the_graph(self, tmp_path: Path, encoder: Path, spec_of: MakeSpec, scoring: str) -> None:
        """Asked for what the graph cannot give, the load names the parameter and what would suit."""
        cross = write_cross_encoder(tmp_path / "cross", TABLE, np.ones((WIDTH, 1), np.float32))
        folder = cross if scoring == "late-interaction" else encoder

        with pytest.raises(WrongWeights, match="parameter 'scoring'"):
            OnnxBackend().load(spec_of(folder, ModelType.RERANKING, scoring=scoring))

    async def test_too_long_names_the_chunk(self, tmp_path: Path, load: Load) -> None:
        """Query and chunk share the limit."""
        engine = load(
            write_cross_encoder(tmp_path / "cross", TABLE, np.ones((WIDTH, 1), np.float32)), ModelType.RERANKING
        )

        with pytest.raises(PromptTooLong, match=f"the query with chunk 1 has {POSITIONS + 4} tokens"):
            await engine.rerank(RerankingRequest(query="cat", chunks=("dog", "red " * POSITIONS)))


class TestLateInteraction:
    """Query and chunks read apart, compared token by token."""

    async def test_scores_by_hand(self, encoder: Path, load: Load) -> None:
        """Each query token's best cosine among the chunk's tokens, averaged; special tokens do not count."""
        engine = load(encoder, ModelType.RERANKING)

        result = await engine.rerank(RerankingRequest(query="red cat", chunks=TEXTS))

        query = unit(rows("red cat")[1:-1])
        expected = [(query @ unit(rows(text)[1:-1]).T).max(axis=1).mean() for text in TEXTS]
        np.testing.assert_allclose(result.scores, expected, atol=1e-5)
        assert result.tokens == 4 + 14

    def test_is_a_reranking_engine_only(self, encoder: Path, load: Load) -> None:
        """The same folder, asked for another model type, makes another engine."""
        engine = load(encoder, ModelType.RERANKING, scoring="late-interaction")

        assert isinstance(engine, RerankingEngine)
        assert not isinstance(engine, EmbeddingEngine)

    async def test_too_long_names_the_side(self, encoder: Path, load: Load) -> None:
        """The query and the chunks have the limit each for itself."""
        engine = load(encoder, ModelType.RERANKING)
        long = "red " * POSITIONS

        with pytest.raises(PromptTooLong, match="the query has"):
            await engine.rerank(RerankingRequest(query=long, chunks=("cat",)))
        with pytest.raises(PromptTooLong, match="chunk 1 has"):
            await engine.rerank(RerankingRequest(query="cat", chunks=("cat", long)))

    async def test_a_small_request_is_one_pass(
        self, encoder: Path, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The query runs together with the chunks, not before them."""
        engine = load(encoder, ModelType.RERANKING)
        passes: list[int] = []
        run = engine._encoder.session.run
        monkeypatch.setattr(engine._encoder.session, "run", lambda batch: passes.append(len(batch.ids)) or run(batch))

        await engine.rerank(RerankingRequest(query="red cat", chunks=("one dog", "green two")))

        assert passes == [3]

    async def test_empty_texts_have_scores(self, encoder: Path, load: Load) -> None:
        """An empty chunk or query is ranked like any other, and no chunks give no scores."""
        engine = load(encoder, ModelType.RERANKING)

        assert len((await engine.rerank(RerankingRequest(query="", chunks=("", "cat")))).scores) == 2
        assert (await engine.rerank(RerankingRequest(query="cat", chunks=()))).scores == []


class TestStarter:
    """The weights that come with the appliance."""

    async def test_vectors_are_the_reference_model_s(self, starter_embed: Any) -> None:
        """Cosine at least 0.9999 with transformers' float32, in one batch of all lengths and one by one."""
        texts, expected = golden()
        together = await vectors(starter_embed, *texts)
        alone = np.concatenate([await vectors(starter_embed, text) for text in texts])

        assert together.shape == expected.shape == (len(texts), 384)
        assert (together * expected).sum(axis=1).min() >= 0.9999
        np.testing.assert_allclose(alone, together, atol=1e-5)

    async def test_int8_variant_is_near(self, starter: Path, starter_embed: Any, load: Load) -> None:
        """On real sentences the cosine with the float32 vectors is above 0.99 in the mean, and nowhere below 0.98."""
        exact = await vectors(starter_embed, *SENTENCES)
        near = await vectors(load(starter / "int8"), *SENTENCES)

        cosines = (exact * near).sum(axis=1)
        assert len(SENTENCES) > 40
        assert cosines.mean() >= 0.99
        assert cosines.min() >= 0.98

    async def test_int8_variant_depends_little_on_the_batch(self, starter: Path, load: Load) -> None:
        """A batch shares its scales: a sentence's vector alone and in company have a cosine above 0.98, not of 1."""
        engine = load(starter / "int8")
        together = await vectors(engine, *SENTENCES[:20])
        alone = np.concatenate([await vectors(engine, sentence) for sentence in SENTENCES[:20]])

        cosines = (together * alone).sum(axis=1)
        assert cosines.min() >= 0.98
        assert not np.allclose(together, alone, atol=1e-5)

    async def test_takes_all_512_positions(self, starter_embed: Any) -> None:
        """The limit is the network's own, and one more token is a refusal with both numbers."""
        assert (await starter_embed.embed(EmbeddingRequest(texts=("word " * 510,)))).tokens == 512
        with pytest.raises(PromptTooLong, match="text 0 has 513 tokens, this deployment takes 512"):
            await starter_embed.embed(EmbeddingRequest(texts=("word " * 511,)))

    @pytest.mark.parametrize(
        ("query", "chunks"),
        [
            (
                "How do I reset my password?",
                (
                    "Click 'forgot password' on the sign-in page to set a new one.",
                    "Our office is closed on public holidays.",
                    "Bread is made of flour, water, salt and yeast.",
                ),
            ),
            (
                "What is the capital of France?",
                (
                    "Paris is the capital and largest city of France.",
                    "The capital letter starts a sentence.",
                    "France exports wine and cheese.",
                ),
            ),
            (
                "GPU out of memory during training",
                (
                    "Lower the batch size when the graphics card runs out of memory.",
                    "The train leaves the station at noon.",
                    "Memory foam mattresses last about ten years.",
                ),
            ),
        ],
        ids=["password", "capital", "memory"],
    )
    async def test_late_interaction_ranks(self, starter_rerank: Any, query: str, chunks: tuple[str, ...]) -> None:
        """Over the same weights, the chunk that answers comes first."""
        result = await starter_rerank.rerank(RerankingRequest(query=query, chunks=chunks))

        assert result.scores[0] == max(result.scores)
        assert all(-1 <= score <= 1 for score in result.scores)
