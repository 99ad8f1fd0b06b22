"""From a spec to an engine: what is checked before native code sees the file, what is estimated, what is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.domain.errors import ApplianceError, BadWeights, InvalidParameter, WrongWeights
from appliance.domain.inference import CompletionRequest, EmbeddingRequest, RerankingRequest, Sampling
from appliance.domain.models import BackendName, Card, ModelType, Parameters, WeightsFormat
from appliance.engines.backends import all_backends
from appliance.engines.base import EmbeddingEngine, EngineSpec, RerankingEngine, Resources, TextEngine
from appliance.engines.llama.backend import LlamaBackend, _sizes, usable_cores
from appliance.store.inspection import inspect
from tests.support.tiny_models import write_adapter

STARTER = Path(__file__).parents[3] / "models_store" / "weights" / "starter-chat.gguf"
BACKEND = LlamaBackend()
TEXT_TYPES = (ModelType.COMPLETION, ModelType.CHAT_COMPLETION, ModelType.AGENT)
CARD = Card(
    format=WeightsFormat.GGUF,
    architecture="llama",
    context_length_tokens=512,
    embedding_length=64,
    layer_count=2,
    head_count=4,
    kv_head_count=2,
    head_width=16,
    vocabulary_size=271,
    weights_bytes=430_000,
    model_types=TEXT_TYPES,
)


def spec(
    weights: Path = Path("x.gguf"),
    kind: ModelType = ModelType.COMPLETION,
    parameters: Parameters | None = None,
    *,
    slots: int = 4,
    adapter: Path | None = None,
    **card: object,
) -> EngineSpec:
    return EngineSpec(
        model_type=kind,
        weights=weights,
        card=msgspec.structs.replace(CARD, **card),
        parameters=parameters or {},
        slots=slots,
        adapter=adapter,
    )


def test_the_version_is_that_of_the_library_and_costs_no_load() -> None:
    """Asking for the version or checking a spec loads no native library."""
    code = (
        "import sys; from appliance.engines.llama.backend import LlamaBackend; "
        "print(LlamaBackend().version, 'llama_cpp' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == [BACKEND.version, "False"]
    assert BACKEND.version.startswith("0.3.")


@pytest.mark.parametrize(
    ("wrong", "error", "why"),
    [
        (spec(format=WeightsFormat.ONNX), WrongWeights, "GGUF"),
        (spec(adapter_of="llama"), WrongWeights, "adapter"),
        (spec(model_types=(ModelType.EMBEDDING,)), WrongWeights, "serve EMBEDDING, not COMPLETION"),
        (spec(kind=ModelType.RERANKING), WrongWeights, "not RERANKING"),
        (spec(model_types=()), WrongWeights, "no model type"),
        (spec(parameters={"context_length": 513}), InvalidParameter, "context_length is 513; it must be 16 to 512"),
        (spec(parameters={"context_length": 256, "cache_tokens": 255}), InvalidParameter, "cache_tokens is 255"),
        (spec(parameters={"context_length": "x"}), InvalidParameter, "whole number"),
        (spec(parameters={"threads": 0}), InvalidParameter, "threads"),
        (spec(parameters={"cache_type": "q9"}), InvalidParameter, "cache_type is 'q9'; give one of f16, q8_0"),
        (spec(parameters={"cache_type": "q8_0"}), InvalidParameter, "heads of 16"),
        (spec(parameters={"layers": 1}), InvalidParameter, "unknown parameter 'layers'"),
        (spec(kind=ModelType.EMBEDDING, parameters={"pooling": "best"}), InvalidParameter, "pooling"),
        (spec(slots=0), InvalidParameter, "per_worker is 0"),
        (spec(slots=500), InvalidParameter, "per_worker is 500"),
        (spec(kind=ModelType.EMBEDDING, adapter=Path("a.gguf")), InvalidParameter, "adapter"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_load(
    wrong: EngineSpec, error: type[ApplianceError], why: str
) -> None:
    """Kind of weights, parameters, ranges: each refusal names what is wrong."""
    with pytest.raises(error, match=why):
        BACKEND.check(wrong)


@pytest.mark.parametrize("kind", TEXT_TYPES)
def test_text_types_stand_in_for_each_other(kind: ModelType) -> None:
    """Generating weights serve all three, and embeddings by pooling."""
    BACKEND.check(spec(kind=kind, model_types=(ModelType.COMPLETION,)))
    BACKEND.check(spec(kind=ModelType.EMBEDDING))


def test_an_estimate_counts_weights_cache_and_buffers() -> None:
    """The cache is keys and values of every cell in half precision; all of it grows with what was asked for."""
    small = BACKEND.estimate(spec(parameters={"context_length": 256, "cache_tokens": 1000}))
    assert small.weights_bytes == 430_000
    assert small.cache_bytes == 1024 * 2 * 2 * 2 * 2 * 16
    assert small.prefix_bytes == 500 * (2 * 2 * 2 * 2 * 16 + 16)
    assert BACKEND.estimate(spec(parameters={"cache_tokens": 1000, "prefix_tokens": 0})).prefix_bytes == 0
    large = BACKEND.estimate(spec(parameters={"cache_tokens": 4096}, slots=64))
    assert large.cache_bytes == 4 * small.cache_bytes
    assert large.compute_bytes > small.compute_bytes
    assert BACKEND.estimate(spec(kind=ModelType.EMBEDDING)).total_bytes > 430_000


def test_a_quantized_cache_is_estimated_as_such() -> None:
    """8 bits a value and a scale of 16 for every 32 of them, in the cache and for what is kept of it."""
    half, eight = (
        BACKEND.estimate(spec(head_width=32, parameters={"cache_tokens": 1024, "cache_type": kind}))
        for kind in ("f16", "q8_0")
    )
    assert eight.cache_bytes == half.cache_bytes * 34 // 64
    assert half.prefix_bytes - eight.prefix_bytes == 512 * (half.cache_bytes - eight.cache_bytes) // 1024


def test_an_estimate_tells_the_shared_from_the_own(tmp_path: Path) -> None:
    """All engines over one file name the same weights, whatever their task; an adapter is each one's own."""
    adapter = write_adapter(tmp_path / "a.gguf", 1.0)
    plain, adapted = BACKEND.estimate(spec()), BACKEND.estimate(spec(adapter=adapter))
    assert adapted.weights_bytes == plain.weights_bytes == plain.shared_bytes == 430_000
    assert adapted.own_bytes == plain.own_bytes + adapter.stat().st_size
    assert adapted.weights_key == plain.weights_key == BACKEND.estimate(spec(kind=ModelType.EMBEDDING)).weights_key
    assert BACKEND.estimate(spec(Path("y.gguf"))).weights_key != plain.weights_key


