"""The appliance's own routes under ``/admin``: the dashboard, the zoo, imports, artifacts, keys, swaps."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from litestar import Controller, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter
from msgspec import structs

from appliance.api.auth import require_admin
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES, CREATES_SECRET
from appliance.api.ops.limits import changes_of, key_use_view, key_view
from appliance.api.ops.state import benchmark_view, plan_view, state_of
from appliance.api.sgp.views import deployment_view
from appliance.domain.limits import UNLIMITED
from appliance.domain.models import Artifact, Job, Role, Upstream
from appliance.lifecycle.importable import find_importable
from appliance.lifecycle.importing import allowed_path
from appliance.lifecycle.node import Node
from appliance.wire import admin as wire
from appliance.wire import sgp_v3
from appliance.wire.quotas import LimitsPatch
from models_store.catalog import ZooModel, catalog

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Before = Annotated[str | None, QueryParameter(description="the last id of the page before")]


class StateController(Controller):
    """What any key may look at."""

    path = "/admin"
    tags = ("administration",)

    @get("/state", operation_id="adminState")
    async def state(self, node: TheNode, caller: TheCaller) -> wire.State:
        """The node at this moment."""
        return await state_of(node, caller)

    @get("/zoo", operation_id="adminZoo")
    async def zoo(self, node: TheNode) -> list[wire.ZooEntry]:
        """The models that become callable by name when their file is imported."""
        installed = {artifact.zoo_name for artifact in node.artifacts.list()}
        return [_zoo_view(entry, installed) for entry in catalog().entries]

    @get("/deployments/{deployment_id:str}/calls", operation_id="adminCalls")
    async def calls(
        self, node: TheNode, caller: TheCaller, deployment_id: PathId, limit: Limit = 100, before: Before = None
    ) -> list[dict[str, Any]]:
        """The newest logged calls of a deployment; of a built-in one only the caller's account's, admins see all."""
        node.directory.get(caller, node.directory.deployments, deployment_id, "model deployment")
        account_id = None if caller.is_admin else caller.account_id
        found = await node.calls.list(deployment_id=deployment_id, account_id=account_id, limit=limit, before=before)
        return [{name: getattr(call, name) for name in call.__struct_fields__ if name != "content"} for call in found]

    @post("/deployments/{deployment_id:str}/swap", operation_id="adminSwap", status_code=200)
    async def swap(
        self, node: TheNode, caller: TheCaller, deployment_id: PathId, data: JSONBody[wire.SwapCreate]
    ) -> sgp_v3.Deployment:
        """Point a deployment at another model: that one is loaded first, the old one serves until then.

        It runs to its end even when the client leaves, so that registry and memory agree.
        """
        return deployment_view(await node.deployments.swap(caller, deployment_id, data.model_id))


class AdminController(Controller):
    """What only admins may do."""

    path = "/admin"
    tags = ("administration",)
    guards = (require_admin,)

    @get("/importable", operation_id="adminImportable")
    async def importable(self, node: TheNode) -> list[wire.ImportableFile]:
        """Weights files below the import roots of the server."""
        return await asyncio.to_thread(find_importable, node.import_roots())

    @post("/plan", operation_id="adminPlan", status_code=200)
    async def plan(self, node: TheNode, caller: TheCaller, data: JSONBody[wire.PlanCreate]) -> wire.Plan:
        """What a call of a deployment would do to memory now: what is loaded, what leaves, and why. Does nothing."""
        return plan_view(node.deployments.plan(caller, data))

    @get("/benchmarks", operation_id="adminBenchmarks")
    async def benchmarks(self, node: TheNode, caller: TheCaller) -> list[wire.Benchmark]:
        """What deployments were measured to do on this machine, and whether that still holds; oldest first."""
        return [benchmark_view(kept, stale) for kept, stale in node.benchmarks.list(caller)]

    @post("/benchmarks", operation_id="adminKeepBenchmark", status_code=200, opt=CREATES)
    async def keep_benchmark(
        self, node: TheNode, caller: TheCaller, data: JSONBody[wire.BenchmarkCreate]
    ) -> wire.Benchmark:
        """Keep what a client (``appliance bench``) measured of an engine in memory; Retry-After starts from it."""
        return benchmark_view(await node.benchmarks.keep(caller, data), None)

    @post("/imports", operation_id="adminImport", status_code=200, opt=CREATES)
    async def start_import(self, node: TheNode, caller: TheCaller, data: JSONBody[wire.ImportCreate]) -> wire.Job:
        """Start an import; its job tells how it goes."""
        paths = [allowed_path(path, node.import_roots()) for path in data.paths]
        return _job_view(await node.imports.start(caller, paths, data.name, data.base))

    @get("/jobs", operation_id="adminJobs")
    async def jobs(self, node: TheNode) -> list[wire.Job]:
        """Jobs, newest first."""
        return [_job_view(job) for job in node.imports.list()]

    @get("/jobs/{job_id:str}", operation_id="adminJob")
    async def job(self, node: TheNode, job_id: PathId) -> wire.Job:
        """One job."""
        return _job_view(node.imports.get(job_id))

    @delete("/jobs/{job_id:str}", operation_id="adminCancelJob", status_code=200)
    async def cancel_job(self, node: TheNode, job_id: PathId) -> wire.Job:
        """Cancel a job."""
        return _job_view(node.imports.cancel(job_id))

    @get("/artifacts", operation_id="adminArtifacts")
    async def artifacts(self, node: TheNode) -> list[wire.Artifact]:
        """Imported weights."""
        return [_artifact_view(node, artifact) for artifact in node.artifacts.list()]

    @delete("/artifacts/{name:str}", operation_id="adminDeleteArtifact", status_code=200)
    async def delete_artifact(self, node: TheNode, caller: TheCaller, name: PathId) -> sgp_v3.Deleted:
        """Delete weights that no model stands on."""
        await node.delete_artifact(caller, name)
        return sgp_v3.Deleted(count=1)

    @get("/keys", operation_id="adminKeys")
    async def keys(self, node: TheNode, caller: TheCaller) -> list[wire.Key]:
        """Keys, without their secrets."""
        return [key_view(key) for key in node.keys.list(caller)]

    @post("/keys", operation_id="adminCreateKey", status_code=200, opt=CREATES_SECRET)
    async def create_key(self, node: TheNode, caller: TheCaller, data: JSONBody[wire.KeyCreate]) -> wire.NewKey:
        """A new key; its secret is in this answer and nowhere else."""
        account_id = node.directory.account_for(caller, data.account_id)
        limits = structs.replace(UNLIMITED, **changes_of(data.limits))
        key, secret = await node.keys.create(caller, data.name, Role(data.role), account_id, limits)
        return wire.NewKey(key=key_view(key), secret=secret)

    @get("/keys/{key_id:str}", operation_id="adminKey")
    async def key(self, node: TheNode, key_id: PathId) -> wire.KeyUse:
        """One key, with what it has used of its limits."""
        return key_use_view(node, node.keys.get(key_id))

    @patch("/keys/{key_id:str}", operation_id="adminLimitKey")
    async def limit_key(
        self, node: TheNode, caller: TheCaller, key_id: PathId, data: JSONBody[LimitsPatch]
    ) -> wire.Key:
        """Change a key's limits: requests a minute, tokens a day, models, expiry; from the next request on."""
        return key_view(await node.keys.limit(caller, key_id, changes_of(data.limits)))

    @delete("/keys/{key_id:str}", operation_id="adminRevokeKey", status_code=200)
    async def revoke_key(self, node: TheNode, caller: TheCaller, key_id: PathId) -> wire.Key:
        """Revoke a key."""
        return key_view(await node.keys.revoke(caller, key_id))

    @get("/upstreams", operation_id="adminUpstreams")
    async def upstreams(self, node: TheNode) -> list[wire.Upstream]:
        """Endpoints where models of external vendors run, without their keys."""
        return [_upstream_view(node, upstream) for upstream in node.upstreams.list()]

    @post("/upstreams", operation_id="adminCreateUpstream", status_code=200, opt=CREATES)
    async def create_upstream(
        self, node: TheNode, caller: TheCaller, data: JSONBody[wire.UpstreamCreate]
    ) -> wire.Upstream:
        """Add an OpenAI-compatible endpoint; its host must be allowed, its key is stored encrypted and never shown."""
        made = await node.upstreams.create(caller, data.name, data.base_url, data.key, data.vendor)
        return _upstream_view(node, made)

    @patch("/upstreams/{name:str}", operation_id="adminRekeyUpstream")
    async def rekey_upstream(
        self, node: TheNode, caller: TheCaller, name: PathId, data: JSONBody[wire.UpstreamUpdate]
    ) -> wire.Upstream:
        """Give it another key, or none; the next request is sent with it."""
        return _upstream_view(node, await node.upstreams.rekey(caller, name, data.key))

    @delete("/upstreams/{name:str}", operation_id="adminDeleteUpstream", status_code=200)
    async def delete_upstream(self, node: TheNode, caller: TheCaller, name: PathId) -> sgp_v3.Deleted:
        """Remove one that no deployment runs at, and its key."""
        await node.upstreams.delete(caller, name)
        return sgp_v3.Deleted(count=1)


