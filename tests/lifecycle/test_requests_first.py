"""A batch that fills a real engine lets a request go next: real weights, batcher and scheduler; order, not time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.domain.clock import SystemClock
from appliance.domain.errors import PromptTooLong
from appliance.domain.inference import CompletionRequest, EmbeddingRequest, FinishReason, Sampling
from appliance.domain.models import Call, Card, ModelType, WeightsFormat
from appliance.engines.base import EngineSpec
from appliance.engines.llama.backend import LlamaBackend
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.inference import Inference
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.resident import Wanted
from appliance.scheduler.scheduler import Scheduler
from appliance.scheduler.turns import BackgroundLeases, RequestLeases, Turns
from tests.lifecycle.things import caller, deployment, model
from tests.support.tiny_models import write_bert, write_llama

LINES = 12
SLOTS = 2
TOKENS = 60
LOUD = Sampling(max_tokens=TOKENS, logit_bias={7: 100.0})


class Stage:
    """One text and one embedding deployment, and who was answered in which order."""

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        self.scheduler = Scheduler(clock, Ledger("cpu", 1 << 30), idle_seconds=600, queue_limit=100)
        self.turns = Turns(self.scheduler, clock)
        self.calls: list[Call] = []
        self.order: list[str] = []
        self.three_answered = asyncio.Event()
        directory = Directory()
        for kind, path in (
            (ModelType.COMPLETION, write_llama(folder / "text.gguf")),
            (ModelType.EMBEDDING, write_bert(folder / "pooled.gguf")),
        ):
            name = kind.value.lower()
            directory.models[name] = model(name, model_type=kind)
            directory.put_deployment(deployment(name, model_id=name))
            card = Card(
                format=WeightsFormat.GGUF,
                architecture="llama" if kind is ModelType.COMPLETION else "bert",
                context_length_tokens=512,
                embedding_length=64,
                layer_count=2,
                head_count=4,
                kv_head_count=2,
                head_width=16,
                vocabulary_size=271,
                model_types=(kind,),
            )
            spec = EngineSpec(model_type=kind, weights=path, card=card, slots=SLOTS, parameters={"threads": 1})
            self.scheduler.want(Wanted(deployment_id=name, name=name, backend=LlamaBackend(), spec=spec))
        self.requests = Inference(directory, RequestLeases(self.turns, 60), self, clock)
        self.background = Inference(directory, BackgroundLeases(self.turns), self, clock)

    async def append(self, call: Call) -> None:
        """Takes finished calls."""
        self.calls.append(call)

    async def complete(self, who: str, inference: Inference) -> None:
        target = inference.by_name(caller(), "completion")
        asked = CompletionRequest(prompt="hello", sampling=LOUD)
        execution = await inference.generate(
            caller(), target, [asked], model_type=ModelType.COMPLETION, dialect=who.partition(" ")[0]
        )
        (text,) = await execution.texts()
        assert text.finish_reason is FinishReason.LENGTH
        self.order.append(who)
        if len(self.order) == 3:
            self.three_answered.set()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    yield made
    await made.scheduler.close()


async def test_a_request_is_answered_next(stage: Stage) -> None:
    """All slots are taken by a batch when a request comes: it is answered before any line that had not begun, and the
    batch goes on to its end."""
    lines = [asyncio.create_task(stage.complete(f"line {n}", stage.background)) for n in range(LINES)]
    await stage.three_answered.wait()
    before = len(stage.order)
    await stage.complete("request", stage.requests)
    place = stage.order.index("request")
    await asyncio.gather(*lines)

    assert place <= before + SLOTS  # those that were running, and nobody else
    assert sorted(stage.order) == sorted([*(f"line {n}" for n in range(LINES)), "request"])
    assert len(stage.calls) == LINES + 1
    assert {call.finish_reason for call in stage.calls} == {"length"}


async def test_texts_in_pieces_are_one_call(stage: Stage) -> None:
    """A long list of texts is handed to the engine piece by piece in the background, with the vectors, the tokens and
    the one logged call that it has at once."""
    asked = EmbeddingRequest(texts=tuple(f"text {n}" for n in range(7)))
    found = []
    for inference in (stage.requests, stage.background):
        target = inference.by_name(caller(), "embedding")
        found.append(await inference.embed(caller(), target, asked, dialect="x"))
    direct, pieces = found
    assert pieces.tokens == direct.tokens
    for vector, wanted in zip(pieces.vectors, direct.vectors, strict=True):
        assert vector == pytest.approx(wanted, abs=1e-4)
    assert [call.prompt_tokens for call in stage.calls] == [direct.tokens] * 2


async def test_a_text_too_long_is_found_in_its_piece(stage: Stage) -> None:
    """The message says which texts it is among, and the call is logged once, as failed."""
    asked = EmbeddingRequest(texts=("a", "b", "c " * 5000, "d"))
    target = stage.background.by_name(caller(), "embedding")
    with pytest.raises(PromptTooLong, match="2"):
        await stage.background.embed(caller(), target, asked, dialect="x")
    assert [call.error_code for call in stage.calls] == ["prompt_too_long"]
