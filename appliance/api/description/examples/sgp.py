"""Examples of the SGP dialects: by name, by deployment, ranking, async tasks."""

from __future__ import annotations

from typing import Any

from appliance.api.description.examples import openai
from appliance.api.description.examples.base import (
    CHAT_DEPLOYMENT,
    CHAT_MODEL,
    EMBED_DEPLOYMENT,
    EMBED_MODEL,
    RERANK_DEPLOYMENT,
    RERANK_MODEL,
    Example,
)
from appliance.api.description.examples.openai import ANSWER, DOCUMENTS, HELLO, PROMPT

_TOKENS = {"total": 29, "prompt": 21, "completion": 8}
_NAMED = {"completion": {"text": ANSWER, "finish_reason": "stop"}, "token_usage": _TOKENS}
_NAMED_TEXT = (
    Example(body={"model": "starter-chat", "prompt": "Hello, what can you do?"}, answer=_NAMED),
    Example(
        name="stream",
        summary="In pieces, with sampling.",
        body={
            "model": "starter-chat",
            "prompt": PROMPT,
            "model_parameters": {"temperature": 0.2, "max_tokens": 16, "stop_sequences": ["\n\n"]},
            "stream": True,
        },
    ),
)
_NAMED_CHAT = (
    Example(
        body={"model": "starter-chat", "messages": HELLO},
        answer={
            "chat_completion": {"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"},
            "token_usage": _TOKENS,
        },
    ),
    Example(
        name="stream",
        summary="In pieces, with instructions and a memory of four messages.",
        body={
            "model": "starter-chat",
            "messages": HELLO,
            "instructions": "Answer in one sentence.",
            "memory_strategy": {"name": "last_k", "params": {"k": 4}},
            "model_parameters": {"max_tokens": 16},
            "stream": True,
        },
    ),
)
_TOOL = {
    "name": "weather",
    "description": "The weather in a city.",
    "arguments": {"type": "object", "properties": {"city": {"type": "string", "description": "its name"}}},
}
_STEP: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the weather in Oslo?"}], "tools": [_TOOL]}
_AGENT = (
    Example(
        body={"model": "starter-chat", **_STEP, "model_parameters": {"max_tokens": 64}},
        answer={
            "action": "tool_request",
            "context": {"content": None, "tool_request": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        },
    ),
)
_CHUNKS = [{"chunk_id": str(number), "text": text} for number, text in enumerate(DOCUMENTS)]
_RANK = (
    Example(
        body={
            "query": "who may change a template?",
            "relevant_chunks": _CHUNKS,
            "rank_strategy": {"method": "cross_encoder"},
            "top_k": 1,
        },
        answer={
            "relevant_chunks": [
                {
                    **_CHUNKS[0],
                    "score": 0.83,
                    "embedding": None,
                    "metadata": None,
                    "title": None,
                    "attachment_url": None,
                    "user_supplied_metadata": None,
                }
            ]
        },
    ),
    Example(
        name="rouge",
        summary="By words in common, without a model.",
        body={
            "query": "who may change a template?",
            "relevant_chunks": _CHUNKS,
            "rank_strategy": {"method": "rouge", "params": {"metric": "rouge1", "score": "recall"}},
        },
    ),
)

_V3_CHAT = {"model_id": CHAT_MODEL, "deployment_id": CHAT_DEPLOYMENT}
_V4_CHAT = {"model_instance_id": CHAT_MODEL, "model_deployment_id": CHAT_DEPLOYMENT}
_V4_EMBED = {"model_instance_id": EMBED_MODEL, "model_deployment_id": EMBED_DEPLOYMENT}
_TEXT_RESULT = {
    "completions": [["Hello", [ANSWER]]],
    "finish_reason": "stop",
    "prompt_tokens": 21,
    "response_tokens": 8,
}
_EMBEDDED = {"embeddings": [["a model group", [0.031, -0.057, 0.014]]], "tokens_used": 5}
_RANKED = {"chunk_scores": [0.83, 0.21], "tokens_used": 24}

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "v2CreateCompletion": _NAMED_TEXT,
    "egpV1CreateCompletion": _NAMED_TEXT,
    "v4CreateCompletion": _NAMED_TEXT,
    "v4CreateChatCompletion": _NAMED_CHAT,
    "egpV1CreateChatCompletion": _NAMED_CHAT,
    "v4ExecuteAgent": _AGENT,
    "egpV1ExecuteAgent": _AGENT,
    "v4RankChunks": _RANK,
    "v2RankChunks": _RANK,
    "egpV1RankChunks": _RANK,
    "v4BetaCreateChatCompletion": openai.CHAT,
    "v4BetaCreateCompletion": openai.TEXT,
    "v3ExecuteModelDeployment": (
        Example(
            name="chat",
            summary="A CHAT_COMPLETION model.",
            path=_V3_CHAT,
            body={"messages": HELLO},
            answer={"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"},
        ),
        Example(
            name="embedding",
            summary="An EMBEDDING model.",
            path={"model_id": EMBED_MODEL, "deployment_id": EMBED_DEPLOYMENT},
            body={"texts": ["a model group"]},
            answer=_EMBEDDED,
        ),
        Example(
            name="reranking",
            summary="A RERANKING model.",
            path={"model_id": RERANK_MODEL, "deployment_id": RERANK_DEPLOYMENT},
            body={"query": "who may change a template?", "chunks": DOCUMENTS},
            answer=_RANKED,
        ),
        Example(
            name="completion",
            summary="A COMPLETION model.",
            body={"prompts": [PROMPT], "temperature": 0.2, "max_tokens": 16},
            answer=_TEXT_RESULT,
            runs=False,  # no built-in is of this type
        ),
        Example(
            name="agent",
            summary="An AGENT model, one step.",
            body=_STEP,
            answer={"action": "content", "context": {"content": ANSWER, "tool_request": None}},
            runs=False,
        ),
    ),
    "v4ExecuteModelDeployment": (
        Example(
            name="chat",
            summary="A CHAT_COMPLETION model.",
            path=_V4_CHAT,
            body={"messages": HELLO, "max_tokens": 16},
            answer={"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"},
        ),
        Example(
            name="stream",
            summary="The same in pieces.",
            path=_V4_CHAT,
            body={"messages": HELLO, "max_tokens": 16, "stream": True},
        ),
        Example(
            name="embedding",
            summary="An EMBEDDING model.",
            path=_V4_EMBED,
            body={"texts": ["a model group"], "model_request_parameters": {"bindings": {"normalize": True}}},
            answer=_EMBEDDED,
        ),
    ),
    "v4CreateDeploymentCompletion": (
        Example(
            path={"model_deployment_id": CHAT_DEPLOYMENT},
            body={"prompt": "Hello", "max_tokens": 16},
            answer={**_TEXT_RESULT, "choices": None},
        ),
        Example(
            name="stream",
            summary="In pieces.",
            path={"model_deployment_id": CHAT_DEPLOYMENT},
            body={"prompt": "Hello", "max_tokens": 8, "logprobs": True, "top_logprobs": 2, "stream": True},
        ),
    ),
    "v4CreateDeploymentChatCompletion": (
        Example(
            path={"model_deployment_id": CHAT_DEPLOYMENT},
            body={"chat_history": [], "prompt": "Hello", "max_tokens": 16},
            answer={**_TEXT_RESULT, "choices": None},
        ),
    ),
    "v4CreateDeploymentEmbeddings": (
        Example(path={"model_deployment_id": EMBED_DEPLOYMENT}, body={"texts": ["a model group"]}, answer=_EMBEDDED),
    ),
    "v4CreateDeploymentReranking": (
        Example(
            path={"model_deployment_id": RERANK_DEPLOYMENT},
            body={"query": "who may change a template?", "chunks": DOCUMENTS},
            answer=_RANKED,
        ),
    ),
    "createAsyncTask": (
        Example(
            query={"model_endpoint_id": "starter-chat"},
            body={"args": {"messages": HELLO, "max_tokens": 8}},
            answer={"task_id": "8b1e6a34-3f3c-4a86-9d0e-0f6d5a9b2c20"},
        ),
    ),
}