def _zoo_view(entry: ZooModel, installed: set[str | None]) -> wire.ZooEntry:
    return wire.ZooEntry(
        name=entry.name,
        title=entry.title,
        publisher=entry.publisher,
        model_types=[kind.value for kind in entry.model_types],
        licence=entry.licence,
        size=entry.size,
        source=entry.source,
        file_names=list(entry.file_names),
        installed=entry.name in installed or entry.weights_of in installed - {None},
    )


def _job_view(job: Job) -> wire.Job:
    return wire.Job(
        id=job.id,
        kind=job.kind,
        state=job.state.value,
        title=job.title,
        done_bytes=job.done_bytes,
        total_bytes=job.total_bytes,
        message=job.message,
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


def _artifact_view(node: Node, artifact: Artifact) -> wire.Artifact:
    card = artifact.card
    return wire.Artifact(
        name=artifact.name,
        digest=artifact.digest,
        format=card.format.value,
        architecture=card.architecture,
        parameter_count=card.parameter_count,
        context_length_tokens=card.context_length_tokens,
        quantization=card.quantization,
        licence=card.licence,
        model_types=[kind.value for kind in card.model_types],
        modalities=list(card.modalities),
        size_bytes=artifact.size_bytes,
        zoo_name=artifact.zoo_name,
        chat_template=card.chat_template,
        used_by=list(node.artifacts.used_by(artifact)),
        created_at=artifact.created_at,
    )


def _upstream_view(node: Node, upstream: Upstream) -> wire.Upstream:
    return wire.Upstream(
        id=upstream.id,
        name=upstream.name,
        base_url=upstream.base_url,
        vendor=upstream.vendor,
        has_key=upstream.sealed_key is not None,
        used_by=sorted(deployment.name for deployment in node.upstreams.used_by(upstream)),
        created_at=upstream.created_at,
    )