def test_an_estimate_tells_what_may_be_elsewhere() -> None:
    """Layers as llama.cpp counts them, and what stays in RAM beside a GPU: a row of embeddings for every token."""
    made = BACKEND.estimate(spec(parameter_count=215_000))
    assert made.layers == 3
    assert made.host_weights_bytes == 271 * 64 * 2
    assert made.host_compute_bytes > 0
    assert BACKEND.estimate(spec()).host_weights_bytes == 271 * 64 * 2
    assert BACKEND.estimate(spec(layer_count=None)).layers == 1


@pytest.mark.parametrize(
    ("given", "gpus", "expected"),
    [
        (None, 0, Resources()),
        (None, 2, Resources(gpus=2)),
        ("all", 1, Resources(gpus=1)),
        ("auto", 1, Resources(gpus=1, spills=True)),
        ("2", 1, Resources(gpus=1, gpu_layers=2)),
        ("3", 1, Resources(gpus=1)),
    ],
)
def test_gpu_layers(given: str | None, gpus: int, expected: Resources) -> None:
    """All, as many as there is room for, or a number; all by number is all."""
    parameters = {} if given is None else {"gpu_layers": given}
    assert BACKEND.asks(with_resources(spec(parameters=parameters), gpus=gpus)) == expected


@pytest.mark.parametrize(
    ("given", "gpus", "why"),
    [
        ("auto", 0, "no GPU is asked for; set gpus"),
        ("0", 1, "a number from 1 to 3"),
        ("4", 1, "a number from 1 to 3"),
        ("some", 1, "give 'all', 'auto'"),
        ("9" * 5000, 1, "a number from 1 to 3"),
        (2, 1, "give 'all', 'auto'"),
    ],
)
def test_wrong_gpu_layers(given: object, gpus: int, why: str) -> None:
    """Refused when the deployment is made, with what may be given."""
    with pytest.raises(InvalidParameter, match=why):
        BACKEND.check(with_resources(spec(parameters={"gpu_layers": given}), gpus=gpus))  # type: ignore[dict-item]


def with_resources(made: EngineSpec, **resources: int) -> EngineSpec:
    return msgspec.structs.replace(made, resources=Resources(**resources))


