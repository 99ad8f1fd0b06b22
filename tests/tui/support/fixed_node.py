"""A double of the appliance for what a real one cannot show on demand: fixed numbers, refusals, a server that is gone.

``FixedNode.answer`` is a handler for ``httpx.MockTransport``: snapshots need the same bytes on every machine.
Everything that a real server can show is tested against a real server.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx
import msgspec

from appliance.wire import admin
from tests.tui.support import fixed_records as records
from tests.tui.support import fixed_trainings
from tui.records import BatchPage

Route = Callable[[httpx.Request], httpx.Response]

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
    """Answers each route from a table; a test may replace single routes, or take the whole server away."""

    def __init__(self) -> None:
        self.gone = False
        self.requests: list[httpx.Request] = []
        self.routes: dict[tuple[str, str], Route] = {
            ("GET", path): _always(value)
            for path, value in {
                "/admin/state": records.STATE,
                "/user-info": records.USER,
                "/admin/zoo": records.ZOO,
                "/admin/artifacts": records.ARTIFACTS,
                "/admin/importable": records.IMPORTABLE,
                "/admin/jobs": records.JOBS,
                "/admin/keys": records.KEYS,
                **{f"/admin/keys/{key.id}": key for key in records.KEYS_USED},
                "/admin/accounts": records.ACCOUNTS,
                "/admin/upstreams": records.UPSTREAMS,
                "/v1/models": records.CALLABLE,
                "/v4/training-datasets": fixed_trainings.DATASET_PAGE,
                "/v4/training-datasets/data-2/contents": fixed_trainings.EXAMPLES,
                "/admin/training-datasets/data-2/tokens": fixed_trainings.TOKENS,
                "/v4/fine-tuning-jobs": fixed_trainings.FINE_TUNING_PAGE,
                **{f"/v4/fine-tuning-jobs/{job.id}": job for job in fixed_trainings.FINE_TUNINGS},
                **{
                    f"/v4/fine-tuning-jobs/{job.id}/events": fixed_trainings.FINE_TUNING_EVENTS
                    for job in fixed_trainings.FINE_TUNINGS
                },
                "/v1/batches": BatchPage(data=records.BATCHES),
                "/v3/model-templates": records.TEMPLATES,
                "/v3/models": records.MODELS,
                "/v3/models/mod-1": records.MODELS[0],
                "/v3/models/mod-1/deployments/dep-1": records.DEPLOYMENT,
                "/admin/deployments/dep-1/calls": records.CALLS,
            }.items()
        }
        self.routes["POST", "/v1/chat/completions"] = lambda _: stream_answer(ANSWER)
        self.routes["POST", "/admin/plan"] = _always(records.PLAN)
        self.routes["POST", "/admin/keys"] = _always(admin.NewKey(key=records.KEYS[1], secret="ak_81Lm-no-real-secret"))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.gone:
            raise httpx.ConnectError("connection refused", request=request)
        route = self.routes.get((request.method, request.url.path))
        if route is None:
            return problem(404, f"nothing is known at {request.method} {request.url.path}", "not_found")
        return route(request)


def _always(value: object) -> Route:
    return lambda _: json_answer(value)
