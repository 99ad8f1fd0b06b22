"""The hot path: from a name or an id to tokens, with no SQL before the first of them.

Resolves the target in memory, takes a lease, starts the engine, and hands out an execution. Dialects above translate;
they find no engine here and the engines find no dialect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar, cast

from msgspec import Struct, structs

from appliance.domain.clock import Clock
from appliance.domain.errors import InvalidRequest, NotFound, PromptTooLong, WrongWeights
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    RerankingRequest,
    RerankingResult,
    Tokens,
    Usage,
)
from appliance.domain.models import Caller, Deployment, Model, ModelType, Parameter, Template
from appliance.engines.base import EmbeddingEngine, RerankingEngine, TextEngine, TextStream, Tokenizing
from appliance.lifecycle.contents import Contents
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.execution import CallContext, CallSink, Record, TextExecution
from appliance.lifecycle.quotas import Admission, Everybody
from appliance.lifecycle.remote import REQUEST_PARAMETERS, is_external
from appliance.scheduler.resident import Lease

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


class _Piece(Struct, Generic[Result], frozen=True):
    """A part of a pooled call that runs under one lease, and counts as so many generations."""

    generations: int
    work: Callable[[Lease], Awaitable[Result]]


class Leases(Protocol):
    """Where a request gets its hold on an engine; ``scheduler.turns`` has one for callers and one for batches."""

    async def acquire(self, deployment_id: str, generations: int) -> Lease:
        """A lease for so many generations, when it is the request's turn."""

    def texts_at_once(self, deployment_id: str) -> int | None:
        """Texts that an embedding request may send to the engine under one lease; None: all of them."""


