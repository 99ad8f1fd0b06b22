"""Examples of the OpenAI dialect, of rerank, and of Anthropic's Messages."""

from __future__ import annotations

from typing import Any

from appliance.api.description.examples.base import FILE, Example

HELLO = [{"role": "user", "content": "Hello, what can you do?"}]
PROMPT = "The appliance is"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
"""A red point."""
IMAGE_URL = f"data:image/png;base64,{PNG}"
VISION = "qwen2-vl"
"""A model that sees, which no appliance has from the beginning."""
SEEN = "Which colour is this?"
TOOL_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city.", "parameters": TOOL_PARAMETERS},
}
ASK_FOR_TOOL = [{"role": "user", "content": "What is the weather in Oslo?"}]
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}}, "required": ["name"]}
ANSWER = "I answer questions about this appliance."
USAGE = {
    "prompt_tokens": 21,
    "completion_tokens": 8,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
INPUT_USAGE = {"prompt_tokens": 12, "total_tokens": 12}
DOCUMENTS = ["Only admins change templates.", "Weights are stored by digest."]

CHAT = (
    Example(
        body={"model": "starter-chat", "messages": HELLO},
        answer={
            "id": "chatcmpl-6f1d2c",
            "object": "chat.completion",
            "created": 1793611800,
            "model": "starter-chat",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": ANSWER, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        },
    ),
    Example(
        name="stream",
        summary="In pieces, with the token counts in the last one.",
        body={
            "model": "starter-chat",
            "messages": HELLO,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 32,
        },
    ),
    Example(
        name="tools",
        summary="A call of a tool; its arguments follow the tool's schema.",
        body={
            "model": "starter-chat",
            "messages": ASK_FOR_TOOL,
            "tools": [TOOL],
            "tool_choice": "required",
            "max_tokens": 64,
        },
    ),
    Example(
        name="schema",
        summary="An answer that follows a schema.",
        body={
            "model": "starter-chat",
            "messages": [{"role": "user", "content": "Name a person."}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
            "max_tokens": 64,
        },
    ),
    Example(
        name="sampling",
        summary="Several answers, with what was likely in their place.",
        body={
            "model": "starter-chat",
            "messages": HELLO,
            "n": 2,
            "temperature": 0.7,
            "top_p": 0.9,
            "seed": 7,
            "stop": ["\n"],
            "max_tokens": 8,
            "logprobs": True,
            "top_logprobs": 2,
        },
    ),
    Example(
        name="image",
        summary="An image in a message, as a data URL; for models that see.",
        body={
            "model": VISION,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": SEEN},
                        {"type": "image_url", "image_url": {"url": IMAGE_URL}},
                    ],
                }
            ],
        },
        runs=False,  # no built-in sees
    ),
)

TEXT = (
    Example(
        body={"model": "starter-chat", "prompt": PROMPT, "max_tokens": 16},
        answer={
            "id": "cmpl-6f1d2c",
            "object": "text_completion",
            "created": 1793611800,
            "model": "starter-chat",
            "choices": [{"index": 0, "text": " a server.", "logprobs": None, "finish_reason": "stop"}],
            "usage": USAGE,
        },
    ),
    Example(
        name="stream",
        summary="In pieces, with log probabilities.",
        body={"model": "starter-chat", "prompt": PROMPT, "max_tokens": 8, "logprobs": 2, "stream": True},
    ),
)

RERANK = (
    Example(
        body={"model": "starter-rerank", "query": "who may change a template?", "documents": DOCUMENTS},
        answer={
            "id": "rerank-6f1d2c",
            "model": "starter-rerank",
            "results": [{"index": 0, "relevance_score": 0.83}, {"index": 1, "relevance_score": 0.21}],
            "usage": INPUT_USAGE,
            "meta": {"tokens": {"input_tokens": 12, "output_tokens": 0}},
        },
    ),
    Example(
        name="documents",
        summary="The best one, with its document; of an object the fields that count are named.",
        body={
            "model": "starter-rerank",
            "query": "how are weights stored?",
            "documents": [{"title": "Store", "text": text} for text in DOCUMENTS],
            "rank_fields": ["title", "text"],
            "top_n": 1,
            "return_documents": True,
        },
    ),
)

