"""The console's only network code: one method per route, typed values out, ``ConsoleError`` when it fails.

Screens call it from workers. It does not know Textual, keeps no state beside the connection pool, and never puts
the key anywhere but into the request header. Control characters in answers are replaced here, once: a model's text or
a name that another user chose must not steer the operator's terminal.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from appliance.wire import admin, sgp_v3
from appliance.wire.batches import BatchCreate
from appliance.wire.quotas import Account
from tui.format import without_controls
from tui.problems import Refused, Unexpected, Unreachable
from tui.records import (
    Batch,
    BatchPage,
    CallableModel,
    CallableModels,
    Chunk,
    Embeddings,
    LoggedCall,
    Ranking,
    StoredFile,
    UserInfo,
)
from tui.uploads import sendable

T = TypeVar("T")

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
POLL_ANSWER_SECONDS = 4.0
"""The state is read from memory: a server that needs longer is in trouble, and the operator should know."""
INFERENCE_SECONDS = 900.0
"""A first call loads the model, and a swap probes one: both may take minutes for large weights."""


class Client:
    """A connection to one appliance with one key. Close it with ``aclose``."""

    def __init__(self, url: str, key: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"x-api-key": _printable(key)},
            timeout=_timeout(ANSWER_SECONDS),
            transport=transport,
            verify=_trust(self.url),
            trust_env=False,  # the appliance is on this network: a proxy would only see the key
        )

    async def aclose(self) -> None:
        """Close the connections; closing twice is fine."""
        await self._http.aclose()

    # --- the node --------------------------------------------------------------------------------------------

    async def state(self) -> admin.State:
        """The node at this moment."""
        return await self.ask("GET", "/admin/state", admin.State, seconds=POLL_ANSWER_SECONDS)

    async def user_info(self) -> UserInfo:
        """Who the key belongs to."""
        return await self.ask("GET", "/user-info", UserInfo)

    async def plan(self, body: admin.PlanCreate) -> admin.Plan:
        """What a call would do to memory now."""
        return await self.ask("POST", "/admin/plan", admin.Plan, body)

    async def benchmarks(self) -> list[admin.Benchmark]:
        """What deployments were measured to do, oldest first."""
        return await self.ask("GET", "/admin/benchmarks", list[admin.Benchmark])

    async def keep_benchmark(self, body: admin.BenchmarkCreate) -> admin.Benchmark:
        """Let the server keep what was measured."""
        return await self.ask("POST", "/admin/benchmarks", admin.Benchmark, body)

    # --- weights ---------------------------------------------------------------------------------------------

    async def zoo(self) -> list[admin.ZooEntry]:
        """The catalogue of known models."""
        return await self.ask("GET", "/admin/zoo", list[admin.ZooEntry])

    async def importable(self) -> list[admin.ImportableFile]:
        """Weights below the server's import roots."""
        return await self.ask("GET", "/admin/importable", list[admin.ImportableFile])

    async def start_import(self, body: admin.ImportCreate) -> admin.Job:
        """Begin an import; its progress is in ``jobs``."""
        return await self.ask("POST", "/admin/imports", admin.Job, body)

    async def jobs(self) -> list[admin.Job]:
        """Long work, running and finished."""
        return await self.ask("GET", "/admin/jobs", list[admin.Job])

    async def cancel_job(self, job_id: str) -> admin.Job:
        """Ask a running job to stop."""
        return await self.ask("DELETE", f"/admin/jobs/{job_id}", admin.Job)

    async def artifacts(self) -> list[admin.Artifact]:
        """Imported weights."""
        return await self.ask("GET", "/admin/artifacts", list[admin.Artifact])

    async def delete_artifact(self, name: str) -> sgp_v3.Deleted:
        """Remove imported weights that no model stands on."""
        return await self.ask("DELETE", f"/admin/artifacts/{_segment(name)}", sgp_v3.Deleted)

    # --- keys ------------------------------------------------------------------------------------------------

    async def keys(self) -> list[admin.Key]:
        """All keys, without secrets."""
        return await self.ask("GET", "/admin/keys", list[admin.Key])

    async def key_use(self, key_id: str) -> admin.KeyUse:
        """One key, with what it has used of its limits."""
        return await self.ask("GET", f"/admin/keys/{_segment(key_id)}", admin.KeyUse)

    async def accounts(self) -> list[Account]:
        """The tenants that keys act for, with their limits and what they have used."""
        return await self.ask("GET", "/admin/accounts", list[Account])

    async def create_key(self, body: admin.KeyCreate) -> admin.NewKey:
        """Make a key; the answer is the only place that ever holds its secret."""
        return await self.ask("POST", "/admin/keys", admin.NewKey, body)

    async def revoke_key(self, key_id: str) -> admin.Key:
        """Make a key invalid for good."""
        return await self.ask("DELETE", f"/admin/keys/{key_id}", admin.Key)

    # --- models and deployments ------------------------------------------------------------------------------

    async def templates(self) -> list[sgp_v3.Template]:
        """The recipes that models are made from."""
        return await self.ask("GET", "/v3/model-templates", list[sgp_v3.Template])

    async def models(self) -> list[sgp_v3.Model]:
        """All models of the key's account, built-in ones included."""
        return await self.ask("GET", "/v3/models", list[sgp_v3.Model])

    async def model(self, model_id: str) -> sgp_v3.Model:
        """One model with its request and response schemas."""
        return await self.ask("GET", f"/v3/models/{model_id}", sgp_v3.Model)

    async def create_model(self, body: sgp_v3.ModelCreate) -> sgp_v3.Model:
        """Make a model from a template and its creation parameters."""
        return await self.ask("POST", "/v3/models", sgp_v3.Model, body)

    async def delete_model(self, model_id: str) -> sgp_v3.Deleted:
        """Remove a model that has no deployments."""
        return await self.ask("DELETE", f"/v3/models/{model_id}", sgp_v3.Deleted)

    async def callable_models(self) -> list[CallableModel]:
        """What this key can call, with what it reads."""
        return (await self.ask("GET", "/v1/models", CallableModels)).data

    async def deployment(self, model_id: str, deployment_id: str) -> sgp_v3.Deployment:
        """One deployment as v3 shows it."""
        return await self.ask("GET", f"/v3/models/{model_id}/deployments/{deployment_id}", sgp_v3.Deployment)

    async def create_deployment(self, model_id: str, body: sgp_v3.DeploymentCreate) -> sgp_v3.Deployment:
        """Ask the server to serve a model."""
        return await self.ask("POST", f"/v3/models/{model_id}/deployments", sgp_v3.Deployment, body)

    async def delete_deployment(self, model_id: str, deployment_id: str) -> sgp_v3.Deleted:
        """Stop serving: requests that run may finish, its ID is gone."""
        return await self.ask("DELETE", f"/v3/models/{model_id}/deployments/{deployment_id}", sgp_v3.Deleted)

    async def swap(self, deployment_id: str, model_id: str) -> sgp_v3.Deployment:
        """Let a deployment serve another model. It is loaded and probed first; when that fails the old one stays."""
        path = f"/admin/deployments/{deployment_id}/swap"
        body = admin.SwapCreate(model_id=model_id)
        return await self.ask("POST", path, sgp_v3.Deployment, body, seconds=INFERENCE_SECONDS)

    async def calls(self, deployment_id: str, limit: int = 50) -> list[LoggedCall]:
        """The newest executions of a deployment."""
        return await self.ask("GET", f"/admin/deployments/{deployment_id}/calls?limit={limit}", list[LoggedCall])

    # --- upstreams -------------------------------------------------------------------------------------------

    async def upstreams(self) -> list[admin.Upstream]:
        """Where models of external vendors run, without keys."""
        return await self.ask("GET", "/admin/upstreams", list[admin.Upstream])

    async def create_upstream(self, body: admin.UpstreamCreate) -> admin.Upstream:
        """Add one; its key is never shown again."""
        return await self.ask("POST", "/admin/upstreams", admin.Upstream, body)

    async def rekey_upstream(self, name: str, body: admin.UpstreamUpdate) -> admin.Upstream:
        """Give one another key, or none."""
        return await self.ask("PATCH", f"/admin/upstreams/{_segment(name)}", admin.Upstream, body)

    async def delete_upstream(self, name: str) -> sgp_v3.Deleted:
        """Remove one that no deployment runs at, and its key."""
        return await self.ask("DELETE", f"/admin/upstreams/{_segment(name)}", sgp_v3.Deleted)

    # --- batches ---------------------------------------------------------------------------------------------

    async def upload(self, name: str, content: BinaryIO) -> StoredFile:
        """Send a file of requests, in pieces."""
        return await self.send_file("/v1/files", StoredFile, name, content, {"purpose": "batch"})

    async def send_file(self, path: str, answer: type[T], name: str, content: BinaryIO, fields: dict[str, str]) -> T:
        """A form with a file, which is sent in pieces, and its answer."""
        file = {"file": (name, sendable(content), "application/jsonl")}
        with _translated(self.url):
            response = await self._http.post(path, data=fields, files=file, timeout=_timeout(INFERENCE_SECONDS))
        return _answered(response, answer, path)

    def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes, in pieces, just as they are."""
        return self.pieces(f"/v1/files/{_segment(file_id)}/content")

    async def pieces(self, path: str) -> AsyncGenerator[bytes, None]:
        """A long answer in pieces, just as it is. Closing the iterator leaves the rest unfetched."""
        with _translated(self.url):
            async with self._http.stream("GET", path, timeout=_timeout(INFERENCE_SECONDS)) as response:
                if response.is_error:
                    raise _refusal(response.status_code, await response.aread())
                async for piece in response.aiter_bytes():
                    yield piece

    async def delete_file(self, file_id: str) -> None:
        """Remove a file that no unfinished batch reads."""
        await self.ask("DELETE", f"/v1/files/{_segment(file_id)}", dict[str, Any])

    async def create_batch(self, body: BatchCreate) -> Batch:
        """Run the requests of an uploaded file in the background."""
        return await self.ask("POST", "/v1/batches", Batch, body)

    async def batches(self, limit: int = 100) -> list[Batch]:
        """The account's newest batches, newest first."""
        return (await self.ask("GET", f"/v1/batches?limit={limit}", BatchPage)).data

    async def batch(self, batch_id: str) -> Batch:
        """One batch, with how far it is."""
        return await self.ask("GET", f"/v1/batches/{_segment(batch_id)}", Batch)

    async def cancel_batch(self, batch_id: str) -> Batch:
        """Stop a batch; what it has answered until then stays."""
        return await self.ask("POST", f"/v1/batches/{_segment(batch_id)}/cancel", Batch)

    # --- inference -------------------------------------------------------------------------------------------

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        """Stream ``/v1/chat/completions`` or ``/v1/completions``. Closing the iterator cancels the generation."""
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with _translated(self.url):
            async with self._http.stream("POST", path, json=body, timeout=_timeout(INFERENCE_SECONDS)) as response:
                if response.is_error:
                    raise _refusal(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if chunk := _event(line):
                        yield chunk

    async def embed(self, model: str, texts: list[str]) -> Embeddings:
        """One vector per text."""
        body = {"model": model, "input": texts}
        return await self.ask("POST", "/v1/embeddings", Embeddings, body, seconds=INFERENCE_SECONDS)

    async def rerank(self, model: str, query: str, documents: list[str]) -> Ranking:
        """Documents with scores, best first."""
        body = {"model": model, "query": query, "documents": documents}
        return await self.ask("POST", "/v1/rerank", Ranking, body, seconds=INFERENCE_SECONDS)

    async def agent_step(self, model_id: str, deployment_id: str, body: sgp_v3.AgentExecute) -> sgp_v3.AgentResult:
        """One step of an agent: an answer or the tool that it wants run."""
        path = f"/v3/models/{model_id}/deployments/{deployment_id}/execute"
        return await self.ask("POST", path, sgp_v3.AgentResult, body, seconds=INFERENCE_SECONDS)

    async def ask(
        self, method: str, path: str, answer: type[T], body: object = None, *, seconds: float = ANSWER_SECONDS
    ) -> T:
        """One request, and its answer as ``answer``."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        with _translated(self.url):
            response = await self._http.request(
                method, path, content=content, headers=headers, timeout=_timeout(seconds)
            )
        return _answered(response, answer, path)


class _StreamFault(msgspec.Struct, kw_only=True):
    """An error after the first byte left, when no status can say it any more."""

    detail: str | None = None
    error: dict[str, Any] | None = None


def _trust(url: str) -> ssl.SSLContext | bool:
    """The certificates to check the server's by; over plain HTTP none are read, which takes its time."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.startswith("http://") else True


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=CONNECT_SECONDS)


