"""Many engines over one file: the weights are read once, and nobody notices the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from appliance.domain.errors import BadWeights, NotReady
from appliance.domain.inference import CompletionRequest, EmbeddingRequest, Sampling
from appliance.domain.models import Card, ModelType
from appliance.engines.base import EmbeddingEngine, EngineSpec, Pulsing, TextEngine, TextStream, in_ram
from appliance.engines.llama import runtime
from appliance.engines.llama.backend import LlamaBackend
from appliance.engines.llama.runtime import Model
from appliance.scheduler.ledger import Ledger
from appliance.store.inspection import inspect
from tests.support.tiny_models import write_adapter

BACKEND = LlamaBackend()
STARTER = Path(__file__).parents[3] / "models_store" / "weights" / "starter-chat.gguf"
PARAMETERS = {"context_length": 256, "cache_tokens": 256, "threads": 1}
PROMPTS = ("Hello", "What is a model?", "The appliance")
ADAPTERS = 10


@pytest.fixture(scope="session")
def card() -> Card:
    return inspect({STARTER.name: STARTER})


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, card: Card) -> list[Path]:
    """Ten LoRA adapters over the starter, each with another idea of every layer's attention."""
    folder = tmp_path_factory.mktemp("adapters")
    parts = [f"blk.{layer}.attn_{part}" for layer in range(card.layer_count or 0) for part in ("q", "output")]
    width = card.embedding_length or 0
    return [
        write_adapter(folder / f"{n}.gguf", 0.05, seed=n, width=width, tensors=parts, rank=4) for n in range(ADAPTERS)
    ]


