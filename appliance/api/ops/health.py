"""Liveness, readiness, metrics. Open to all who reach the port; metrics to others than this machine with a key."""

from __future__ import annotations

from typing import Any

from litestar import Response, get
from msgspec import Struct

from appliance.api.handlers import TheNode
from appliance.api.ops.metrics import render_metrics


class Health(Struct, kw_only=True):
    """``ok``, or why not."""

    status: str
    reasons: list[str]


@get("/livez", operation_id="livez", tags=["health"], sync_to_thread=False)
def livez() -> Health:
    """200 while the event loop runs."""
    return Health(status="ok", reasons=[])


@get("/readyz", operation_id="readyz", tags=["health"], sync_to_thread=False)
def readyz(node: TheNode) -> Response[Health]:
    """200 when every pinned deployment can answer, else 503 with the reasons."""
    reasons = node.not_ready_reasons()
    status = "not ready" if reasons else "ok"
    return Response(Health(status=status, reasons=reasons), status_code=503 if reasons else 200)


@get("/metrics", operation_id="metrics", tags=["health"], media_type="text/plain; version=0.0.4", sync_to_thread=False)
def metrics(node: TheNode) -> Response[Any]:
    """Prometheus metrics."""
    return Response(render_metrics(node), media_type="text/plain; version=0.0.4; charset=utf-8")
