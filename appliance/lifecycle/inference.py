"""The hot path: from a name or an id to tokens, with no SQL before the first of them.

Resolves the target in memory, takes a lease, starts the engine, and hands out an execution. Dialects above translate;
they find no engine here and the engines find no dialect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import NotFound, WrongWeights
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    RerankingRequest,
    RerankingResult,
    Usage,
)
from appliance.domain.models import Caller, Deployment, Model, ModelType, Parameter, Template
from appliance.engines.base import EmbeddingEngine, RerankingEngine, TextEngine, TextStream
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.execution import CallContext, CallSink, Record, TextExecution
from appliance.lifecycle.remote import REQUEST_PARAMETERS, is_external
from appliance.scheduler.resident import Lease
from appliance.scheduler.scheduler import Scheduler

TEXT_TYPES = frozenset({ModelType.COMPLETION, ModelType.CHAT_COMPLETION, ModelType.AGENT})

Result = TypeVar("Result", EmbeddingResult, RerankingResult)


class Target(Struct, frozen=True, kw_only=True):
    """What a request is for."""

    deployment: Deployment
    model: Model
    template: Template | None

    @property
    def request_parameters(self) -> Sequence[Parameter]:
        """What requests may bind."""
        if self.template is not None:
            return self.template.request_parameters
        return REQUEST_PARAMETERS[self.model.model_type] if is_external(self.model) else ()


class Inference:
    """Runs requests of all five model types."""

    def __init__(
        self, directory: Directory, scheduler: Scheduler, calls: CallSink, clock: Clock, load_timeout_seconds: float
    ) -> None:
        self._directory = directory
        self._scheduler = scheduler
        self._calls = calls
        self._clock = clock
        self._load_timeout_seconds = load_timeout_seconds

    # --- which deployment ----------------------------------------------------------------------------------------

    def by_name(self, caller: Caller, name: str) -> Target:
        """The target of a built-in's name, a deployment's name or a deployment's ID; ``vendor/name`` works too.

        Raises NotFound.
        """
        deployment = self._directory.callable_deployment(caller, name)
        if deployment is None and "/" in name:
            deployment = self._directory.callable_deployment(caller, name.partition("/")[2])
        if deployment is None:
            raise NotFound(
                f"no model '{name[:128]}' can be called by this key; GET /v1/models lists those that can, "
                "an administrator imports more (appliance zoo list)"
            )
        return self._target(deployment)

    def by_id(self, caller: Caller, model_id: str, deployment_id: str) -> Target:
        """The target of ``/models/{model}/deployments/{deployment}``. Raises NotFound."""
        return self._target(self._directory.deployment_of(caller, model_id, deployment_id))

    def _target(self, deployment: Deployment) -> Target:
        model = self._directory.models[deployment.model_id]
        template = self._directory.templates.get(model.model_template_id or "")
        return Target(deployment=deployment, model=model, template=template)

    # --- running it ----------------------------------------------------------------------------------------------

    async def generate(
        self,
        caller: Caller,
        target: Target,
        requests: Sequence[CompletionRequest | ChatRequest],
        *,
        model_type: ModelType,
        dialect: str,
    ) -> TextExecution:
        """Start one stream per request under one lease and one record.

        Returns when the first delta of a single stream is there. Raises what the scheduler and the engine raise.
        """
        self._check_task(target, model_type)
        record = self._record(caller, target, model_type, dialect)
        lease = await self._lease(target, record)
        streams: list[TextStream] = []
        try:
            for request in requests:
                streams.append(await self._start(lease, request))
        except BaseException as error:
            for stream in streams:
                stream.close()
            lease.release()
            await record.end(Usage(queue_milliseconds=lease.queue_milliseconds), error)
            raise
        execution = TextExecution(lease, streams, record)
        await execution.prime()
        return execution

    async def _start(self, lease: Lease, request: CompletionRequest | ChatRequest) -> TextStream:
        engine = lease.engine
        assert isinstance(engine, TextEngine), "a text task reached an engine of another kind"
        if isinstance(request, ChatRequest):
            return await engine.chat(request)
        return await engine.complete(request)

    async def count_tokens(self, target: Target, request: CompletionRequest | ChatRequest) -> int:
        """Tokens of the prompt as it would enter the model."""
        self._check_task(target, ModelType.COMPLETION)
        lease = await self._scheduler.acquire(target.deployment.id, self._load_timeout_seconds, for_request=False)
        try:
            assert isinstance(lease.engine, TextEngine), "a text task reached an engine of another kind"
            return await lease.engine.count_tokens(request)
        finally:
            lease.release()

    async def embed(
        self, caller: Caller, target: Target, request: EmbeddingRequest, *, dialect: str
    ) -> EmbeddingResult:
        """Vectors of the texts; the call is committed when this returns."""

        async def work(lease: Lease) -> EmbeddingResult:
            assert isinstance(lease.engine, EmbeddingEngine), "an embedding reached an engine of another kind"
            return await lease.engine.embed(request)

        return await self._pooled(caller, target, ModelType.EMBEDDING, dialect, work)

    async def rerank(
        self, caller: Caller, target: Target, request: RerankingRequest, *, dialect: str
    ) -> RerankingResult:
        """Scores of the chunks; the call is committed when this returns."""

        async def work(lease: Lease) -> RerankingResult:
            assert isinstance(lease.engine, RerankingEngine), "a reranking reached an engine of another kind"
            return await lease.engine.rerank(request)

        return await self._pooled(caller, target, ModelType.RERANKING, dialect, work)

    async def _pooled(
        self,
        caller: Caller,
        target: Target,
        model_type: ModelType,
        dialect: str,
        work: Callable[[Lease], Awaitable[Result]],
    ) -> Result:
        self._check_task(target, model_type)
        record = self._record(caller, target, model_type, dialect)
        lease = await self._lease(target, record)
        usage = Usage(queue_milliseconds=lease.queue_milliseconds)
        started = self._clock.monotonic_seconds()
        try:
            result = await work(lease)
        except BaseException as error:
            await record.end(usage, error)
            raise
        finally:
            lease.release()
        usage.prompt_tokens = result.tokens
        usage.prefill_milliseconds = (self._clock.monotonic_seconds() - started) * 1000
        await record.commit(usage, FinishReason.STOP.value)
        return result

    def _check_task(self, target: Target, asked: ModelType) -> None:
        """Text types stand in for each other, as one set of weights serves all three; the others do not."""
        served = target.model.model_type
        if asked is served or (asked in TEXT_TYPES and served in TEXT_TYPES):
            return
        raise WrongWeights(
            f"'{target.deployment.name}' is a model of type {served.value} and cannot serve {asked.value}; "
            "GET /v1/models lists the models with their types"
        )

    def _record(self, caller: Caller, target: Target, model_type: ModelType, dialect: str) -> Record:
        context = CallContext(
            caller=caller,
            deployment=target.deployment,
            model_type=model_type,
            dialect=dialect,
            started_at=self._clock.now(),
        )
        return Record(context, self._calls)

    async def _lease(self, target: Target, record: Record) -> Lease:
        try:
            return await self._scheduler.acquire(target.deployment.id, self._load_timeout_seconds)
        except BaseException as error:
            await record.end(Usage(), error)
            raise
