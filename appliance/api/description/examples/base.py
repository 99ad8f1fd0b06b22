"""What an example is, and what the ids in examples stand for."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

CHAT_MODEL, CHAT_DEPLOYMENT = "2b1c6f0e-5a0d-5c1e-9a53-7d1f0c5e1a01", "2b1c6f0e-5a0d-5c1e-9a53-7d1f0c5e1a02"
EMBED_MODEL, EMBED_DEPLOYMENT = "2b1c6f0e-5a0d-5c1e-9a53-7d1f0c5e1a03", "2b1c6f0e-5a0d-5c1e-9a53-7d1f0c5e1a04"
RERANK_MODEL, RERANK_DEPLOYMENT = "2b1c6f0e-5a0d-5c1e-9a53-7d1f0c5e1a05", "2b1c6f0e-5a0d-5c1e-9a53-7d1f0c5e1a06"
BUILT_IN = {
    "starter-chat": (CHAT_MODEL, CHAT_DEPLOYMENT),
    "starter-embed": (EMBED_MODEL, EMBED_DEPLOYMENT),
    "starter-rerank": (RERANK_MODEL, RERANK_DEPLOYMENT),
}
"""What stands for the ids of the starters' models and deployments."""

ACCOUNT = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c10"
USER = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c11"
TEMPLATE = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c12"
GROUP = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c13"
MODEL = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c14"
DEPLOYMENT = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c15"
SERVER = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c16"
KEY = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c17"
FILE = "file-0d8f4a1c93c04b6e8b7e0f6d5a9b2c18"
SGP_FILE = "file-0d8f4a1c93c04b6e8b7e0f6d5a9b2c21"
DATASET = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c22"
JOB = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c23"
V5_MODEL = "0d8f4a1c-93c0-4b6e-8b7e-0f6d5a9b2c24"
WHEN = "2026-11-02T09:30:00+00:00"


class Example(Struct, kw_only=True, frozen=True):
    """A request with its answer, as people read them."""

    body: Any
    answer: Any = None
    """None: it is not shown, because it is long, a stream, or the same as another one's."""
    name: str = "simple"
    summary: str = "The least that is needed."
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    runs: bool = True
    """It works on a fresh appliance, once those before it have run and the ids above stand for what is there."""
    makes: str = ""
    """Which of the ids above is that of what it makes."""


def entity(made: str, name: str, *shown: dict[str, Any]) -> dict[str, Any]:
    """A stored thing with the id ``made`` as v3 shows it."""
    own = {"id": made, "name": name, "created_at": WHEN, "account_id": ACCOUNT, "created_by_user_id": USER}
    return {key: value for each in (*shown, own) for key, value in each.items()}


def entity_v4(made: str, name: str, *shown: dict[str, Any]) -> dict[str, Any]:
    """The same in v4."""
    return entity(made, name, *shown, {"created_by_identity_type": "user"})