_RESPONSE = Example(body={"model": "starter-chat", "input": "Hello, what can you do?", "max_output_tokens": 32})
_LINE = (
    '{"custom_id": "1", "method": "POST", "url": "/v1/completions", '
    '"body": {"model": "starter-chat", "prompt": "The appliance is", "max_tokens": 4}}\n'
)

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "openaiCreateChatCompletion": CHAT,
    "openaiCreateCompletion": TEXT,
    "openaiCreateEmbeddings": (
        Example(
            body={"model": "starter-embed", "input": ["a model template is a static recipe"]},
            answer={
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.031, -0.057, 0.014]}],
                "model": "starter-embed",
                "usage": INPUT_USAGE,
            },
        ),
        Example(
            name="base64",
            summary="Little-endian float32 as base64, as the official client asks for them.",
            body={"model": "starter-embed", "input": "a model group", "encoding_format": "base64"},
        ),
        Example(
            name="images",
            summary="Texts and images in one space; for models with a tower for images.",
            body={"model": "clip", "input": [{"text": "something red"}, {"image": IMAGE_URL}]},
            runs=False,  # the built-in has none
        ),
    ),
    "rerank": RERANK,
    "rerankV2": RERANK,
    "openaiCreateResponse": (
        _RESPONSE,
        Example(
            name="stream",
            summary="A whole conversation, in pieces.",
            body={
                "model": "starter-chat",
                "instructions": "Answer in one sentence.",
                "input": [{"role": "user", "content": "Hello"}],
                "stream": True,
                "max_output_tokens": 16,
            },
        ),
        Example(
            name="tools",
            summary="A call of a tool.",
            body={
                "model": "starter-chat",
                "input": "What is the weather in Oslo?",
                "tools": [{"type": "function", "name": "weather", "parameters": TOOL_PARAMETERS, "strict": False}],
                "tool_choice": "required",
                "max_output_tokens": 64,
            },
        ),
        Example(
            name="image",
            summary="An image in a message.",
            body={
                "model": VISION,
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": SEEN},
                            {"type": "input_image", "image_url": IMAGE_URL},
                        ],
                    }
                ],
            },
            runs=False,  # no built-in sees
        ),
    ),
    "openaiCountInputTokens": (
        Example(
            body={"model": "starter-chat", "input": "Hello, what can you do?"},
            answer={"object": "response.input_tokens", "input_tokens": 21},
        ),
    ),
    "tokenize": (
        Example(
            body={"model": "starter-chat", "prompt": "a model"},
            answer={"count": 3, "max_model_len": 2048, "tokens": [1, 35, 311], "token_strs": None},
        ),
        Example(
            name="conversation",
            summary="A conversation as the chat template writes it, with each token's text.",
            body={"model": "starter-chat", "messages": HELLO, "return_token_strs": True, "with_pieces": True},
        ),
    ),
    "detokenize": (
        Example(
            body={"model": "starter-chat", "tokens": [35, 311]}, answer={"prompt": "a model", "content": "a model"}
        ),
    ),
    "openaiCreateFile": (
        Example(
            body={"purpose": "batch", "file": _LINE},
            makes=FILE,
            answer={
                "id": FILE,
                "object": "file",
                "bytes": 132,
                "created_at": 1793611800,
                "filename": "requests.jsonl",
                "purpose": "batch",
                "status": "processed",
            },
        ),
        Example(name="user_data", summary="Kept as it is.", body={"purpose": "user_data", "file": "anything"}),
    ),
    "openaiCreateBatch": (
        Example(
            body={"input_file_id": FILE, "endpoint": "/v1/completions", "completion_window": "24h"},
        ),
        Example(
            name="metadata",
            summary="With words of your own beside it.",
            body={
                "input_file_id": FILE,
                "endpoint": "/v1/completions",
                "completion_window": "24h",
                "metadata": {"run": "nightly"},
            },
        ),
    ),
}

_TOOL = {"name": "weather", "description": "The weather in a city.", "input_schema": TOOL_PARAMETERS}
_MESSAGE: dict[str, Any] = {"model": "starter-chat", "max_tokens": 32, "messages": HELLO}

EXAMPLES |= {
    "anthropicCreateMessage": (
        Example(
            body=_MESSAGE,
            answer={
                "id": "msg_6f1d2c",
                "type": "message",
                "role": "assistant",
                "model": "starter-chat",
                "content": [{"type": "text", "text": ANSWER, "citations": None}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 21,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 8,
                },
            },
        ),
        Example(name="stream", summary="In events.", body={**_MESSAGE, "stream": True, "system": "Be brief."}),
        Example(
            name="tools",
            summary="A tool that must be used.",
            body={
                "model": "starter-chat",
                "max_tokens": 64,
                "messages": ASK_FOR_TOOL,
                "tools": [_TOOL],
                "tool_choice": {"type": "any"},
            },
        ),
        Example(
            name="image",
            summary="An image in a message.",
            body={
                "model": VISION,
                "max_tokens": 32,
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": SEEN},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                        ],
                    }
                ],
            },
            runs=False,  # no built-in sees
        ),
    ),
    "anthropicCountTokens": (Example(body={"model": "starter-chat", "messages": HELLO}, answer={"input_tokens": 21}),),
}
