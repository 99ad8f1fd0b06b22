"""What is sent to an upstream: our requests as OpenAI bodies. Pure.

A value outside OpenAI's interface goes along only when it differs from "off", in the field that vLLM knows (``top_k``,
``min_p``, ``repetition_penalty``, ``ignore_eos``, ``chat_template_kwargs``), so that a plain request is understood
everywhere. To servers that have other defaults than "off", "off" is said. What no field carries is refused by name,
never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.domain.errors import InvalidRequest
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    JsonConstraint,
    Message,
    RerankingRequest,
    Sampling,
    Tool,
    ToolCall,
    ToolConstraint,
)

Body = dict[str, Any]

OFF: Final[Mapping[str, Body]] = {
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0},
}
"""How servers that have defaults of their own are told "off", by the ``owned_by`` of their list of models."""
SPELLINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "llamacpp": {"repetition_penalty": "repeat_penalty"},
    "openai": {"max_tokens": "max_completion_tokens"},
    "system": {"max_tokens": "max_completion_tokens"},
}
"""Other names of fields: llama-server's, and OpenAI's own."""


def completion(request: CompletionRequest, model: str, max_tokens: int | None, owned_by: str = "") -> Body:
    """Body of ``POST /completions``. Raises InvalidRequest for what it cannot carry."""
    if request.constraint is not None:
        raise InvalidRequest("an upstream's completions take no constraint on the answer; ask in a chat completion")
    _refuse_bound(request.context_tokens)
    prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
    body = {"model": model, "prompt": prompt, **_sampling(request.sampling, max_tokens), **_STREAMED}
    if request.sampling.logprobs is not None:
        body["logprobs"] = request.sampling.logprobs
    if request.suffix:
        body["suffix"] = request.suffix
    if request.echo:
        body["echo"] = True
    return _spelled(body, "" if owned_by in ("openai", "system") else owned_by)  # theirs is for chat alone


def chat(request: ChatRequest, model: str, max_tokens: int | None, owned_by: str = "") -> Body:
    """Body of ``POST /chat/completions``. Raises InvalidRequest for what it cannot carry."""
    if request.chat_template is not None:
        raise InvalidRequest("the chat template is the upstream's own and cannot be replaced; leave chat_template out")
    _refuse_bound(request.context_tokens)
    body = {"model": model, "messages": _messages(request.messages), **_sampling(request.sampling, max_tokens)}
    body |= _STREAMED | _constraint(request.constraint, request.tools)
    if request.continues_last:
        body |= _continuing(owned_by)
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    if request.template_arguments:
        body["chat_template_kwargs"] = request.template_arguments
    if request.sampling.logprobs is not None:
        body["logprobs"] = True
        if request.sampling.logprobs:
            body["top_logprobs"] = request.sampling.logprobs
    return _spelled(body, owned_by)


def _refuse_bound(context_tokens: int | None) -> None:
    if context_tokens is not None:
        raise InvalidRequest("an upstream cannot be told how many tokens prompt and answer may take together")


def _continuing(owned_by: str) -> Body:
    """How servers are told to go on with the last message. Raises InvalidRequest for those that cannot be."""
    if owned_by == "vllm":
        return {"continue_final_message": True, "add_generation_prompt": False}
    if owned_by == "llamacpp":
        return {}  # it does so by itself
    raise InvalidRequest("this upstream cannot go on with an answer that was begun; end with a user's message")


def embedding(texts: Sequence[str | tuple[int, ...]], model: str) -> Body:
    """Body of ``POST /embeddings``."""
    return {"model": model, "input": list(texts), "encoding_format": "float"}


def reranking(request: RerankingRequest, model: str) -> Body:
    """Body of ``POST /rerank``, in the shape of Jina and Cohere."""
    chunks = list(request.chunks)
    return {"model": model, "query": request.query, "documents": chunks, "top_n": len(chunks)}


_STREAMED: Final[Body] = {"stream": True, "stream_options": {"include_usage": True}}


def _spelled(body: Body, owned_by: str) -> Body:
    names = SPELLINGS.get(owned_by, {})
    return {names.get(name, name): value for name, value in {**OFF.get(owned_by, {}), **body}.items()}


def _sampling(sampling: Sampling, max_tokens: int | None) -> Body:
    off = Sampling()
    body: Body = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    for name in ("top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "seed"):
        if getattr(sampling, name) != getattr(off, name):
            body[name] = getattr(sampling, name)
    if (limit := sampling.max_tokens or max_tokens) is not None:
        body["max_tokens"] = limit
    if sampling.ignore_eos:
        body["ignore_eos"] = True
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return body


def _constraint(constraint: Constraint | None, tools: Sequence[Tool]) -> Body:
    offered = {"tools": [_tool(tool) for tool in tools]} if tools else {}
    if constraint is None:
        return offered
    if isinstance(constraint, JsonConstraint):
        return offered | {"response_format": _response_format(constraint)}
    if isinstance(constraint, ToolConstraint):
        if len(constraint.tools) > 1 or not constraint.required:
            offered = {"tools": [_tool(tool) for tool in constraint.tools]}  # no other may be called
        answer = {} if constraint.answer is None else {"response_format": _response_format(constraint.answer)}
        choice = {"tool_choice": _choice(constraint, tools), "parallel_tool_calls": constraint.parallel}
        return offered | choice | answer
    raise InvalidRequest("an upstream takes no GBNF grammar; ask for JSON under a schema instead")


def _response_format(constraint: JsonConstraint) -> Body:
    if constraint.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": constraint.schema, "strict": True}}


def _choice(constraint: ToolConstraint, tools: Sequence[Tool]) -> object:
    if constraint.required and len(constraint.tools) == 1 and len(tools) > 1:
        return {"type": "function", "function": {"name": constraint.tools[0].name}}
    return "required" if constraint.required else "auto"


def _tool(tool: Tool) -> Body:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _messages(messages: Sequence[Message]) -> list[Body]:
    """The turns. Calls without an id, as an agent's are, get one, and the tools' answers the id of their call."""
    turns: list[Body] = []
    unanswered: list[tuple[str, str]] = []
    for index, message in enumerate(messages):
        turn: Body = {"role": message.role, "content": message.content}
        if message.name is not None:
            turn["name"] = message.name
        if message.reasoning is not None:
            turn["reasoning_content"] = message.reasoning
        if message.tool_calls:
            calls = [(call.id or f"call_{index}_{n}", call) for n, call in enumerate(message.tool_calls)]
            unanswered = [(call_id, call.name) for call_id, call in calls]
            turn["tool_calls"] = [_call(call_id, call) for call_id, call in calls]
        if message.role == "tool":
            turn["tool_call_id"] = message.tool_call_id or _answered(unanswered, message.name)
        turns.append(turn)
    return turns


def _answered(unanswered: list[tuple[str, str]], name: str | None) -> str:
    """The id of the first open call of this name; a tool's answer to no call keeps its name in the id's place."""
    for entry in unanswered:
        if name in (None, entry[1]):
            unanswered.remove(entry)
            return entry[0]
    return name or "call"


def _call(call_id: str, call: ToolCall) -> Body:
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
