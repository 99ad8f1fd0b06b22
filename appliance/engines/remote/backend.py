"""How an upstream's model becomes an engine: nothing is loaded, the upstream is asked whether it serves the model.

Called by the scheduler like every other backend. Importing this imports no HTTP client; ``load`` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Card, WeightsFormat
from appliance.engines.base import RAM, Engine, EngineSpec, Need, Placement, Resources
from appliance.engines.remote.address import check_base_url

DEFAULT_TIMEOUT_SECONDS: Final = 300.0
MAX_TIMEOUT_SECONDS: Final = 86_400.0


class RemoteSpec(EngineSpec, frozen=True, kw_only=True):
    """A model of an upstream. Its weights are elsewhere: the file is nowhere, and the card says nothing."""

    upstream_id: str
    upstream: str
    """The upstream's name, for messages."""
    base_url: str
    model: str
    """What the upstream calls it."""
    weights: Path = Path()
    card: Card = Card(format=WeightsFormat.GGUF, architecture="remote")

    @property
    def timeout_seconds(self) -> float:
        """How long the upstream may send nothing new."""
        return float(self.parameters.get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS))

    @property
    def max_tokens(self) -> int | None:
        """Length of an answer where the request does not give one; None: as the upstream does."""
        given = self.parameters.get("max_tokens")
        return None if given is None else int(given)


class RemoteBackend:
    """OpenAI-compatible upstreams. ``keys`` opens an upstream's key by its id; ``allowed_hosts`` is the configured."""

    def __init__(self, keys: Callable[[str], str | None], allowed_hosts: Sequence[str]) -> None:
        self._keys = keys
        self._allowed_hosts = allowed_hosts

    @property
    def version(self) -> str:
        """Of OpenAI's HTTP interface."""
        return "v1"

    def check(self, spec: EngineSpec) -> None:
        """Raise InvalidParameter for a host that is not allowed, or a parameter out of its range."""
        remote = _remote(spec)
        check_base_url(remote.base_url, self._allowed_hosts)
        if not 0 < remote.timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise InvalidParameter(f"timeout_seconds is {remote.timeout_seconds:g}; give up to {MAX_TIMEOUT_SECONDS:g}")
        if remote.max_tokens is not None and remote.max_tokens < 1:
            raise InvalidParameter(f"max_tokens is {remote.max_tokens}; give 1 or more, or leave it out")

    def asks(self, spec: EngineSpec) -> Resources:
        """Nothing of this machine."""
        return Resources()

    def estimate(self, spec: EngineSpec) -> Need:
        """No bytes: the weights are on another machine."""
        return Need(weights_bytes=0)

    def trial(self, spec: EngineSpec) -> None:
        """Nothing: no native code sees what comes from elsewhere."""

    def load(self, spec: EngineSpec, placement: Placement = RAM) -> Engine:
        """An engine for a model that the upstream serves right now; blocks.

        Raises InvalidParameter for a host that is no longer allowed, and NotReady when the upstream does not answer,
        refuses the key or does not know the model.
        """
        from appliance.engines.remote.engine import make_engine, prove  # here only: they import the HTTP client

        remote = _remote(spec)
        self.check(remote)
        listed = asyncio.run(prove(remote, self._keys))
        return make_engine(remote, self._keys, listed)


def _remote(spec: EngineSpec) -> RemoteSpec:
    assert isinstance(spec, RemoteSpec), "a local model reached the remote backend"
    return spec
