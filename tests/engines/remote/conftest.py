"""An upstream that does what it is told, and engines over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import pytest

from appliance.domain.models import ModelType
from appliance.engines.remote.backend import RemoteBackend, RemoteSpec
from tests.support.fake_upstream import MODEL, FakeUpstream, fake_upstream

KEY = "sk-upstream-key"

Load: TypeAlias = Callable[..., Any]


def spec_of(upstream: FakeUpstream, model_type: ModelType = ModelType.CHAT_COMPLETION, **fields: Any) -> RemoteSpec:
    return RemoteSpec(
        model_type=model_type,
        upstream_id="u",
        upstream="cluster",
        base_url=fields.pop("base_url", upstream.base_url),
        model=fields.pop("model", MODEL),
        **fields,
    )


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with fake_upstream() as running:
        yield running


@pytest.fixture
async def load(upstream: FakeUpstream) -> AsyncIterator[Load]:
    """Loads an engine as the scheduler does, in a thread; all are closed in the end."""
    engines: list[Any] = []
    backend = RemoteBackend(lambda _: KEY, [upstream.host])

    async def make(model_type: ModelType = ModelType.CHAT_COMPLETION, **fields: Any) -> Any:
        engines.append(await asyncio.to_thread(backend.load, spec_of(upstream, model_type, **fields)))
        return engines[-1]

    yield make
    for engine in engines:
        await asyncio.to_thread(engine.close)
