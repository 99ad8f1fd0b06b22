"""v4's messages and sampling as the engines want them. Pure translation; what is not served is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import structs

from appliance.api.sgp.translate import messages_of, sampling_of
from appliance.domain.errors import InvalidParameter, InvalidRequest
from appliance.domain.inference import ChatRequest, CompletionRequest, Message, Sampling
from appliance.lifecycle.agents import remember
from appliance.lifecycle.inference import Target
from appliance.lifecycle.requests import bindings_of, with_sampling
from appliance.wire import sgp_execute
from appliance.wire import sgp_v4_execute as wire

RequestT = TypeVar("RequestT", CompletionRequest, ChatRequest, CompletionRequest | ChatRequest)


def named_sampling(given: wire.ModelParameters | None) -> Sampling:
    """The ``model_parameters`` of a call by name. Raises InvalidParameter for two spellings that disagree."""
    given = given or wire.ModelParameters()
    sampling = sampling_of(given.temperature, given.stop_sequences, given.max_tokens)
    top_p = _either("topP", given.camel_top_p, given.top_p)
    return structs.replace(
        sampling,
        top_k=_either("topK", given.camel_top_k, given.top_k) or 0,
        top_p=1.0 if top_p is None else top_p,
        frequency_penalty=given.frequency_penalty or 0.0,
        presence_penalty=given.presence_penalty or 0.0,
    )


def typed_sampling(target: Target, body: wire.TypedCompletion | wire.TypedChatCompletion) -> Sampling:
    """The flat sampling keys of a call by deployment id, with what its request parameters bind."""
    if body.top_logprobs and not body.logprobs:
        raise InvalidParameter("top_logprobs needs logprobs: true")
    if body.top_k is not None and not body.top_k.is_integer():
        raise InvalidParameter(f"top_k is {body.top_k}; it is a number of tokens, send a whole one")
    sampling = structs.replace(
        sampling_of(body.temperature, body.stop_sequences, body.max_tokens),
        top_k=int(body.top_k or 0),
        top_p=1.0 if body.top_p is None else body.top_p,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    given = body.model_request_parameters
    return with_sampling(sampling, bindings_of(target.request_parameters, given.bindings if given else None))


def with_template(
    request: RequestT,
    *,
    chat_template: str | None = None,
    arguments: dict[str, Any] | None = None,
    effort: str | None = None,
) -> RequestT:
    """The request with what shapes its prompt.

    Raises InvalidParameter where the prompt is completed as it stands.
    """
    if chat_template is None and not arguments and not effort:
        return request
    if isinstance(request, CompletionRequest):
        raise InvalidParameter(
            "chat_template, chat_template_kwargs and reasoning_effort shape the prompt of a chat model, and this model "
            "completes its prompt as it stands; leave them out"
        )
    return structs.replace(
        request, chat_template=chat_template, template_arguments=arguments or {}, reasoning_effort=effort
    )


def conversation(body: wire.ChatCompletionRequest) -> tuple[Message, ...]:
    """The turns of a chat by name: its instructions, and of its messages what the memory strategy keeps."""
    turns = messages_of(plain(body.messages))
    if body.instructions and any(turn.role == "system" for turn in turns):
        raise InvalidRequest("both instructions and a system message were sent; send one of them")
    kept = remember(turns, body.memory_strategy.params.k if body.memory_strategy else None)
    return (Message(role="system", content=body.instructions), *kept) if body.instructions else kept


def plain(messages: Sequence[wire.Message | wire.AgentMessage]) -> list[sgp_execute.Message]:
    """Messages with their text in one piece. Raises InvalidRequest for an image."""
    return [
        sgp_execute.Message(
            role=message.role,
            content=_text(index, message.content),
            name=message.name if isinstance(message, wire.AgentMessage) else None,
            tool_request=message.tool_request if isinstance(message, wire.AgentMessage) else None,
        )
        for index, message in enumerate(messages)
    ]


def _text(index: int, content: str | list[wire.ContentPart] | None) -> str | None:
    if not isinstance(content, list):
        return content
    for part in content:
        if part.type != "text":
            raise InvalidRequest(f"messages[{index}]: models here take text only, and a part is of type '{part.type}'")
        if part.text is None:
            raise InvalidParameter(f"messages[{index}]: a part of type 'text' needs 'text'")
    return "".join(part.text or "" for part in content)


def _either(name: str, camel: Any, snake: Any) -> Any:
    if camel is not None and snake is not None and camel != snake:
        raise InvalidParameter(f"model_parameters: {name} is given in two spellings with two values; send one")
    return snake if camel is None else camel
