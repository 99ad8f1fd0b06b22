"""Moving what callers call to a fine-tuned model: only when it is not worse than its base, and with a way back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from msgspec import structs

from appliance.domain.clock import Clock
from appliance.domain.errors import Conflict, Immutable, InvalidParameter, NotFound
from appliance.domain.finetuning import FineTuningJob, Promotion
from appliance.domain.models import Caller, Deployment, JobState, Model, ModelServer
from appliance.domain.training import Evaluation, TrainingKind
from appliance.lifecycle.deployments import Deployments
from appliance.lifecycle.directory import SYSTEM_ACCOUNT_ID, Directory
from appliance.lifecycle.finetuning import FineTuning
from appliance.lifecycle.model_servers import ModelServers
from appliance.registry.database import Database
from appliance.registry.finetuning import fine_tuning_jobs as rows
from appliance.wire import sgp
from appliance.wire.sgp_training import PromotionCreate

METRICS = {
    TrainingKind.GENERATION: (("loss", -1), ("perplexity", -1), ("exact_match", 1)),
    TrainingKind.RERANKING: (("ndcg_at_10", 1), ("mrr", 1), ("accuracy", 1)),
    TrainingKind.EMBEDDING: (("ndcg_at_10", 1), ("mrr", 1), ("accuracy", 1)),
}
"""The first that both were measured by decides; 1: more is better."""


def why_worse(kind: TrainingKind, evaluation: Evaluation | None) -> str | None:
    """Why the evaluation does not speak for the candidate; None when it is not worse than the base."""
    if evaluation is None or not evaluation.examples:
        return "it was not evaluated, because no examples were held out"
    for name, direction in METRICS[kind]:
        if name in evaluation.base and name in evaluation.candidate:
            base, candidate = evaluation.base[name], evaluation.candidate[name]
            if math.isfinite(candidate) and direction * candidate >= direction * base:
                return None
            return f"its {name} on {evaluation.examples} held-out examples is {candidate:.4g}, the base's {base:.4g}"
    return "it was measured by nothing that decides"


class Promotions:
    """Promotes results and takes that back."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        jobs: FineTuning,
        deployments: Deployments,
        servers: ModelServers,
        clock: Clock,
    ) -> None:
        self._database = database
        self._directory = directory
        self._jobs = jobs
        self._deployments = deployments
        self._servers = servers
        self._clock = clock

    async def promote(
        self, caller: Caller, job_id: str, body: PromotionCreate, patience_seconds: float
    ) -> FineTuningJob:
        """Move a model server, or a deployment, to the job's model: it is loaded first, the old one serves until then.

        Raises NotFound, Conflict (not completed, promoted already, worse than its base and not forced),
        InvalidParameter when it is not clear what to move, and what the load raises; then nothing has moved.
        """
        job = await self._jobs.get(caller, job_id)
        model = self._model_of(caller, job)
        if job.promotion is not None and self._present(caller, job.promotion) == job.promotion.to_id:
            raise Conflict(f"'{job.promotion.target_name}' was moved to it already; roll that back first")
        worse = why_worse(job.kind, job.evaluation)
        if worse is not None and not body.force:
            raise Conflict(f"'{model.name}' is not promoted: {worse}; promote it with force all the same")
        target = self._target(caller, model, body)
        if isinstance(target, ModelServer):
            moved = await self._move_server(caller, target, model, patience_seconds)
        else:
            await self._deployments.swap(caller, target.id, model.id)
            moved = (target.model_id, model.id)
        promotion = Promotion(
            target="model_server" if isinstance(target, ModelServer) else "deployment",
            target_id=target.id,
            target_name=target.name,
            from_id=moved[0],
            to_id=moved[1],
            is_forced=worse is not None,
            promoted_at=self._clock.now(),
        )
        return await self._note(job, promotion)

    async def roll_back(self, caller: Caller, job_id: str, patience_seconds: float) -> FineTuningJob:
        """Move it back. Raises NotFound, Conflict where nothing was moved or something else was since, NotReady."""
        job = await self._jobs.get(caller, job_id)
        promotion = job.promotion
        if promotion is None:
            raise Conflict(f"nothing was moved to the result of '{job.id}'; there is nothing to roll back")
        if self.is_pending(promotion):
            raise Conflict(f"'{promotion.target_name}' is still on its way to it; roll back when that has ended")
        present_id = self._present(caller, promotion)
        if present_id == promotion.to_id:
            await self._move_back(caller, promotion, patience_seconds)
        elif present_id != promotion.from_id:  # else its load failed, or somebody has moved it back already
            raise Conflict(
                f"'{promotion.target_name}' was moved on since; what is behind it now was not put there by this job"
            )
        return await self._note(job, None)

    def is_pending(self, promotion: Promotion) -> bool:
        """Whether the engine that it moves to is still being loaded."""
        server = self._directory.model_servers.get(promotion.target_id)
        return server is not None and self._servers.pending_backend(server) == promotion.to_id

    async def _note(self, job: FineTuningJob, promotion: Promotion | None) -> FineTuningJob:
        await self._database.run(lambda db: rows.change(db, job.id, promotion=promotion))
        return structs.replace(job, promotion=promotion)

    def _model_of(self, caller: Caller, job: FineTuningJob) -> Model:
        if job.status is not JobState.COMPLETED or job.fine_tuned_model_id is None:
            raise Conflict(f"the job is {job.status.value}; only what a COMPLETED one has made can be promoted")
        return self._directory.get(caller, self._directory.models, job.fine_tuned_model_id, "model")

    def _present(self, caller: Caller, promotion: Promotion) -> str:
        """What is behind it now."""
        if promotion.target == "model_server":
            return self._servers.get(caller, promotion.target_id).deployment_id
        items = self._directory.deployments
        return self._directory.get(caller, items, promotion.target_id, "model deployment").model_id

    async def _move_back(self, caller: Caller, promotion: Promotion, patience_seconds: float) -> None:
        if promotion.target == "model_server":
            await self._servers.roll_back(caller, promotion.target_id, patience_seconds)
        else:
            await self._deployments.swap(caller, promotion.target_id, promotion.from_id)

    # --- model servers -------------------------------------------------------------------------------------------

    async def _move_server(
        self, caller: Caller, server: ModelServer, model: Model, patience_seconds: float
    ) -> tuple[str, str]:
        """The ids of the deployments behind it, before and after."""
        backend = self._directory.deployments[server.deployment_id]
        deployment = next(iter(self._directory.deployments_of(model.id)), None)
        if deployment is None:
            deployment = await self._deployments.create(caller, model.id, _alike(backend, server, model))
        await self._servers.swap(caller, server.id, deployment.id, patience_seconds)
        return backend.id, deployment.id

    # --- what to move --------------------------------------------------------------------------------------------

    def _target(self, caller: Caller, model: Model, body: PromotionCreate) -> ModelServer | Deployment:
        if body.model_server is not None and body.deployment is not None:
            raise InvalidParameter("give either 'model_server' or 'deployment'")
        if body.model_server is not None:
            return self._named_server(caller, body.model_server)
        if body.deployment is not None:
            return self._named_deployment(caller, body.deployment, model)
        servers = self._servers_of_kin(caller, model)
        if len(servers) == 1:
            return servers[0]
        if not servers:
            raise InvalidParameter(
                "no model server stands before a model of the same base or group; say which 'model_server' or "
                f"'deployment' to move, or {_deploy(model)}",
                errors=[(("model_server",), "missing")],
            )
        names = ", ".join(f"'{server.name}'" for server in servers[:8])
        raise InvalidParameter(
            f"{len(servers)} model servers stand before models of the same base or group ({names}); "
            "say which 'model_server' to move, or which 'deployment'",
            errors=[(("model_server",), "ambiguous")],
        )

    def _named_server(self, caller: Caller, name: str) -> ModelServer:
        seen = self._servers.list(caller)
        for found in seen:
            if name == found.id:
                return found
        for found in seen:
            if name in (found.alias, found.name) and found.account_id == caller.account_id:
                return found
        raise NotFound(f"no model server '{name[:64]}' in this account; GET /v4/serving lists them")

    def _named_deployment(self, caller: Caller, name: str, model: Model) -> Deployment:
        deployment = self._directory.callable_deployment(caller, name)
        if deployment is None:
            raise NotFound(f"no model deployment '{name[:64]}' in this account; {_deploy(model)}")
        if deployment.account_id == SYSTEM_ACCOUNT_ID:
            raise Immutable(f"'{deployment.name}' is built in and stays what it is; {_deploy(model)}")
        named = (deployment.creation_parameters or {}).keys() & {"weights", "adapter"}
        if named:
            raise InvalidParameter(
                f"'{deployment.name}' names its own {' and '.join(sorted(named))}, which would be used in place of the "
                "new model's; take them out of the deployment first, or promote a model server"
            )
        return deployment

    def _servers_of_kin(self, caller: Caller, model: Model) -> Sequence[ModelServer]:
        """Model servers before models of the same group or base, or before that base."""
        found = []
        for server in self._servers.list(caller):
            deployment = self._directory.deployments.get(server.deployment_id)
            behind = self._directory.models.get(deployment.model_id) if deployment is not None else None
            if server.account_id == model.account_id and behind is not None and _is_kin(model, behind):
                found.append(server)
        return found


def _deploy(model: Model) -> str:
    return f"deploy '{model.name}' by itself: appliance finetune deploy, or POST /v3/models/{model.id}/deployments"


def _is_kin(model: Model, other: Model) -> bool:
    if other.model_type is not model.model_type:
        return False
    in_group = model.model_group_id is not None and model.model_group_id == other.model_group_id
    return in_group or model.base_model_id in (other.id, other.base_model_id)


def _alike(backend: Deployment, server: ModelServer, model: Model) -> sgp.DeploymentCreate:
    """A deployment like the one that it takes over from; of its parameters those that the model leaves open."""
    parameters = dict(backend.creation_parameters or {})
    for name in ("weights", "adapter"):
        parameters.pop(name, None)
    vendor = backend.vendor_configuration
    return sgp.DeploymentCreate(
        name=model.name,
        account_id=server.account_id,
        model_creation_parameters=parameters or None,
        vendor_configuration=msgspec.convert(vendor, sgp.DeploymentVendorConfiguration) if vendor else None,
    )
