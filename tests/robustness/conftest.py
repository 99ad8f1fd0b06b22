"""A model that never stops by itself and takes its time: a long context over tiny weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import chain
from tests.support.chain import Deployed
from tests.support.server import Server
from tests.support.tiny_models import write_llama

LONG_CONTEXT_TOKENS = 65_536
LONG_CONTEXT = {"context_length": LONG_CONTEXT_TOKENS, "cache_tokens": LONG_CONTEXT_TOKENS}


@pytest.fixture(scope="session")
def endless(server: Server) -> Iterator[Deployed]:
    """A deployment whose answers go on until its long context is full."""
    with server.client() as client:
        path = write_llama(server.home / "import" / "endless.gguf", context_length=LONG_CONTEXT_TOKENS)
        chain.import_weights(client, path, "endless")
        deployed = chain.deploy(client, chain.CHAT, "endless", "endless", model_creation_parameters=LONG_CONTEXT)
        yield deployed
        chain.remove(client, deployed)
        client.delete("/admin/artifacts/endless").raise_for_status()
