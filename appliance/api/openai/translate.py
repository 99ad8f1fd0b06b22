"""OpenAI bodies as the engines want them. Pure; what is not served is refused here, never ignored."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.domain.errors import InvalidParameter, InvalidRequest
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    JsonConstraint,
    Message,
    Sampling,
    Tool,
    ToolCall,
    ToolConstraint,
)
from appliance.lifecycle.agents import check_tool_names
from appliance.wire import openai as wire

DEFAULT_TEMPERATURE = 1.0


def sampling_of(body: wire.CompletionCreate | wire.ChatCompletionCreate) -> Sampling:
    """The sampling of a request; OpenAI's default temperature is 1."""
    return Sampling(
        temperature=DEFAULT_TEMPERATURE if body.temperature is None else body.temperature,
        max_tokens=_max_tokens(body),
        stop=_stop(body.stop),
        top_k=body.top_k or 0,
        top_p=1.0 if body.top_p is None else body.top_p,
        min_p=body.min_p or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        seed=body.seed,
        logit_bias=_logit_bias(body.logit_bias),
        ignore_eos=body.ignore_eos or False,
        logprobs=_logprobs(body),
    )


def completion_requests(body: wire.CompletionCreate, cache_scope: str) -> list[CompletionRequest]:
    """One request per prompt and choice, choices of a prompt side by side. Raises InvalidParameter."""
    _refuse("echo", body.echo)
    _refuse("suffix", body.suffix)
    if body.best_of not in (None, body.n, 1):
        raise InvalidParameter(f"best_of {body.best_of} is not served; use n to get several choices")
    sampling = sampling_of(body)
    prompts = _prompts(body.prompt)
    choices = body.n or 1
    if len(prompts) * choices > wire.MAX_PROMPTS:
        raise InvalidParameter(
            f"{len(prompts)} prompts x {choices} choices are {len(prompts) * choices} texts, "
            f"one request takes {wire.MAX_PROMPTS}; send several requests"
        )
    return [
        CompletionRequest(prompt=prompt, sampling=_choice(sampling, i), cache_scope=cache_scope)
        for prompt in prompts
        for i in range(choices)
    ]


def chat_requests(body: wire.ChatCompletionCreate, cache_scope: str) -> list[ChatRequest]:
    """One request per choice. Raises InvalidParameter."""
    sampling = sampling_of(body)
    tools = tuple(_tool(tool) for tool in body.tools or ())
    check_tool_names(tools)
    constraint = _constraint(body, tools)
    messages = tuple(_message(i, message) for i, message in enumerate(body.messages))
    return [
        ChatRequest(
            messages=messages,
            tools=() if body.tool_choice == "none" else tools,
            sampling=_choice(sampling, i),
            constraint=constraint,
            template_arguments=body.chat_template_kwargs or {},
            cache_scope=cache_scope,
        )
        for i in range(body.n or 1)
    ]


def embedding_texts(value: str | Sequence[object]) -> tuple[str, ...]:
    """The texts of an embeddings request. Token ids are refused: they belong to another vocabulary."""
    texts = [value] if isinstance(value, str) else list(value)
    strings = tuple(text for text in texts if isinstance(text, str))
    if len(strings) != len(texts):
        raise InvalidParameter("input: token ids belong to another model's vocabulary; send text")
    return strings


def document_text(document: str | wire.Document) -> str:
    """A document to rank as text."""
    return document if isinstance(document, str) else document.text


def _choice(sampling: Sampling, index: int) -> Sampling:
    """The sampling of the n-th choice: a given seed must not make all choices equal."""
    if sampling.seed is None or index == 0:
        return sampling
    return Sampling(**{f: getattr(sampling, f) for f in sampling.__struct_fields__} | {"seed": sampling.seed + index})


def _max_tokens(body: wire.CompletionCreate | wire.ChatCompletionCreate) -> int | None:
    if isinstance(body, wire.ChatCompletionCreate):
        return body.max_completion_tokens or body.max_tokens
    return body.max_tokens


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _logit_bias(given: dict[str, float] | None) -> dict[int, float]:
    try:
        return {int(token): bias for token, bias in (given or {}).items()}
    except ValueError:
        raise InvalidParameter("logit_bias: keys are token ids of this model, as decimal numbers") from None


def _logprobs(body: wire.CompletionCreate | wire.ChatCompletionCreate) -> int | None:
    if isinstance(body, wire.CompletionCreate):
        return body.logprobs
    if body.top_logprobs and not body.logprobs:
        raise InvalidParameter("top_logprobs needs logprobs: true")
    return (body.top_logprobs or 0) if body.logprobs else None


def _prompts(prompt: str | list[str | list[int] | int]) -> list[str | tuple[int, ...]]:
    if isinstance(prompt, str):
        return [prompt]
    if all(isinstance(item, int) for item in prompt):
        return [tuple(item for item in prompt if isinstance(item, int))]
    if any(isinstance(item, int) for item in prompt):
        raise InvalidParameter("prompt: either token ids, or a list of texts or of token id lists; not both mixed")
    return [item if isinstance(item, str) else tuple(item) for item in prompt if not isinstance(item, int)]


def _message(index: int, message: wire.Message) -> Message:
    calls = tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in message.tool_calls or ()
    )
    content = _content(index, message.content)
    if message.role == "tool" and not message.tool_call_id and not message.name:
        raise InvalidParameter(f"messages[{index}]: a tool message needs 'tool_call_id'")
    if content is None and not calls:
        raise InvalidParameter(f"messages[{index}]: a {message.role} message needs 'content'")
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=content,
        name=message.name,
        tool_calls=calls,
        tool_call_id=message.tool_call_id,
    )


def _content(index: int, content: str | list[wire.ContentPart] | None) -> str | None:
    if not isinstance(content, list):
        return content
    for part in content:
        if part.type != "text" or part.text is None:
            raise InvalidRequest(
                f"messages[{index}]: this model takes text only, and a part of type '{part.type[:32]}' was sent"
            )
    return "".join(part.text or "" for part in content)


def _tool(tool: wire.ToolDefinition) -> Tool:
    function = tool.function
    parameters = function.parameters or {"type": "object", "properties": {}}
    return Tool(name=function.name, description=function.description or "", parameters=parameters)


def _constraint(body: wire.ChatCompletionCreate, tools: tuple[Tool, ...]) -> Constraint | None:
    answer_format = _format_constraint(body.response_format)
    choice = body.tool_choice
    if not tools or choice == "none":
        if isinstance(choice, wire.NamedToolChoice) or choice == "required":
            raise InvalidParameter("tool_choice asks for a tool call, and no tools are given")
        return answer_format
    if answer_format is not None:
        raise InvalidParameter("response_format and tools exclude each other here; send one, or tool_choice: none")
    if isinstance(choice, wire.NamedToolChoice):
        named = tuple(tool for tool in tools if tool.name == choice.function.name)
        if not named:
            raise InvalidParameter(f"tool_choice names '{choice.function.name[:64]}', which is not among the tools")
        return ToolConstraint(tools=named, required=True)
    parallel = body.parallel_tool_calls is not False
    return ToolConstraint(tools=tools, required=choice == "required", parallel=parallel)


def _format_constraint(asked: wire.ResponseFormat | None) -> JsonConstraint | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return JsonConstraint()
    if asked.json_schema is None:
        raise InvalidParameter("response_format json_schema needs 'json_schema' with the schema")
    return JsonConstraint(schema=asked.json_schema.schema)


def _refuse(name: str, value: object) -> None:
    if value:
        raise InvalidParameter(f"{name} is not served; leave it out")
