"""A double of the appliance for what a real one cannot show on demand: fixed numbers, failures, slow streams.

``FixedNode.answer`` is a handler for ``httpx.MockTransport``: snapshots need the same bytes on every machine.
Everything that a real server can show is tested against a real server.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec

from appliance.wire import admin, sgp_v3

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GIB = 1024**3
MIB = 1024**2
ACCOUNT = "acc-1"

SCHEMA = {"type": "object", "properties": {"messages": {"type": "array"}}, "required": ["messages"]}


def deployment_state(number: int, name: str, model_type: str, **changes: Any) -> admin.DeploymentState:
    fields: dict[str, Any] = {
        "id": f"dep-{number}",
        "name": name,
        "model_id": f"mod-{number}",
        "model_name": changes.pop("model_name", name),
        "model_type": model_type,
        "status": "READY",
        "status_reason": None,
        "built_in": True,
        "resident": False,
        "calls": 0,
        "prompt_tokens": 0,
        "response_tokens": 0,
        "errors": 0,
    }
    return admin.DeploymentState(**{**fields, **changes})


def resident(number: int, name: str, **changes: Any) -> admin.Resident:
    fields: dict[str, Any] = {
        "deployment_id": f"dep-{number}",
        "deployment_name": name,
        "state": "READY",
        "device": "cpu",
        "pinned": False,
        "leases": 0,
        "waiting": 0,
        "slots": 10,
        "predicted_bytes": 120 * MIB,
        "measured_bytes": 98 * MIB,
        "cache_used_tokens": 0,
        "cache_total_tokens": 8192,
        "idle_seconds": 42.0,
        "loaded_at": NOW,
    }
    return admin.Resident(**{**fields, **changes})


DEPLOYMENTS = [
    deployment_state(1, "starter-chat", "CHAT_COMPLETION", calls=1204, prompt_tokens=96_400, response_tokens=31_800),
    deployment_state(2, "starter-embed", "EMBEDDING", calls=318, prompt_tokens=1_402_000),
    deployment_state(3, "starter-rerank", "RERANKING", calls=12, prompt_tokens=4_870, errors=1),
    deployment_state(
        4,
        "support-assistant",
        "CHAT_COMPLETION",
        model_name="qwen2.5-0.5b-support",
        status="FAILED",
        status_reason="needs 9.1 GiB, 6.2 free on cpu; retire 'x' or lower context_length",
        built_in=False,
    ),
    deployment_state(5, "invoice-agent", "AGENT", status="LOADING", built_in=False, model_name="smollm2-agent"),
]

STATE = admin.State(
    version="0.1.0",
    started_at=NOW - timedelta(hours=3),
    now=NOW,
    ready=True,
    not_ready_reasons=[],
    devices=[
        admin.Device(
            id="cpu",
            name="AMD EPYC 9354",
            total_bytes=16 * GIB,
            free_bytes=11 * GIB,
            used_by_appliance_bytes=2 * GIB,
            utilisation_percent=37.0,
        ),
        admin.Device(
            id="gpu0",
            name="NVIDIA L4",
            total_bytes=24 * GIB,
            free_bytes=2 * GIB,
            used_by_appliance_bytes=21 * GIB,
            utilisation_percent=96.0,
            temperature_celsius=71.0,
            power_watts=68.0,
        ),
    ],
    gpu_note=None,
    store_used_bytes=14 * GIB,
    store_free_bytes=80 * GIB,
    memory_budget_bytes=12 * GIB,
    memory_reserved_bytes=2 * GIB,
    residents=[
        resident(1, "starter-chat", pinned=True, leases=3, waiting=1, cache_used_tokens=1833),
        resident(2, "starter-embed", cache_total_tokens=0, slots=1, measured_bytes=110 * MIB),
        resident(5, "invoice-agent", state="LOADING", measured_bytes=None, loaded_at=None, predicted_bytes=9 * GIB),
    ],
    deployments=DEPLOYMENTS,
)

KEYS = [
    admin.Key(
        id="key-1",
        name="first admin",
        role="admin",
        account_id=ACCOUNT,
        prefix="ak_3fQ9",
        created_at=NOW,
        revoked_at=None,
    ),
    admin.Key(
        id="key-2",
        name="billing service",
        role="member",
        account_id=ACCOUNT,
        prefix="ak_81Lm",
        created_at=NOW,
        revoked_at=None,
    ),
    admin.Key(
        id="key-3",
        name="old laptop",
        role="member",
        account_id=ACCOUNT,
        prefix="ak_0aZz",
        created_at=NOW - timedelta(days=90),
        revoked_at=NOW,
    ),
]

USER = {
    "id": "user-1",
    "email": "admin@appliance",
    "access_profiles": [{"role": "admin", "account": {"id": ACCOUNT, "name": "default"}}],
}

ANSWER = "I am a small starter model. I can talk about this appliance, call tools and answer from a passage."


def json_answer(value: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=msgspec.json.encode(value), headers={"content-type": "application/json"})


def problem(status: int, detail: str, code: str = "conflict") -> httpx.Response:
    return json_answer(admin.Problem(detail=detail, code=code, errors=[]), status)


def stream_answer(text: str) -> httpx.Response:
    """A chat answer, word by word, with usage, as server-sent events."""
    words = text.split(" ")
    events: list[object] = [
        {"choices": [{"index": 0, "delta": {"content": word if n == 0 else f" {word}"}, "finish_reason": None}]}
        for n, word in enumerate(words)
    ]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 24, "completion_tokens": len(words), "total_tokens": 24 + len(words)}
    events.append({"choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 8}}})
    lines = [f"data: {msgspec.json.encode(event).decode()}\n\n" for event in events] + ["data: [DONE]\n\n"]
    return httpx.Response(200, content="".join(lines), headers={"content-type": "text/event-stream"})


class FixedNode:
    """Answers each route from a table; a test may replace single routes."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.routes: dict[tuple[str, str], Callable[[httpx.Request], httpx.Response]] = {
            ("GET", "/admin/state"): lambda _: json_answer(STATE),
            ("GET", "/user-info"): lambda _: json_answer(USER),
            ("GET", "/admin/keys"): lambda _: json_answer(KEYS),
            ("POST", "/admin/keys"): lambda _: json_answer(
                admin.NewKey(key=KEYS[1], secret="ak_81Lm-not-a-real-secret")
            ),
            ("DELETE", "/admin/keys/key-2"): lambda _: json_answer(KEYS[1]),
            ("POST", "/v1/chat/completions"): lambda _: stream_answer(ANSWER),
        }

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        route = self.routes.get((request.method, request.url.path))
        if route is None:
            return problem(404, f"nothing is known at {request.method} {request.url.path}", "not_found")
        return route(request)


__all__ = ["NOW", "STATE", "FixedNode", "json_answer", "problem", "sgp_v3", "stream_answer"]
