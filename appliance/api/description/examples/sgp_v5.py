"""Examples of SGP's dialect v5, and of the files that it shares with v4's beta."""

from __future__ import annotations

from typing import Any

from appliance.api.description.examples import openai
from appliance.api.description.examples.base import DEPLOYMENT, SGP_FILE, USER, V5_MODEL, WHEN, Example
from appliance.api.description.examples.openai import HELLO

_TEXT = "Only admins change templates.\n"
_FILE = {
    "id": SGP_FILE,
    "created_at": WHEN,
    "created_by": {"id": USER, "type": "user", "object": "identity"},
    "filename": "rules.txt",
    "md5_checksum": "6c07cf1bfb6d24e2a1b0f0a9b1d9a6b1",
    "mime_type": "text/plain",
    "size": 30,
    "duration_seconds": None,
    "tags": None,
    "object": "file",
}
_ENGINE: dict[str, Any] = {"model": "starter-chat", "context_length": 512}
_IMAGE = {
    "registry": "local",
    "repository": "onnx-embedding",
    "tag": "latest",
    "command": [],
    "env_vars": {"weights": "starter-embed"},
}

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "v5CreateChatCompletion": openai.CHAT,
    "v5CreateCompletion": openai.TEXT,
    "v5CreateResponse": openai.EXAMPLES["openaiCreateResponse"],
    "v5CreateInference": (
        Example(
            summary="An embedding model; `args` is what executing it takes.",
            body={"model": "model_zoo/starter-embed", "args": {"texts": ["a model group"]}},
            answer={
                "response": {"embeddings": [["a model group", [0.031, -0.057, 0.014]]], "tokens_used": 5},
                "object": "generic_inference",
            },
        ),
        Example(
            name="stream",
            summary="A conversation in pieces, within a minute.",
            body={
                "model": "model_zoo/starter-chat",
                "args": {"messages": HELLO, "max_tokens": 16, "stream": True},
                "inference_configuration": {"timeout_seconds": 60},
            },
        ),
    ),
    "v5CreateModel": (
        Example(
            summary="Weights by their name; it deploys by itself.",
            body={"name": "support-v5", "model_vendor": "llmengine", "vendor_configuration": _ENGINE},
            makes=V5_MODEL,
            answer={
                "id": V5_MODEL,
                "created_at": WHEN,
                "created_by_identity_type": "user",
                "created_by_user_id": USER,
                "name": "support-v5",
                "model_type": "chat_completion",
                "model_vendor": "llmengine",
                "status": "deploying",
                "model_availability": "unknown",
                "model_metadata": None,
                "status_reason": None,
                "vendor_configuration": _ENGINE,
                "object": "model",
            },
        ),
        Example(
            name="launch",
            summary="From a model template, with its creation parameters.",
            body={
                "name": "support-embed-v5",
                "model_vendor": "launch",
                "vendor_configuration": {"model_image": _IMAGE, "model_infra": {"per_worker": 2}},
            },
        ),
        Example(
            name="external",
            summary="One that an upstream serves.",
            body={"name": "gpt-4o", "model_vendor": "openai", "model_type": "chat_completion"},
            runs=False,  # there is no upstream
        ),
    ),
    "v5UpdateModel": (
        Example(
            path={"model_id": DEPLOYMENT},
            body={"model_metadata": {"team": "support"}},
            summary="Other metadata; what is left out stays. A deployment of the other dialects is a model here.",
        ),
        Example(
            name="rename",
            summary="Another name; with `swap` the model that has it gets this one's.",
            path={"model_id": V5_MODEL},
            body={"name": "support-next", "on_conflict": "swap"},
            runs=False,  # it may still be deploying
        ),
    ),
    "v5CreateFile": (Example(summary="A file with its name, or a text.", body={"file": _TEXT}, answer=_FILE),),
    "v4BetaCreateFile": (
        Example(summary="A file with its name, or a text.", body={"file": _TEXT}, makes=SGP_FILE, answer=_FILE),
    ),
    "v5UpdateFile": (
        Example(
            path={"file_id": SGP_FILE},
            body={"tags": {"project": "support"}},
            answer={**_FILE, "tags": {"project": "support"}},
            summary="These tags take the place of all there are.",
        ),
    ),
}