class NativeCalls:
    """How often llama.cpp was asked to read weights and to free them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loads = self.frees = self.adapter_frees = 0
        for name, counter in (
            ("llama_model_load_from_file", "loads"),
            ("llama_model_free", "frees"),
            ("llama_adapter_lora_free", "adapter_frees"),
        ):
            monkeypatch.setattr(runtime.c, name, self._counting(getattr(runtime.c, name), counter))

    def _counting(self, function: Callable[..., Any], counter: str) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            setattr(self, counter, getattr(self, counter) + 1)
            return function(*arguments)

        return counted


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> NativeCalls:
    return NativeCalls(monkeypatch)


Load = Callable[..., TextEngine]


@pytest.fixture
async def load(card: Card) -> AsyncIterator[Load]:
    """Load the starter, with an adapter or without; what is still open at the end is closed."""
    made: list[TextEngine] = []

    def load_one(adapter: Path | None = None) -> TextEngine:
        engine = BACKEND.load(spec(card, adapter))
        assert isinstance(engine, TextEngine)
        made.append(engine)
        return engine

    yield load_one
    for engine in made:
        engine.close()


def spec(card: Card, adapter: Path | None = None, kind: ModelType = ModelType.COMPLETION) -> EngineSpec:
    parameters = {**PARAMETERS} if kind is ModelType.COMPLETION else {"context_length": 256, "threads": 1}
    return EngineSpec(model_type=kind, weights=STARTER, card=card, parameters=parameters, slots=2, adapter=adapter)


async def start(engine: TextEngine, prompt: str, tokens: int = 24) -> TextStream:
    sampling = Sampling(temperature=0.0, max_tokens=tokens)
    return await engine.complete(CompletionRequest(prompt=prompt, sampling=sampling))


async def rest(stream: TextStream) -> str:
    return "".join([delta.text async for delta in stream])


async def answers(engine: TextEngine) -> tuple[str, ...]:
    return tuple([await rest(await start(engine, prompt)) for prompt in PROMPTS])


async def alone(load: Load, adapter: Path | None) -> tuple[str, ...]:
    """What an engine says that has weights of its own."""
    engine = load(adapter)
    said = await answers(engine)
    engine.close()
    return said


async def test_ten_adapters_cost_one_base(load: Load, adapters: list[Path], native: NativeCalls) -> None:
    """Each adapter answers as if it were alone and unlike the base, all over one read of the weights."""
    expected = [await alone(load, adapter) for adapter in [None, *adapters]]
    assert len(set(expected)) == 1 + ADAPTERS
    native.loads = native.frees = 0

    engines = [load(adapter) for adapter in [None, *adapters]]

    assert native.loads == 1
    assert [await answers(engine) for engine in engines] == expected
    together = await asyncio.gather(*(answers(engine) for engine in engines))
    assert together == expected
    for engine in engines:
        engine.close()
    assert native.frees == 1


def test_ten_adapters_reserve_one_base(card: Card, adapters: list[Path]) -> None:
    """The ledger holds the base once, and each adapter with its cache and buffers beside it."""
    needs = [BACKEND.estimate(spec(card, adapter)) for adapter in adapters]
    ledger = Ledger("cpu", 2**40)
    for number, need in enumerate(needs):
        ledger.reserve(str(number), in_ram(need))
    own = sum(need.total_bytes - need.weights_bytes for need in needs)
    assert ledger.reserved_bytes == card.weights_bytes + own
    assert all(need.adapter_bytes == path.stat().st_size for need, path in zip(needs, adapters, strict=True))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=["base first", "base last", "between"])
async def test_closing_in_any_order(
    load: Load, adapters: list[Path], native: NativeCalls, order: tuple[int, ...]
) -> None:
    """Whoever goes takes only what is its own; the rest answer on, and the last frees the weights."""
    engines = dict(enumerate([load(), load(adapters[0]), load(adapters[1])]))
    expected = {number: await answers(engine) for number, engine in engines.items()}
    for number in order:
        assert native.frees == 0
        engines[number].close()
        engines.pop(number).close()
        for left, engine in engines.items():
            assert await answers(engine) == expected[left]
    assert (native.frees, native.adapter_frees) == (1, 2)


async def test_others_come_and_go_while_one_streams(load: Load, adapters: list[Path], native: NativeCalls) -> None:
    """A stream says what it says alone while engines over the same base load, answer and close beside it."""
    streaming = load(adapters[0])
    expected = await rest(await start(streaming, PROMPTS[1], tokens=200))
    stream = await start(streaming, PROMPTS[1], tokens=200)
    said = (await anext(aiter(stream))).text

    for adapter in [*adapters[1:4], None]:
        other = await asyncio.to_thread(load, adapter)
        running = await start(other, PROMPTS[0], tokens=100)
        await anext(aiter(running))
        await asyncio.to_thread(other.close)

    assert said + await rest(stream) == expected
    assert native.loads == 1


async def test_loads_at_once_read_the_file_once(load: Load, adapters: list[Path], native: NativeCalls) -> None:
    """Engines that are loaded at the same moment by several threads share one read, and all answer rightly."""
    engines = await asyncio.gather(*(asyncio.to_thread(load, adapter) for adapter in adapters[:4]))
    assert native.loads == 1
    said = await asyncio.gather(*(answers(engine) for engine in engines))
    for engine in engines:
        engine.close()
    assert said == [await alone(load, adapter) for adapter in adapters[:4]]


async def test_every_task_shares_the_weights(load: Load, card: Card, native: NativeCalls) -> None:
    """An embedding engine over generating weights stands on the same copy as the text engine."""
    text = load()
    embedding = BACKEND.load(spec(card, kind=ModelType.EMBEDDING))
    assert isinstance(embedding, EmbeddingEngine)
    before = await embedding.embed(EmbeddingRequest(texts=PROMPTS))
    text.close()
    assert await embedding.embed(EmbeddingRequest(texts=PROMPTS)) == before
    assert (native.loads, native.frees) == (1, 0)
    embedding.close()
    assert native.frees == 1


async def test_a_refused_adapter_leaves_the_base_to_the_others(load: Load, native: NativeCalls, bert: Path) -> None:
    """A load that fails beside a running engine frees nothing of it; alone it leaves no weights behind."""
    with pytest.raises(BadWeights):
        load(bert)
    assert (native.loads, native.frees) == (1, 1)
    engine = load()
    expected = await answers(engine)
    with pytest.raises(BadWeights):
        load(bert)
    assert await answers(engine) == expected
    assert (native.loads, native.frees) == (2, 1)


def test_the_c_model_is_one(weights: Path, tmp_path: Path) -> None:
    """Models over one file have the same C model, and each its own vocabulary, closed without the others'."""
    first, second = Model(weights), Model(weights, write_adapter(tmp_path / "a.gguf", 1.0))
    assert first.handle == second.handle
    first.close()
    first.close()
    assert len(second.vocabulary.tokenize("hello"))
    with second.vocabulary.in_use():
        pass
    second.close()


