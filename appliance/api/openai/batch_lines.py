"""The lines of batches: bodies of three endpoints of this dialect, checked before and answered in the background."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from appliance.api.bodies import decode
from appliance.api.errors import describe, in_openai, status_of
from appliance.api.openai import answers, translate
from appliance.api.openai.responses import response
from appliance.api.openai.responses_input import chat_request
from appliance.domain.clock import Clock
from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Caller, ModelType
from appliance.lifecycle.background import Reply
from appliance.lifecycle.inference import Inference
from appliance.wire import openai as wire
from appliance.wire.openai_responses import ResponseCreate

DIALECT = "openai_batch"


class _Endpoint(Struct, frozen=True):
    body: type[Any]
    model_type: ModelType
    translate: Callable[[Any, str], object]
    answer: Callable[[Inference, Clock, Caller, Any, str], Awaitable[dict[str, Any]]]


ENDPOINTS = {
    "/v1/chat/completions": _Endpoint(
        wire.ChatCompletionCreate, ModelType.CHAT_COMPLETION, translate.chat_requests, answers.chat_completion
    ),
    "/v1/completions": _Endpoint(
        wire.CompletionCreate, ModelType.COMPLETION, translate.completion_requests, answers.completion
    ),
    "/v1/responses": _Endpoint(ResponseCreate, ModelType.CHAT_COMPLETION, chat_request, response),
    "/v1/embeddings": _Endpoint(
        wire.EmbeddingsCreate,
        ModelType.EMBEDDING,
        lambda body, _: translate.embedding_inputs(body.input),
        answers.embeddings,
    ),
}


class BatchLines:
    """``appliance.lifecycle.background.Dialect`` for batches; ``where`` is the endpoint's path."""

    def __init__(self, inference: Inference, clock: Clock) -> None:
        self._inference = inference
        self._clock = clock

    def check(self, caller: Caller, where: str, body: bytes) -> None:
        """Raise what is wrong with a body, as far as it can be seen before it runs."""
        endpoint = ENDPOINTS[where]
        asked = decode(body, endpoint.body)
        if getattr(asked, "stream", None):
            raise InvalidParameter("stream: nobody listens to a batch; leave it out")
        self._inference.check_task(self._inference.by_name(caller, asked.model), endpoint.model_type)
        endpoint.translate(asked, caller.account_id)

    async def answer(self, caller: Caller, where: str, body: bytes) -> Reply:
        """Run it."""
        endpoint = ENDPOINTS[where]
        asked = decode(body, endpoint.body)
        return Reply(200, await endpoint.answer(self._inference, self._clock, caller, asked, DIALECT))

    def refusal(self, error: Exception) -> Reply:
        """The error as the endpoint would have answered it."""
        return Reply(status_of(error).value, msgspec.to_builtins(in_openai(describe(error, "a line of a batch"))))
