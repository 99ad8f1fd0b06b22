"""The smallest request that runs an engine's whole forward pass: proof that it answers, not just that it loaded."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from appliance.domain.inference import CompletionRequest, EmbeddingRequest, RerankingRequest, Sampling
from appliance.engines.base import EmbeddingEngine, Engine, RerankingEngine, TextEngine


@runtime_checkable
class SelfProving(Protocol):
    """An engine that has a better proof, as one whose tokens cost money elsewhere."""

    async def prove(self) -> None:
        """Raise what keeps it from answering."""


async def probe(engine: Engine) -> None:
    """Answer one tiny request. Raises what the engine raises."""
    if isinstance(engine, SelfProving):
        await engine.prove()
    elif isinstance(engine, TextEngine):
        stream = await engine.complete(CompletionRequest(prompt="Hello", sampling=Sampling(max_tokens=1)))
        async for _ in stream:
            pass
    elif isinstance(engine, RerankingEngine):
        await engine.rerank(RerankingRequest(query="Hello", chunks=("world",)))
    elif isinstance(engine, EmbeddingEngine):
        await engine.embed(EmbeddingRequest(texts=("Hello",)))
