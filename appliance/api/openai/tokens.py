"""Texts and conversations as token ids, in the shapes of vLLM and llama-server."""

from __future__ import annotations

from typing import Any

from litestar import Request, post
from litestar.params import JSONBody

from appliance.api.handlers import TheCaller, TheNode
from appliance.api.openai import translate
from appliance.api.streaming import while_connected
from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import ChatRequest, CompletionRequest, Tokens
from appliance.wire import openai as wire

TAGS = ["OpenAI"]


@post("/v1/tokenize", operation_id="tokenize", status_code=200, tags=TAGS)
async def create_tokens(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.TokenizeCreate]
) -> dict[str, Any]:
    """Token ids and their count: of a text, or of a conversation as the chat template writes it. Nothing is logged."""
    asked = _asked(data)
    target = node.inference.by_name(caller, data.model)
    work = node.inference.tokenize(target, asked, add_special=_adds_special(data))
    tokens, most = await while_connected(request, work)
    return {
        "count": len(tokens.ids),
        "max_model_len": most,
        "tokens": _with_pieces(tokens) if data.with_pieces else list(tokens.ids),
        "token_strs": [piece.decode("utf-8", "replace") for piece in tokens.pieces] if data.return_token_strs else None,
    }


@post("/v1/detokenize", operation_id="detokenize", status_code=200, tags=TAGS)
async def create_text(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.DetokenizeCreate]
) -> dict[str, Any]:
    """The text of token ids, as `prompt` and as `content`."""
    target = node.inference.by_name(caller, data.model)
    text = await while_connected(request, node.inference.detokenize(target, tuple(data.tokens)))
    return {"prompt": text, "content": text}


def _asked(body: wire.TokenizeCreate) -> CompletionRequest | ChatRequest:
    given = [name for name in ("prompt", "content", "messages") if getattr(body, name) is not None]
    if len(given) != 1:
        raise InvalidParameter(f"send one of 'prompt', 'content' and 'messages'; {len(given)} are set")
    if body.messages is None:
        if body.tools or body.chat_template_kwargs or body.reasoning_effort:
            raise InvalidParameter("tools, chat_template_kwargs and reasoning_effort belong to 'messages'; send those")
        return CompletionRequest(prompt=(body.content or "") if body.prompt is None else body.prompt)
    return ChatRequest(
        messages=translate.conversation(body.messages),
        tools=tuple(translate.tools_of(body.tools)),
        template_arguments=body.chat_template_kwargs or {},
        reasoning_effort=body.reasoning_effort,
    )


def _adds_special(body: wire.TokenizeCreate) -> bool:
    """vLLM adds the marks around a text unless told not to, llama-server the other way round."""
    if body.add_special_tokens is not None:
        return body.add_special_tokens
    return body.add_special if body.add_special is not None else body.content is None


def _with_pieces(tokens: Tokens) -> list[dict[str, Any]]:
    """As llama-server has them: text where the bytes are, else the bytes."""
    return [{"id": i, "piece": _piece(raw)} for i, raw in zip(tokens.ids, tokens.pieces, strict=True)]


def _piece(raw: bytes) -> str | list[int]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return list(raw)