class Inference:
    """Runs requests of all five model types."""

    def __init__(
        self,
        directory: Directory,
        leases: Leases,
        calls: CallSink,
        clock: Clock,
        contents: Contents | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._directory = directory
        self._leases = leases
        self._calls = calls
        self._clock = clock
        self._contents = contents or Contents(0)
        self._admission = admission or Everybody()

    # --- which deployment ----------------------------------------------------------------------------------------

    def by_name(self, caller: Caller, name: str) -> Target:
        """The target of a built-in's name, a deployment's name or a deployment's ID; ``vendor/name`` works too.

        Raises NotFound, Forbidden.
        """
        deployment = self._directory.callable_deployment(caller, name)
        if deployment is None and "/" in name:
            deployment = self._directory.callable_deployment(caller, name.partition("/")[2])
        if deployment is None:
            raise NotFound(
                f"no model '{name[:128]}' can be called by this key; GET /v1/models lists those that can, "
                "an administrator imports more (appliance zoo list)"
            )
        return self._target(caller, deployment)

    def by_id(self, caller: Caller, model_id: str, deployment_id: str) -> Target:
        """The target of ``/models/{model}/deployments/{deployment}``. Raises NotFound, Forbidden."""
        return self._target(caller, self._directory.deployment_of(caller, model_id, deployment_id))

    def by_deployment(self, caller: Caller, deployment_id: str) -> Target:
        """The target of a deployment's id alone. Raises NotFound."""
        known = self._directory.deployments
        return self._target(caller, self._directory.get(caller, known, deployment_id, "model deployment"))

    def _target(self, caller: Caller, deployment: Deployment) -> Target:
        self._admission.check_model(caller, deployment)
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
        """Start one stream per request under one lease and one record; the engine computes when this returns.

        Raises what the scheduler raises, and the engine of a request that it does not take.
        """
        self.check_task(target, model_type)
        record = self._record(caller, target, model_type, dialect, requests)
        lease = await self._lease(target, record, len(requests))
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
        return TextExecution(lease, streams, record)

    async def _start(self, lease: Lease, request: CompletionRequest | ChatRequest) -> TextStream:
        engine = cast("TextEngine", lease.engine)
        if isinstance(request, ChatRequest):
            return await engine.chat(request)
        return await engine.complete(request)

    async def count_tokens(self, target: Target, request: CompletionRequest | ChatRequest) -> int:
        """Tokens of the prompt as it would enter the model."""
        self.check_task(target, ModelType.COMPLETION)
        lease = await self._leases.acquire(target.deployment.id, 0)
        try:
            return await cast("TextEngine", lease.engine).count_tokens(request)
        finally:
            lease.release()

    async def load(self, target: Target) -> None:
        """Bring the target into memory, where it stays as if it had just been called."""
        (await self._leases.acquire(target.deployment.id, 0)).release()

    async def tokenize(
        self, target: Target, request: CompletionRequest | ChatRequest, *, add_special: bool = True
    ) -> tuple[Tokens, int]:
        """The prompt's tokens, and how many the deployment takes. Raises InvalidRequest for a model elsewhere."""
        lease = await self._leases.acquire(target.deployment.id, 0)
        try:
            engine = _tokenizing(target, lease)
            return await engine.tokenize(request, add_special=add_special), engine.context_length_tokens
        finally:
            lease.release()

    async def detokenize(self, target: Target, tokens: tuple[int, ...]) -> str:
        """The text of token ids. Raises InvalidRequest for a model elsewhere."""
        lease = await self._leases.acquire(target.deployment.id, 0)
        try:
            return await _tokenizing(target, lease).detokenize(tokens)
        finally:
            lease.release()

    async def embed(
        self, caller: Caller, target: Target, request: EmbeddingRequest, *, dialect: str
    ) -> EmbeddingResult:
        """Vectors of the texts; the call is committed when this returns."""

        texts = request.texts
        at_once = self._leases.texts_at_once(target.deployment.id)
        if at_once is None or len(texts) <= 1:
            whole = [_Piece(1, _embedding(request))]
            return await self._pooled(caller, target, ModelType.EMBEDDING, dialect, request, whole)
        pieces = []
        for first in range(0, len(texts), at_once):
            some = structs.replace(request, texts=texts[first : first + at_once])
            pieces.append(_Piece(len(some.texts), _embedding(some, first)))
        return await self._pooled(caller, target, ModelType.EMBEDDING, dialect, request, pieces, _joined)

    async def rerank(
        self, caller: Caller, target: Target, request: RerankingRequest, *, dialect: str
    ) -> RerankingResult:
        """Scores of the chunks; the call is committed when this returns."""

        async def work(lease: Lease) -> RerankingResult:
            return await cast("RerankingEngine", lease.engine).rerank(request)

        return await self._pooled(caller, target, ModelType.RERANKING, dialect, request, [_Piece(1, work)])

    async def _pooled(
        self,
        caller: Caller,
        target: Target,
        model_type: ModelType,
        dialect: str,
        request: EmbeddingRequest | RerankingRequest,
        pieces: Sequence[_Piece[Result]],
        join: Callable[[list[Result]], Result] = lambda results: results[0],
    ) -> Result:
        """One call under one record; each piece of it under a lease of its own."""
        self.check_task(target, model_type)
        record = self._record(caller, target, model_type, dialect, [request])
        usage = Usage()
        result = join([await self._piece(target, record, usage, piece) for piece in pieces])
        if record.content is not None and isinstance(result, RerankingResult):
            record.content.scored(result.scores)
        await record.commit(usage, FinishReason.STOP.value)
        return result

    async def _piece(self, target: Target, record: Record, usage: Usage, piece: _Piece[Result]) -> Result:
        lease = await self._lease(target, record, piece.generations, usage)
        usage.queue_milliseconds += lease.queue_milliseconds
        started = self._clock.monotonic_seconds()
        try:
            result = await piece.work(lease)
        except BaseException as error:
            await record.end(usage, error)
            raise
        finally:
            lease.release()
        usage.prompt_tokens += result.tokens
        usage.prefill_milliseconds += (self._clock.monotonic_seconds() - started) * 1000
        return result

    def check_task(self, target: Target, asked: ModelType) -> None:
        """Raise WrongWeights when the target cannot do what is asked.

        Text types stand in for each other, as one set of weights serves all three; the others do not.
        So the engine is of the kind that the task is cast to: to ask a protocol takes a tenth of a short call's time.
        """
        served = target.model.model_type
        if asked is served or (asked in TEXT_TYPES and served in TEXT_TYPES):
            return
        raise WrongWeights(
            f"'{target.deployment.name}' is a model of type {served.value} and cannot serve {asked.value}; "
            "GET /v1/models lists the models with their types"
        )

    def _record(
        self, caller: Caller, target: Target, model_type: ModelType, dialect: str, requests: Sequence[Struct]
    ) -> Record:
        """The call begins: from here on it is logged, however it ends. Raises RateLimited, TokensSpent."""
        self._admission.admit(caller)
        context = CallContext(
            caller=caller,
            deployment=target.deployment,
            model_type=model_type,
            dialect=dialect,
            started_at=self._clock.now(),
        )
        content = self._contents.recorder(target.deployment.metadata, requests)
        return Record(context, self._calls, content)

    async def _lease(self, target: Target, record: Record, generations: int, usage: Usage | None = None) -> Lease:
        try:
            return await self._leases.acquire(target.deployment.id, generations)
        except BaseException as error:
            await record.end(usage or Usage(), error)
            raise


def _tokenizing(target: Target, lease: Lease) -> Tokenizing:
    if not isinstance(lease.engine, Tokenizing):
        raise InvalidRequest(f"the vocabulary of '{target.deployment.name}' is its upstream's; ask there")
    return lease.engine


def _embedding(request: EmbeddingRequest, first: int = 0) -> Callable[[Lease], Awaitable[EmbeddingResult]]:
    """Embeds texts that are, from ``first`` on, those of a larger request."""

    async def work(lease: Lease) -> EmbeddingResult:
        try:
            return await cast("EmbeddingEngine", lease.engine).embed(request)
        except PromptTooLong as error:
            if not first:
                raise
            hint = f"it is one of texts {first} to {first + len(request.texts) - 1}; split it"
            raise PromptTooLong(error.prompt_tokens, error.context_length_tokens, hint, subject="a text") from error

    return work


def _joined(results: list[EmbeddingResult]) -> EmbeddingResult:
    vectors = [vector for result in results for vector in result.vectors]
    return EmbeddingResult(vectors=vectors, tokens=sum(result.tokens for result in results))
