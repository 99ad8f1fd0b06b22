"""Examples of the Ollama dialect."""

from __future__ import annotations

from appliance.api.description.examples.base import Example
from appliance.api.description.examples.openai import ANSWER, HELLO, PERSON, PNG, SEEN, TOOL, VISION

_COUNTS = {
    "total_duration": 61_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": 21,
    "prompt_eval_duration": 20_000_000,
    "eval_count": 8,
    "eval_duration": 40_000_000,
}
_END = {"model": "starter-chat", "created_at": "2026-11-02T09:30:00Z", "done": True, "done_reason": "stop", **_COUNTS}

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "ollamaChat": (
        Example(
            body={"model": "starter-chat", "messages": HELLO, "stream": False},
            answer={**_END, "message": {"role": "assistant", "content": ANSWER}},
        ),
        Example(
            name="stream",
            summary="One JSON object a line; this is what is done when `stream` is left out.",
            body={"model": "starter-chat:latest", "messages": HELLO, "options": {"num_predict": 8, "temperature": 0}},
        ),
        Example(
            name="tools",
            summary="With a tool, and at most so many tokens.",
            body={
                "model": "starter-chat",
                "messages": HELLO,
                "tools": [TOOL],
                "stream": False,
                "options": {"num_predict": 32},
            },
        ),
        Example(
            name="image",
            summary="An image beside the text, as base64; for models that see.",
            body={"model": VISION, "messages": [{"role": "user", "content": SEEN, "images": [PNG]}]},
            runs=False,  # no built-in sees
        ),
        Example(name="load", summary="Only load the model.", body={"model": "starter-chat"}),
    ),
    "ollamaGenerate": (
        Example(
            body={"model": "starter-chat", "prompt": "Hello", "stream": False, "options": {"num_predict": 16}},
            answer={**_END, "response": ANSWER},
        ),
        Example(
            name="schema",
            summary="An answer that follows a schema, line by line.",
            body={
                "model": "starter-chat",
                "prompt": "Name a person.",
                "format": PERSON,
                "options": {"num_predict": 48},
            },
        ),
    ),
    "ollamaEmbed": (
        Example(
            body={"model": "starter-embed", "input": ["a model group"]},
            answer={
                "model": "starter-embed",
                "embeddings": [[0.031, -0.057, 0.014]],
                "total_duration": 4_000_000,
                "prompt_eval_count": 5,
            },
        ),
    ),
    "ollamaEmbeddings": (
        Example(
            body={"model": "starter-embed", "prompt": "a model group"}, answer={"embedding": [0.031, -0.057, 0.014]}
        ),
    ),
    "ollamaShowModel": (Example(body={"model": "starter-chat"}),),
}