def _printable(key: str) -> str:
    """Keys are ASCII; anything else is a paste accident that would fail deep inside the HTTP library."""
    stripped = key.strip()
    if not (stripped.isascii() and stripped.isprintable()):
        raise Refused("the key has characters that no key has; copy it again", status=401, code="unauthenticated")
    return stripped


def _segment(name: str) -> str:
    return quote(name, safe="")


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise Unreachable(f"{url} did not answer in time ({type(error).__name__})") from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Unreachable(f"{url}: {error or type(error).__name__}") from error


def _answered(response: httpx.Response, answer: type[T], path: str) -> T:
    if response.is_error:
        raise _refusal(response.status_code, response.content)
    return _decoded(response.content, answer, path)


def _refusal(status: int, content: bytes) -> Refused:
    try:
        problem = _read(content, admin.Problem)
    except msgspec.DecodeError:
        return Refused(f"status {status} without an explanation", status=status, code="unknown")
    return Refused(problem.detail, status=status, code=problem.code, incident_id=problem.incident_id)


def _decoded(content: bytes, answer: type[T], path: str) -> T:
    try:
        return _read(content, answer)
    except msgspec.DecodeError as error:
        raise Unexpected(f"{path}: {error}; is this an appliance, and of the console's version?") from error


def _read(content: bytes, answer: type[T]) -> T:
    return msgspec.convert(without_controls(msgspec.json.decode(content)), answer)


def _event(line: str) -> Chunk | None:
    """Read one line of an event stream; None for blank lines, comments and the end mark."""
    if not line.startswith("data:"):
        return None
    data = line[5:].strip()
    if data == "[DONE]":
        return None
    fault = _decoded(data.encode(), _StreamFault, "stream")
    if fault.error is not None or fault.detail is not None:
        detail = fault.detail or str((fault.error or {}).get("message", fault.error))
        raise Refused(detail, status=500, code="stream")
    return _decoded(data.encode(), Chunk, "stream")
