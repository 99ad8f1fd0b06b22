"""Answers of v4 as they stream: what the client's types demand of an event, and beside it what its text speaks of.

The last event has the token counts. There is no ``[DONE]``: the client reads every event as JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from appliance.api.openai.render import chat_logprobs
from appliance.api.sgp.translate import token_usage
from appliance.api.streaming import event
from appliance.domain.inference import Delta, Logprobs
from appliance.lifecycle.execution import Text, TextExecution
from appliance.wire import sgp_execute, sgp_v2
from appliance.wire import sgp_v4_execute as wire


def completion_result(prompt: str, text: Text, execution: TextExecution) -> wire.CompletionResult:
    """The whole answer of a typed text route."""
    usage = execution.usage
    return wire.CompletionResult(
        completions=[(prompt, [text.text])],
        finish_reason=text.finish_reason.value,
        prompt_tokens=usage.prompt_tokens,
        response_tokens=usage.response_tokens,
        choices=_choices(text.logprobs),
    )


async def completion_pieces(execution: TextExecution, prompts: Sequence[str]) -> AsyncIterator[wire.CompletionResult]:
    """Pieces of the typed text routes, and of executing a COMPLETION model."""
    running = len(prompts)
    async for index, delta in execution.deltas():
        running -= delta.finish_reason is not None
        yield wire.CompletionResult(**_result(execution, prompts[index], delta, last=not running))


async def message_pieces(execution: TextExecution) -> AsyncIterator[wire.MessagePiece]:
    """Pieces of executing a CHAT_COMPLETION model."""
    async for _, delta in execution.deltas():
        usage = execution.usage if delta.finish_reason is not None else None
        yield wire.MessagePiece(
            message=sgp_execute.AssistantMessage(content=delta.text),
            finish_reason=delta.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else None,
            response_tokens=usage.response_tokens if usage else None,
        )


async def events(pieces: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """Pieces as events, as they are."""
    async for piece in pieces:
        yield event(piece)


async def named_completion_events(execution: TextExecution, prompt: str) -> AsyncIterator[bytes]:
    """Events of ``/v4/completions``."""
    async for _, delta in execution.deltas():
        piece = wire.CompletionPiece(
            **_result(execution, prompt, delta, last=delta.finish_reason is not None),
            completion=sgp_v2.Completion(text=delta.text, finish_reason=delta.finish_reason),
            token_usage=_usage(execution, delta),
        )
        yield event(piece)


async def named_chat_events(execution: TextExecution, prompt: str) -> AsyncIterator[bytes]:
    """Events of ``/v4/chat-completions``; the prompt is the last turn."""
    async for _, delta in execution.deltas():
        message = sgp_execute.AssistantMessage(content=delta.text)
        piece = wire.ChatCompletionPiece(
            **_result(execution, prompt, delta, last=delta.finish_reason is not None),
            chat_completion=wire.ChatCompletion(message=message, finish_reason=delta.finish_reason),
            token_usage=_usage(execution, delta),
        )
        yield event(piece)


def _result(execution: TextExecution, prompt: str, delta: Delta, *, last: bool) -> dict[str, Any]:
    """The fields of a CompletionResult whose text is one delta's."""
    usage = execution.usage if last else None
    return {
        "completions": [(prompt, [delta.text])],
        "finish_reason": delta.finish_reason,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "response_tokens": usage.response_tokens if usage else None,
        "choices": _choices(delta.logprobs),
    }


def _choices(logprobs: Sequence[Logprobs]) -> list[wire.Choice] | None:
    return [wire.Choice(index=0, logprobs={"content": chat_logprobs(logprobs)})] if logprobs else None


def _usage(execution: TextExecution, delta: Delta) -> sgp_v2.TokenUsage | None:
    return token_usage(execution.usage) if delta.finish_reason is not None else None
