"""Dialect v4, beta: chat and text completions in OpenAI's bodies, streamed without the ``[DONE]`` that OpenAI sends.

The official client reads every event as JSON, so that word would end it with an error. It wants a ``finish_reason`` in
every event of a text completion; the pieces before the last have none, which its strict mode refuses.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import TheCaller, TheNode
from appliance.api.openai import routes as openai
from appliance.api.sgp.v4.by_name import DIALECT
from appliance.api.streaming import without_done
from appliance.wire import openai as wire

TAGS = ["v4 beta"]


@post("/v4/beta/chat/completions", operation_id="v4BetaCreateChatCompletion", status_code=200, tags=TAGS)
async def create_chat_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChatCompletionCreate]
) -> dict[str, Any] | Stream:
    """Answer a conversation, as `/v1/chat/completions` does; `model` may be `vendor/name`."""
    return without_done(await openai.answer_chat(request, node, caller, data, DIALECT))


@post("/v4/beta/completions", operation_id="v4BetaCreateCompletion", status_code=200, tags=TAGS)
async def create_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.CompletionCreate]
) -> dict[str, Any] | Stream:
    """Continue one or several prompts, as `/v1/completions` does; `model` may be `vendor/name`."""
    return without_done(await openai.answer_prompts(request, node, caller, data, DIALECT))