def test_cpus_bound_the_threads() -> None:
    """``cpus`` is a limit: never more than the cores there are; the parameter ``threads`` says it exactly."""
    large = spec(weights_bytes=10**9)
    assert _sizes(large).threads == usable_cores()
    assert _sizes(with_resources(large, cpus=1)).threads == 1
    assert _sizes(with_resources(large, cpus=1024)).threads == usable_cores()
    assert _sizes(with_resources(spec(parameters={"threads": 3}), cpus=1)).threads == 3


async def test_loaded_weights_generate(weights: Path) -> None:
    """The sizes are those asked for, the cache rounded up to whole blocks."""
    engine = BACKEND.load(spec(weights, parameters={"context_length": 200, "cache_tokens": 600, "threads": 1}))
    assert isinstance(engine, TextEngine)
    assert (engine.context_length_tokens, engine.stats().cache_total_tokens, engine.slots) == (200, 768, 4)
    stream = await engine.complete(CompletionRequest(prompt="hello", sampling=Sampling(max_tokens=3)))
    assert [delta async for delta in stream]
    engine.close()


async def test_a_quantized_cache_says_nearly_the_same() -> None:
    """The first words of a greedy answer are those of the cache in half precision; a kept prefix goes on as well."""
    card = inspect({STARTER.name: STARTER})
    said: dict[str, list[str]] = {}
    for kind in ("f16", "q8_0"):
        sizes = {"context_length": 512, "cache_tokens": 512, "cache_type": kind}
        engine = BACKEND.load(
            EngineSpec(model_type=ModelType.COMPLETION, weights=STARTER, card=card, parameters=sizes, slots=2)
        )
        assert isinstance(engine, TextEngine)
        for _ in range(2):
            prompt = "The capital of France is the city of Paris. " * 8
            stream = await engine.complete(
                CompletionRequest(prompt=prompt, sampling=Sampling(temperature=0, max_tokens=4, ignore_eos=True))
            )
            said.setdefault(kind, []).append("".join([delta.text async for delta in stream]))
        assert stream.usage.cached_tokens > 0
        engine.close()
    assert said["q8_0"][0] == said["f16"][0]
    assert said["q8_0"][1] == said["q8_0"][0]


