"""What ``onnx_throughput`` measures inside the engine: the order of texts, 8-bit vectors, who waits for whom."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from appliance.domain.inference import EmbeddingRequest
from appliance.domain.models import ModelType
from appliance.engines.base import EngineSpec
from appliance.engines.onnx.backend import OnnxBackend
from appliance.engines.onnx.encoder import Encoder
from appliance.engines.onnx.engines import OnnxEmbeddingEngine
from appliance.engines.onnx.line import Line
from appliance.engines.onnx.settings import PASS_TOKENS
from appliance.engines.onnx.tasks import EncodedText
from tests.benchmarks.onnx_clients import Connection, Request
from tests.benchmarks.onnx_texts import texts
from tests.support.onnx_folders import card_of
from tests.support.server import Server
from tests.support.starter_embed import STARTER_EMBED

FACTS: Final = Path(__file__).parents[2] / "models_store" / "recipes" / "starter_chat" / "facts.toml"
BIG_LIST_TEXTS: Final = 2_048
TOKENIZING_SECONDS: Final = 8.0
"""More than that list takes before its first batch, and much less than its batches do."""
BATCH_TOKENS: Final = 512
CALLERS, CALLERS_TEXTS = 4, 16


@contextmanager
def engine(folder: Path = STARTER_EMBED) -> Iterator[OnnxEmbeddingEngine]:
    """An engine in this process."""
    spec = EngineSpec(model_type=ModelType.EMBEDDING, weights=folder, card=card_of(folder))
    loaded = OnnxBackend().load(spec)
    assert isinstance(loaded, OnnxEmbeddingEngine)
    try:
        yield loaded
    finally:
        loaded.close()


def orders() -> dict[str, float]:
    """Tokens a second over some callers' lists of mixed texts: in the batches of the line, and in arrival order."""
    requests = [texts("mixed", CALLERS_TEXTS, seed) for seed in range(CALLERS)]
    with engine() as loaded:
        encoder = loaded._encoder
        encoded = [encoder.tokenizer.encode(request, "text {index}") for request in requests]
        return {
            name: _rate(encoder, batches)
            for name, batches in (("sorted", list(_lined_up(encoded))), ("arrival", list(_as_they_came(encoded))))
        }


def _lined_up(requests: Sequence[Sequence[EncodedText]]) -> Iterator[list[EncodedText]]:
    waiting: Line[int] = Line(BATCH_TOKENS, PASS_TOKENS["cpu"])
    for name, request in enumerate(requests):
        waiting.join(name, [len(text) for text in request])
    while batch := waiting.take():
        yield [requests[name][place] for name, place in batch]


def _as_they_came(requests: Sequence[Sequence[EncodedText]]) -> Iterator[list[EncodedText]]:
    """As many as fit, whatever their lengths."""
    batch: list[EncodedText] = []
    for text in itertools.chain(*requests):
        if batch and max(map(len, [*batch, text])) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(text)
    yield batch


def _rate(encoder: Encoder, batches: Sequence[Sequence[EncodedText]]) -> float:
    started = time.perf_counter()
    for batch in batches:
        encoder.run(batch)
    return sum(len(text) for batch in batches for text in batch) / (time.perf_counter() - started)


def cosines() -> list[tuple[str, str, str]]:
    """8-bit vectors against float32 ones, and against themselves in another batch: what, mean, least."""
    sentences = tuple(re.findall(r'^answer = "(.+)"$', FACTS.read_text(), re.MULTILINE))
    with engine() as exact, engine(STARTER_EMBED / "int8") as near:
        reference, together = (_vectors(loaded, sentences) for loaded in (exact, near))
        alone = np.concatenate([_vectors(near, (sentence,)) for sentence in sentences])
        exact_alone = np.concatenate([_vectors(exact, (sentence,)) for sentence in sentences])
    found = {
        "8 bits to float32": (together * reference).sum(axis=1),
        "8 bits alone to 8 bits in a batch": (together * alone).sum(axis=1),
        "float32 alone to float32 in a batch": (reference * exact_alone).sum(axis=1),
    }
    return [(name, f"{each.mean():.5f}", f"{each.min():.5f}") for name, each in found.items()]


def _vectors(loaded: OnnxEmbeddingEngine, sentences: tuple[str, ...]) -> npt.NDArray[np.float32]:
    result = asyncio.run(loaded.embed(EmbeddingRequest(texts=sentences)))
    return np.array(result.vectors, np.float32)


def waits(server: Server, count: int) -> dict[str, list[float]]:
    """Seconds that a short text takes: alone, and while another client's long list is computed."""
    alone = _short_texts(server, count)
    with _busy(server):
        tokenized = _short_texts(server, count)
        time.sleep(TOKENIZING_SECONDS)
        computed = _short_texts(server, count)
    name = f"a list of {BIG_LIST_TEXTS:,} long texts"
    return {"alone": alone, f"while {name} is tokenized": tokenized, f"while {name} is computed": computed}


@contextmanager
def _busy(server: Server) -> Iterator[None]:
    """Another client's request is tokenized, then computed; it leaves at the end."""
    body = {"model": "starter-embed", "input": texts("long", 64, 0) * (BIG_LIST_TEXTS // 64)}
    with Connection(server.url, server.member_key) as connection:
        connection.send(Request("/v1/embeddings", msgspec.json.encode(body)))
        while not any(resident["leases"] for resident in server.state()["residents"]):
            time.sleep(0.05)
        yield


def _short_texts(server: Server, count: int) -> list[float]:
    found = []
    with Connection(server.url, server.member_key) as connection:
        for text in texts("short", count, 1):
            body = msgspec.json.encode({"model": "starter-embed", "input": text})
            started = time.perf_counter()
            connection.call(Request("/v1/embeddings", body))
            found.append(time.perf_counter() - started)
    return found
