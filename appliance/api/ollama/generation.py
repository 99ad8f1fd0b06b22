"""One request of the Ollama dialect that generates: whole or in lines, or only a load."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, Response
from litestar.response import Stream

from appliance.api.ollama import listing, render, translate
from appliance.api.ollama.render import Json, Piece
from appliance.api.streaming import LineStream, line, while_connected
from appliance.domain.errors import InvalidRequest
from appliance.domain.inference import ChatRequest, CompletionRequest, Delta
from appliance.domain.models import Caller, ModelType
from appliance.engines.parts import AnswerSplitter
from appliance.lifecycle.execution import TextExecution
from appliance.lifecycle.inference import Target
from appliance.lifecycle.node import Node
from appliance.wire import ollama as wire

DIALECT = "ollama"


class Generation:
    """What a request asks of a target, and how its answer is written."""

    def __init__(
        self,
        node: Node,
        caller: Caller,
        target: Target,
        body: wire.ChatCreate | wire.GenerateCreate,
        shape: render.Shape,
        *,
        has_calls: bool,
    ) -> None:
        """Raises InvalidParameter when ``keep_alive`` is no duration."""
        self._node = node
        self._caller = caller
        self._target = target
        self._body = body
        self._shape = shape
        self._has_calls = has_calls
        self._leaves = translate.leaves_at_once(body.keep_alive)
        self._started_seconds = node.clock.monotonic_seconds()

    async def respond(
        self, request: Request[Any, Any, Any], asked: ChatRequest | CompletionRequest | None
    ) -> Response[Json] | Stream:
        """The answer, in lines unless ``stream`` is false; None: the model is only to come, or to go."""
        if asked is None:
            return Response(await while_connected(request, self._load()))
        if self._body.think and not listing.may_think(self._node, self._target):
            raise InvalidRequest(f"'{self._target.deployment.name}' does not support thinking; leave think out")
        if self._body.stream is False:
            return Response(await while_connected(request, self._whole(asked)))
        execution = await while_connected(request, self._start(asked))

        def close() -> None:
            execution.close()
            self._let_go()

        return LineStream(request, self._lines(execution), close, execution.prime)

    async def _load(self) -> Json:
        if not self._leaves:
            await self._node.inference.load(self._target)
        self._let_go()
        return self._object(Piece(), render.done("unload" if self._leaves else "load"))

    async def _start(self, asked: ChatRequest | CompletionRequest) -> TextExecution:
        kind = ModelType.CHAT_COMPLETION if isinstance(asked, ChatRequest) else ModelType.COMPLETION
        return await self._node.inference.generate(
            self._caller, self._target, [asked], model_type=kind, dialect=DIALECT
        )

    async def _whole(self, asked: ChatRequest | CompletionRequest) -> Json:
        execution = await self._start(asked)
        whole = render.joined([piece async for piece in self._pieces(execution)])
        self._let_go()
        return self._object(whole, whole.end)

    async def _lines(self, execution: TextExecution) -> AsyncIterator[bytes]:
        async for piece in self._pieces(execution):
            if not piece.is_empty:
                yield line(self._object(piece, render.NOT_YET))
            if piece.end is not render.NOT_YET:
                self._let_go()  # before the last line: who has read it may look
                yield line(self._object(Piece(), piece.end))

    async def _pieces(self, execution: TextExecution) -> AsyncIterator[Piece]:
        """Pieces as they come; the last one says how the answer ended."""
        splitter = AnswerSplitter(thoughts=execution.marks_thoughts, calls=self._has_calls)
        calls = render.CallCollector()
        async for _, delta in execution.deltas():
            parts = splitter.feed(delta.text, last=delta.finish_reason is not None)
            words, complete = calls.feed(parts, is_inside_call=splitter.is_inside_call)
            logprobs = render.logprob_objects(delta.logprobs)
            end = self._end(execution, delta)
            yield Piece(text=parts.text + words, thought=parts.thought, calls=complete, logprobs=logprobs, end=end)

    def _end(self, execution: TextExecution, delta: Delta) -> Json:
        if delta.finish_reason is None:
            return render.NOT_YET
        took_seconds = self._node.clock.monotonic_seconds() - self._started_seconds
        return render.end(delta.finish_reason, execution.usage, took_seconds)

    def _object(self, piece: Piece, end: Json) -> Json:
        return {**render.head(self._body.model, self._node.clock.now()), **self._shape(piece), **end}

    def _let_go(self) -> None:
        """With ``keep_alive`` 0 the model leaves, unless others use it or it is pinned."""
        if self._leaves:
            self._node.scheduler.dismiss(self._target.deployment.id)