async def test_loaded_encoders_embed_and_rank(bert: Path, rank_bert: Path) -> None:
    """The same backend serves the two pooled tasks."""
    encoder = {"architecture": "bert", "context_length_tokens": 128, "pooling": "mean"}
    embedder = BACKEND.load(spec(bert, ModelType.EMBEDDING, model_types=(ModelType.EMBEDDING,), **encoder))
    assert isinstance(embedder, EmbeddingEngine)
    result = await embedder.embed(EmbeddingRequest(texts=("the model",)))
    assert len(result.vectors[0]) == 64
    embedder.close()
    ranking = {**encoder, "pooling": "rank"}
    ranker = BACKEND.load(spec(rank_bert, ModelType.RERANKING, model_types=(ModelType.RERANKING,), **ranking))
    assert isinstance(ranker, RerankingEngine)
    assert len((await ranker.rerank(RerankingRequest(query="the", chunks=("a", "of")))).scores) == 2
    ranker.close()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_a_broken_file_is_bad_weights(tmp_path: Path, content: bytes) -> None:
    """What llama.cpp cannot load is the file's fault, with llama.cpp's reason."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(BadWeights, match=r"broken\.gguf"):
        BACKEND.load(spec(path))


async def said_with(weights: Path, adapter: Path | None) -> str:
    engine = BACKEND.load(spec(weights, adapter=adapter, parameters={"threads": 1}))
    assert isinstance(engine, TextEngine)
    request = CompletionRequest(prompt="hello", sampling=Sampling(temperature=0.0, max_tokens=20))
    text = "".join([delta.text async for delta in await engine.complete(request)])
    engine.close()
    return text


async def test_an_adapter_changes_what_is_said(weights: Path, tmp_path: Path) -> None:
    """A LoRA adapter is applied over the weights; one that adds nothing changes nothing."""
    plain = await said_with(weights, None)
    assert await said_with(weights, write_adapter(tmp_path / "zero.gguf", 0.0)) == plain
    assert await said_with(weights, write_adapter(tmp_path / "strong.gguf", 1.0)) != plain


def test_a_wrong_adapter_is_refused(weights: Path, bert: Path) -> None:
    """What is no adapter for these weights is bad weights."""
    with pytest.raises(BadWeights, match="adapter"):
        BACKEND.load(spec(weights, adapter=bert))


def test_threads_default_to_the_cores_this_process_may_use() -> None:
    """At least one, at most the processors that the process is allowed."""
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


class TrialOfNothing:
    """A double: it passes without a process."""

    def __init__(self, spec: EngineSpec, passed: Callable[[], None]) -> None:
        self.spec, self.run = spec, passed

    def end(self) -> None:
        pass


def test_an_adapter_and_its_weights_are_tried_once(tmp_path: Path) -> None:
    """Each pair has a trial until one has passed; weights alone were tried when they were imported."""
    backend = LlamaBackend(TrialOfNothing)
    adapter, other = (write_adapter(tmp_path / name, 1.0) for name in ("a.gguf", "b.gguf"))
    assert backend.trial(spec()) is None
    assert backend.trial(spec(adapter=adapter)) is not None
    trial = backend.trial(spec(adapter=adapter))
    assert trial is not None
    trial.run()
    assert backend.trial(spec(adapter=adapter, slots=2)) is None
    assert backend.trial(spec(adapter=other)) is not None
    assert LlamaBackend().trial(spec(adapter=adapter)) is None


@pytest.mark.parametrize(
    "parameters",
    [{}, {"context_length": 16, "cache_tokens": 16, "prefix_tokens": 0, "draft_tokens": 0}, {"cache_type": "q8_0"}],
    ids=["as it comes", "as small as it goes", "with a quantized cache"],
)
def test_a_trial_takes_no_more_than_the_load(tmp_path: Path, parameters: Parameters) -> None:
    """Its room is that of the load, which is booked: one sequence, and a context that is never the longer one, on as
    many threads; its weights are pages of the file. It goes to RAM, wherever the load goes."""
    backend = LlamaBackend(TrialOfNothing)
    asked = spec(adapter=write_adapter(tmp_path / "a.gguf", 1.0), parameters=parameters, head_width=32)
    asked = msgspec.structs.replace(asked, resources=Resources(gpus=1, cpus=1))
    trial = backend.trial(asked)
    assert isinstance(trial, TrialOfNothing)
    tried, whole = backend.estimate(trial.spec), backend.estimate(asked)
    assert (trial.spec.weights, trial.spec.adapter, trial.spec.slots) == (asked.weights, asked.adapter, 1)
    assert tried.cache_bytes <= whole.cache_bytes
    assert tried.compute_bytes <= whole.compute_bytes
    assert tried.adapter_bytes == whole.adapter_bytes
    assert (tried.prefix_bytes, trial.spec.mapped, trial.spec.resources) == (0, True, Resources())
    assert _sizes(trial.spec).threads == _sizes(asked).threads


def test_what_cannot_be_served_is_not_tried(tmp_path: Path) -> None:
    """It is refused before any process starts."""
    backend = LlamaBackend(TrialOfNothing)
    with pytest.raises(InvalidParameter, match="context_length"):
        backend.trial(spec(adapter=write_adapter(tmp_path / "a.gguf", 1.0), parameters={"context_length": 9999}))


def test_an_adapter_of_other_weights_does_not_pass(weights: Path, bert: Path) -> None:
    """The real process refuses it, however often it is asked."""
    backend = all_backends()[BackendName.LLAMA.value]
    for _ in range(2):
        trial = backend.trial(spec(weights, adapter=bert))
        assert trial is not None
        with pytest.raises(BadWeights, match="adapter"):
            trial.run()


def test_an_adapter_of_these_weights_passes(weights: Path, tmp_path: Path) -> None:
    """In the real process; after that there is nothing to try."""
    backend = all_backends()[BackendName.LLAMA.value]
    adapted = spec(weights, adapter=write_adapter(tmp_path / "a.gguf", 1.0))
    trial = backend.trial(adapted)
    assert trial is not None
    trial.run()
    assert backend.trial(adapted) is None


def test_mapped_weights_are_pages_of_their_file(weights: Path, tmp_path: Path) -> None:
    """Nothing is copied into the order that the processor likes best, which would take as much memory once more."""
    from appliance.engines.llama.runtime import Model
    from appliance.engines.llama.runtime.quantizer import quantize_file

    path = tmp_path / "q4_0.gguf"
    quantize_file(weights, path, "q4_0", 1, lambda done, of: None)
    model = Model(path, mapped=True)
    held_mib = model._hold.weights.account.weights_mib["cpu"]
    model.close()
    assert 0 < held_mib <= path.stat().st_size / 2**20 + 0.01
