"""The routes of the Ollama dialect that ask a model, and those that its clients probe."""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Request, Response, get, head, post
from litestar.params import JSONBody
from litestar.response import Stream

import appliance
from appliance.api.handlers import TheCaller, TheNode
from appliance.api.images import text_or_image
from appliance.api.ollama import listing, render, translate
from appliance.api.ollama.generation import DIALECT, Generation
from appliance.api.streaming import while_connected
from appliance.api.vectors import cut
from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import EmbeddingRequest, EmbeddingResult
from appliance.domain.models import Caller
from appliance.lifecycle.node import Node
from appliance.wire import ollama as wire

TAGS = ["Ollama"]
SPOKEN_VERSION = "0.13.0"
"""Clients ask for the version of Ollama, to know which fields it understands: those of this one."""
GREETING = "Ollama is running"
"""Clients look for these words to find out whether something speaks their dialect here."""


@get("/", operation_id="ollamaGreet", media_type=MediaType.TEXT, tags=TAGS)
async def greet() -> str:
    """What Ollama's clients look for at this address; needs no key."""
    return GREETING


@head("/", operation_id="ollamaProbe", include_in_schema=False)
async def probe() -> None:
    """Whether something answers at this address; needs no key."""


@get("/api/version", operation_id="ollamaVersion", tags=TAGS)
async def get_version(caller: TheCaller) -> dict[str, str]:
    """The version of Ollama whose dialect this is, and the appliance's own."""
    return {"version": SPOKEN_VERSION, "appliance": appliance.__version__}


@get("/api/tags", operation_id="ollamaListModels", tags=TAGS)
async def list_models(node: TheNode, caller: TheCaller) -> dict[str, Any]:
    """Everything that this key can call in this dialect."""
    return {"models": listing.tags(node, caller)}


@get("/api/ps", operation_id="ollamaListRunning", tags=TAGS)
async def list_running(node: TheNode, caller: TheCaller) -> dict[str, Any]:
    """The models in memory that this key can call, with their bytes."""
    return {"models": listing.running(node, caller)}


@post("/api/show", operation_id="ollamaShowModel", status_code=200, tags=TAGS)
async def show_model(node: TheNode, caller: TheCaller, data: JSONBody[wire.Show]) -> dict[str, Any]:
    """What one model is and can do."""
    name = data.model or data.name
    if name is None:
        raise InvalidParameter("model: say which")
    return listing.shown(node, listing.target_of(node, caller, name))


@post("/api/chat", operation_id="ollamaChat", status_code=200, tags=TAGS)
async def chat(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChatCreate]
) -> Response[dict[str, Any]] | Stream:
    """Answer a conversation in Ollama's shape; without messages only load the model, or let it go."""
    target = listing.target_of(node, caller, data.model)
    generation = Generation(node, caller, target, data, render.chat_shape, has_calls=bool(data.tools))
    asked = translate.chat_request(data, caller.account_id)
    return await generation.respond(request, asked if data.messages else None)


@post("/api/generate", operation_id="ollamaGenerate", status_code=200, tags=TAGS)
async def generate(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.GenerateCreate]
) -> Response[dict[str, Any]] | Stream:
    """Answer or continue a prompt in Ollama's shape; without one only load the model, or let it go."""
    target = listing.target_of(node, caller, data.model)
    generation = Generation(node, caller, target, data, render.generate_shape, has_calls=False)
    has_template = listing.has_template(node, target)
    asked = translate.generate_request(data, caller.account_id, has_template=has_template)
    return await generation.respond(request, asked if data.prompt else None)


@post("/api/embed", operation_id="ollamaEmbed", status_code=200, tags=TAGS)
async def embed(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.EmbedCreate]
) -> dict[str, Any]:
    """One vector of length 1 per text; without a text only load the model, or let it go."""
    started_seconds = node.clock.monotonic_seconds()
    texts = (data.input,) if isinstance(data.input, str) else tuple(data.input or ())
    inputs = tuple(text_or_image(text, f"input[{index}]") for index, text in enumerate(texts))
    asked = EmbeddingRequest(texts=inputs if any(texts) else (), normalize=True)
    result = await while_connected(request, _embedded(node, caller, data, asked))
    return {
        "model": data.model,
        "embeddings": [cut(vector, data.dimensions) for vector in result.vectors],
        "total_duration": render.nanoseconds((node.clock.monotonic_seconds() - started_seconds) * 1000),
        "prompt_eval_count": result.tokens,
    }


@post("/api/embeddings", operation_id="ollamaEmbeddings", status_code=200, tags=TAGS)
async def embeddings(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.EmbeddingsCreate]
) -> dict[str, Any]:
    """The older form: the vector of one text, not scaled; without one only load the model, or let it go."""
    texts = (text_or_image(data.prompt, "prompt"),) if data.prompt else ()
    asked = EmbeddingRequest(texts=texts, normalize=False)
    result = await while_connected(request, _embedded(node, caller, data, asked))
    return {"embedding": result.vectors[0] if result.vectors else []}


async def _embedded(
    node: Node, caller: Caller, body: wire.EmbedCreate | wire.EmbeddingsCreate, asked: EmbeddingRequest
) -> EmbeddingResult:
    target = listing.target_of(node, caller, body.model)
    leaves = translate.leaves_at_once(body.keep_alive)
    result = EmbeddingResult(vectors=[], tokens=0)
    if asked.texts:
        result = await node.inference.embed(caller, target, asked, dialect=DIALECT)
    elif not leaves:
        await node.inference.load(target)
    if leaves:
        node.scheduler.dismiss(target.deployment.id)
    return result