def test_adapters_do_not_outlive_their_engines(weights: Path, tmp_path: Path) -> None:
    """The memory of an adapter comes back when its engine closes, not only when the base does."""
    heavy = write_adapter(tmp_path / "heavy.gguf", 0.01, rank=2**16)
    base = Model(weights)
    Model(weights, heavy).close()
    before_bytes = psutil.Process().memory_info().rss
    for _ in range(8):
        Model(weights, heavy).close()
    grown_bytes = psutil.Process().memory_info().rss - before_bytes
    assert grown_bytes < 3 * heavy.stat().st_size
    base.close()


def test_the_set_of_adapters_is_touched_by_one_at_a_time(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading and freeing an adapter, making a context and its first step with one exclude each other; no later step
    waits for anybody.
    """
    seen: list[tuple[str, bool]] = []

    def watch(name: str) -> None:
        function = getattr(runtime.c, name)

        def watched(*arguments: Any) -> Any:
            seen.append((name, base.adapters_at_rest.locked()))  # type: ignore[attr-defined]
            return function(*arguments)

        monkeypatch.setattr(runtime.c, name, watched)

    base = Model(weights)
    calls = ("llama_adapter_lora_init", "llama_init_from_model", "llama_decode", "llama_adapter_lora_free")
    for name in calls:
        watch(name)
    model = Model(weights, write_adapter(tmp_path / "a.gguf", 1.0))
    context = runtime.Context(model, runtime.ContextOptions(cells_tokens=256, sequences=1, batch_tokens=32, threads=1))
    context.batch.add(0, 0, model.vocabulary.tokenize("hello"), want_last=True)
    assert context.decode()
    context.clear()
    assert context.decode()
    context.close()
    model.close()
    base.close()
    adapter, made, step, freed = calls
    assert seen == [(adapter, True), (made, True), (step, True), (step, False), (freed, True)]


def test_threads_that_load_and_close_over_one_base(weights: Path, tmp_path: Path) -> None:
    """Adapters may be loaded, used and freed by many threads at once."""
    files = [write_adapter(tmp_path / f"{n}.gguf", 1.0, seed=n) for n in range(4)]
    options = runtime.ContextOptions(cells_tokens=256, sequences=1, batch_tokens=32, threads=1)

    def live(number: int) -> None:
        for _ in range(10):
            model = Model(weights, files[number])
            context = runtime.Context(model, options)
            context.batch.add(0, 0, model.vocabulary.tokenize("hello"), want_last=True)
            assert context.decode()
            context.close()
            model.close()

    base = Model(weights)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(4)))
    base.close()


@pytest.mark.parametrize("stepped", [False, True])
async def test_a_hanging_first_step_with_an_adapter(
    stepped: bool, load: Load, adapters: list[Path], native: NativeCalls
) -> None:
    """It holds the lock over the weights' adapters, so the next engine reads weights of its own instead of waiting for
    it; once a step has ended the lock is free, and the weights are shared as ever.
    """
    hanging = load(adapters[0])
    assert isinstance(hanging, Pulsing)
    if stepped:
        await rest(await start(hanging, PROMPTS[0], 2))
    hanging.give_up(NotReady("it hangs"))
    load(adapters[1])
    assert native.loads == (1 if stepped else 2)
