"""OpenAI bodies as the engines want them. Pure; what is not served is refused here, never ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from appliance.api import images
from appliance.api.openai import fields, tools
from appliance.domain.errors import InvalidParameter, InvalidRequest
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    Image,
    JsonConstraint,
    Message,
    Sampling,
    Tool,
    ToolCall,
)
from appliance.wire import openai as wire
from appliance.wire.limits import MAX_TEXTS

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
    """One request per prompt and text to generate, those of a prompt side by side. Raises InvalidParameter."""
    fields.check(body)
    check_stream_options(body)
    sampling = sampling_of(body)
    prompts = _prompts(body.prompt)
    choices = body.n or 1
    generated = _generated(body, choices)
    if len(prompts) * generated > wire.MAX_PROMPTS:
        raise InvalidParameter(
            f"{len(prompts)} prompts x {generated} choices are {len(prompts) * generated} texts, "
            f"one request takes {wire.MAX_PROMPTS}; send several requests"
        )
    if body.echo and body.logprobs is not None:
        raise fields.not_served("logprobs", "of an echoed prompt they are not computed; leave out one of the two")
    if generated > choices and sampling.logprobs is None:
        sampling = structs.replace(sampling, logprobs=0)  # by which the best are told
    return [
        CompletionRequest(
            prompt=prompt,
            suffix=body.suffix or "",
            sampling=_choice(sampling, i),
            echo=bool(body.echo),
            cache_scope=cache_scope,
        )
        for prompt in prompts
        for i in range(generated)
    ]


def _generated(body: wire.CompletionCreate, choices: int) -> int:
    """Texts to generate for each prompt, of which the best are given."""
    if body.best_of is None:
        return choices
    if body.best_of < choices:
        raise InvalidParameter(f"best_of {body.best_of} is below n {choices}; give the number of texts to choose from")
    if body.best_of > choices and body.stream:
        raise fields.not_served("stream", f"the best of {body.best_of} is known when all are complete")
    return body.best_of


def check_stream_options(body: wire.CompletionCreate | wire.ChatCompletionCreate) -> None:
    """Raise InvalidParameter for options of a stream that nobody asked for."""
    if body.stream_options is not None and not body.stream:
        raise InvalidParameter("stream_options are for streams; send stream: true with them, or leave them out")


def chat_requests(body: wire.ChatCompletionCreate, cache_scope: str) -> list[ChatRequest]:
    """One request per choice. Raises InvalidParameter."""
    fields.check(body)
    check_stream_options(body)
    sampling = sampling_of(body)
    tools, constraint = _offered(body)
    messages = conversation(body.messages)
    return [
        ChatRequest(
            messages=messages,
            tools=tools,
            sampling=_choice(sampling, i),
            constraint=constraint,
            template_arguments=body.chat_template_kwargs or {},
            reasoning_effort=body.reasoning_effort,
            tells_thoughts=True,
            cache_scope=cache_scope,
        )
        for i in range(body.n or 1)
    ]


def conversation(messages: Sequence[wire.Message]) -> tuple[Message, ...]:
    """The turns. Raises InvalidParameter, InvalidRequest (content that is no text)."""
    return tuple(_message(i, message) for i, message in enumerate(messages))


def embedding_inputs(value: str | wire.EmbeddingItem | Sequence[object]) -> tuple[str | tuple[int, ...] | Image, ...]:
    """The texts and images of an embeddings request; a list of numbers is one text in token ids of the model's own
    vocabulary. Raises InvalidParameter, InvalidRequest for what is no image.
    """
    items = [value] if isinstance(value, str | wire.EmbeddingItem) else list(value)
    numbers = [item for item in items if isinstance(item, int)]
    if numbers and len(numbers) == len(items):
        return (tuple(numbers),)
    if numbers:
        raise InvalidParameter("send either token ids, or a list of texts or of token id lists; not both mixed")
    if not items:
        raise InvalidParameter("input is empty; send a text, token ids, or a list of either")
    if len(items) > MAX_TEXTS:
        raise InvalidParameter(f"input: {len(items)} texts, one request takes {MAX_TEXTS}; send several requests")
    return tuple(_embedding_input(f"input[{index}]", item) for index, item in enumerate(items))


def _embedding_input(where: str, item: object) -> str | tuple[int, ...] | Image:
    if isinstance(item, str):
        return images.text_or_image(item, where)
    if not isinstance(item, wire.EmbeddingItem):
        return tuple(item) if isinstance(item, list) else ()
    given = {"text": item.text, "image": item.image, "image_url": item.image_url}
    named = [name for name, content in given.items() if content is not None]
    if len(named) != 1 or item.type not in (None, *named):
        raise InvalidParameter(f"{where}: give one of text, image and image_url, and as type, if at all, its name")
    if item.text is not None:
        return item.text
    if item.image is not None:
        return images.image_of(item.image, where, bare=True)
    url = item.image_url
    return images.image_of(url.url if isinstance(url, wire.EmbeddingImageUrl) else url or "", where)


def document_text(index: int, document: str | dict[str, Any], rank_fields: Sequence[str] | None) -> str:
    """A document to rank as text: its field ``text``, or those that are named, each on a line of its own."""
    if isinstance(document, str):
        return document
    wanted = ["text"] if rank_fields is None else list(rank_fields)
    missing = [name for name in wanted if not isinstance(document.get(name), str)]
    if missing:
        raise InvalidParameter(
            f"documents[{index}]: the field '{missing[0][:64]}' is no text; send it, or name others in rank_fields"
        )
    if rank_fields is None:
        return str(document["text"])
    return "\n".join(f"{name}: {document[name]}" for name in wanted)


def _choice(sampling: Sampling, index: int) -> Sampling:
    """The sampling of the n-th choice: a given seed must not make all choices equal."""
    if sampling.seed is None or index == 0:
        return sampling
    return structs.replace(sampling, seed=sampling.seed + index)


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


def _prompts(prompt: str | Sequence[object]) -> list[str | tuple[int, ...]]:
    """Texts or lists of token ids; a bare list of ids is one."""
    if isinstance(prompt, str):
        return [prompt]
    if prompt and all(isinstance(item, int) for item in prompt):
        return [tuple(item for item in prompt if isinstance(item, int))]
    if any(isinstance(item, int) for item in prompt):
        raise InvalidParameter("send either token ids, or a list of texts or of token id lists; not both mixed")
    return [item if isinstance(item, str) else tuple(item) for item in prompt if isinstance(item, str | list)]


def _message(index: int, message: wire.Message) -> Message:
    calls = tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in message.tool_calls or ()
    )
    fields.check(message, f"messages[{index}].")
    content, pictures = _content(index, message)
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
        reasoning=message.reasoning_content or message.reasoning,
        images=pictures,
    )


def _content(index: int, message: wire.Message) -> tuple[str | None, tuple[Image, ...]]:
    content = message.content if message.content is not None else message.refusal
    if not isinstance(content, list):
        return content, ()
    return images.content_of([_part(f"messages[{index}]", message.role, part) for part in content])


def _part(where: str, role: str, part: wire.ContentPart) -> str | Image:
    if part.type == "image_url" and part.image_url is not None and role in ("user", "tool"):
        return images.image_of(part.image_url.url, f"{where}: image_url")
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in ("text", "refusal") or text is None:
        raise InvalidRequest(
            f"{where}: a {role} message takes text, and a user's images as image_url; a part of type "
            f"'{part.type[:32]}' was sent"
        )
    return text


def _offered(body: wire.ChatCompletionCreate) -> tuple[tuple[Tool, ...], Constraint | None]:
    parallel = body.parallel_tool_calls is not False
    answer = _format_constraint(body.response_format)
    return tools.offered(tools_of(body.tools), _tool_choice(body.tool_choice), parallel=parallel, answer=answer)


def tools_of(given: Sequence[wire.ToolDefinition] | None) -> list[Tool]:
    """The tools. Raises Unsupported for other kinds than functions."""
    return [_tool(f"tools[{index}]", tool) for index, tool in enumerate(given or ())]


def _tool(where: str, tool: wire.ToolDefinition) -> Tool:
    function = tool.function
    if tool.type != "function":
        raise fields.not_served(f"{where}.type", f"'{tool.type[:32]}' is none of ours; functions are the only tools")
    if function is None:
        raise InvalidParameter(f"{where}: a tool of type function needs 'function'")
    parameters = function.parameters or {"type": "object", "properties": {}}
    return Tool(name=function.name, description=function.description or "", parameters=parameters)


def _tool_choice(choice: str | wire.ToolChoice | None) -> tools.Choice:
    if not isinstance(choice, wire.ToolChoice):
        return tools.Choice(may_call=choice != "none", must_call=choice == "required")
    if choice.type == "function" and choice.function is not None:
        return tools.Choice(must_call=True, names=(choice.function.name,), is_named=True)
    if choice.type == "allowed_tools" and choice.allowed_tools is not None:
        names = tuple(_name(index, tool) for index, tool in enumerate(choice.allowed_tools.tools))
        return tools.Choice(must_call=choice.allowed_tools.mode == "required", names=names)
    if choice.type in ("function", "allowed_tools"):
        raise InvalidParameter(f"tool_choice: of type {choice.type} it needs '{choice.type}'")
    raise fields.not_served("tool_choice.type", f"'{choice.type[:32]}' is none of ours; function or allowed_tools")


def _name(index: int, tool: wire.NamedTool) -> str:
    where = f"tool_choice.allowed_tools.tools[{index}]"
    if tool.type != "function":
        raise fields.not_served(f"{where}.type", f"'{tool.type[:32]}' is none of ours; functions are the only tools")
    if tool.function is None:
        raise InvalidParameter(f"{where}: it needs 'function' with the name")
    return tool.function.name


def _format_constraint(asked: wire.ResponseFormat | None) -> JsonConstraint | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return JsonConstraint()
    if asked.json_schema is None:
        raise InvalidParameter("response_format json_schema needs 'json_schema' with the schema")
    return JsonConstraint(schema=asked.json_schema.schema)
