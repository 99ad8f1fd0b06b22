"""Text generation over GGUF weights: the event loop's side of the batching engine.

Turns requests into prompts, grammars and samplers, checks them against the context, and hands them to the engine's
thread. What takes more than a moment (templates, long texts, grammars) runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.domain.clock import Clock, SystemClock
from appliance.domain.errors import ApplianceError, InvalidParameter, PromptTooLong
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    GrammarConstraint,
    Sampling,
    Tokens,
    ToolConstraint,
)
from appliance.engines.base import EngineStats, refuse_images
from appliance.engines.llama.batcher import Budget
from appliance.engines.llama.chat import Marks, prompt_text, source_of, thoughts_of
from appliance.engines.llama.grammar import Thoughts, to_gbnf
from appliance.engines.llama.prefix import PrefixStore
from appliance.engines.llama.runtime import Context, ContextOptions, Grammar, Model, Vocabulary
from appliance.engines.llama.sampler import Law, Sampler
from appliance.engines.llama.sequence import Cancel, Look, Start
from appliance.engines.llama.stepper import Command, TextStepper
from appliance.engines.llama.text import Pieces
from appliance.engines.llama.vision import Vision
from appliance.engines.parts import THOUGHT_OPENING
from appliance.engines.stream import GenerationStream, Outbox
from appliance.engines.thread import EngineThread

Ints: TypeAlias = npt.NDArray[np.int32]
Request: TypeAlias = CompletionRequest | ChatRequest

QUICK_CHARACTERS = 4096
"""Texts up to this length are tokenized on the loop: a hop to another thread would take longer."""
KEPT_GRAMMARS = 32


class TextOptions(Struct, frozen=True, kw_only=True):
    """Sizes of a text engine."""

    context_length_tokens: int
    cache_tokens: int
    slots: int
    threads: int
    batch_tokens: int = 512
    cache_type: str = "f16"
    """How keys and values are stored: f16 or q8_0."""
    step_seconds: float = 0.1
    """About how long a step may take while somebody's stream waits for it."""
    draft_tokens: int = 0
    """Tokens of an answer that may be guessed ahead, at most."""
    prefix_bytes: int = 0
    """RAM for what finished requests had computed, so that those which begin the same need not compute it again."""


class _Prompt(Struct, frozen=True, kw_only=True):
    """What enters the model, and what of the answer is in it already."""

    tokens: Ints
    looks: tuple[Look, ...] = ()
    opening: str = ""
    thoughts: Thoughts = Thoughts.NONE


class LlamaTextEngine:
    """``appliance.engines.base.TextEngine`` for GGUF weights. Owns the model from its making to ``close``."""

    def __init__(
        self,
        model: Model,
        options: TextOptions,
        clock: Clock | None = None,
        vision: Vision | None = None,
        blindness: str = "this model takes text only",
    ) -> None:
        """``blindness``: why images are refused where there is no vision."""
        self._options = options
        self._vision = vision
        self._blindness = blindness
        self._clock = clock or SystemClock()
        self._vocabulary = model.vocabulary
        self._device = model.device
        self._template = model.chat_template()
        self._pieces = Pieces(model.vocabulary)
        self._marks = Marks(self._mark(model.vocabulary.bos), self._mark(model.vocabulary.eos))
        self._grammars = _Grammars(model.vocabulary, self._pieces)
        self._ends: tuple[int, ...] = ()
        outbox = Outbox()
        budget = Budget(options.batch_tokens, options.step_seconds)
        self._context = context = Context(model, _context_options(options))
        prefixes = PrefixStore(options.prefix_bytes, is_divisible=model.is_divisible)
        self._stepper = TextStepper(
            context, self._pieces, options.slots, budget, prefixes, outbox, self._clock, options.draft_tokens
        )
        self._thread: EngineThread[Command] = EngineThread("llama-text", self._stepper, outbox)

    def _mark(self, token: int) -> str:
        return self._pieces.raw(token).decode("utf-8", "replace") if token >= 0 else ""

    # --- Engine --------------------------------------------------------------------------------------------------

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    @property
    def slots(self) -> int:
        """Generations that run at once."""
        return self._options.slots

    @property
    def context_length_tokens(self) -> int:
        """Tokens that one request may use, prompt and answer together."""
        return self._options.context_length_tokens

    @property
    def failure(self) -> str | None:
        """Why the engine can no longer run."""
        return self._thread.failure

    def stats(self) -> EngineStats:
        """What it is doing right now."""
        stats = self._stepper.stats
        return msgspec.structs.replace(stats, waiting=stats.waiting + self._thread.unread)

    @property
    def pulse(self) -> int | None:
        """Steps completed so far, while there is work."""
        return self._thread.pulse

    def give_up(self, error: ApplianceError) -> None:
        """End every generation with the error: a step does not end."""
        self._context.give_up()
        self._thread.give_up(error)

    def close(self) -> None:
        """Cancel what runs and free everything. Blocks; twice is fine."""
        self._thread.close()
        self._grammars.close()
        if self._vision is not None:
            self._vision.close()

    # --- TextEngine ----------------------------------------------------------------------------------------------

    async def complete(self, request: CompletionRequest) -> GenerationStream:
        """Start continuing a text. Raises PromptTooLong, InvalidParameter."""
        prompt = await self._prompt(request)
        opening = await self._echoed(request.prompt) if request.echo else ""
        return await self._start(request, _Prompt(tokens=prompt, opening=opening))

    async def chat(self, request: ChatRequest) -> GenerationStream:
        """Start answering a conversation. Raises PromptTooLong, InvalidParameter."""
        prompt = await asyncio.to_thread(self._chat_prompt, request)
        if not _may_think(request):
            prompt = _Prompt(tokens=prompt.tokens, looks=prompt.looks)
        return await self._start(request, prompt)

    async def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt as it would enter the model."""
        return len(await self._prompt(request))

    async def tokenize(self, request: Request, *, add_special: bool = True) -> Tokens:
        """The prompt's tokens as they would enter the model; ``add_special`` False: without the marks around a text."""
        if isinstance(request, CompletionRequest) and isinstance(request.prompt, str):
            ids = await asyncio.to_thread(self._vocabulary.tokenize, request.prompt, add_special=add_special)
        else:
            if isinstance(request, ChatRequest):
                refuse_images(request.messages, "images have no tokens to show")
            ids = await self._prompt(request)
        numbers = tuple(ids.tolist())
        return Tokens(ids=numbers, pieces=await asyncio.to_thread(self._vocabulary.pieces, numbers))

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids, control tokens included. Raises InvalidParameter."""
        return await asyncio.to_thread(self._vocabulary.text, self._vocabulary.checked(tokens, "tokens"))

    # --- the prompt ----------------------------------------------------------------------------------------------

    async def _prompt(self, request: Request) -> Ints:
        if isinstance(request, ChatRequest):
            return (await asyncio.to_thread(self._chat_prompt, request)).tokens
        if request.suffix:
            return await asyncio.to_thread(self._around_gap, request)
        if not isinstance(request.prompt, str):
            return self._vocabulary.checked(request.prompt, "prompt")
        if len(request.prompt) <= QUICK_CHARACTERS:
            return self._vocabulary.tokenize(request.prompt)
        return await asyncio.to_thread(self._vocabulary.tokenize, request.prompt)

    def _around_gap(self, request: CompletionRequest) -> Ints:
        given = request.prompt
        prompt = given if isinstance(given, str) else self._vocabulary.checked(given, "prompt")
        return self._vocabulary.around_gap(prompt, request.suffix)

    def _chat_prompt(self, request: ChatRequest) -> _Prompt:
        if self._vision is None:
            refuse_images(request.messages, self._blindness)
        text = prompt_text(request, self._template, self._marks)
        # many templates write the beginning mark themselves; it must not be there twice
        has_mark = bool(self._marks.bos) and text.startswith(self._marks.bos)
        tokens, looks = self._read(text, request, add_special=not has_mark)
        thoughts = thoughts_of(text, source_of(request, self._template))
        opening = THOUGHT_OPENING if thoughts is Thoughts.OPEN else ""
        return _Prompt(tokens=tokens, looks=looks, thoughts=thoughts, opening=opening)

    def _read(self, text: str, request: ChatRequest, *, add_special: bool) -> tuple[Ints, tuple[Look, ...]]:
        images = [image for message in request.messages for image in message.images]
        if not images or self._vision is None:
            return self._vocabulary.tokenize(text, add_special=add_special), ()
        return self._vision.read(text, images, add_special=add_special)

    async def _echoed(self, prompt: str | tuple[int, ...]) -> str:
        return prompt if isinstance(prompt, str) else await self.detokenize(prompt)

    # --- the start -----------------------------------------------------------------------------------------------

    async def _start(self, request: Request, prompt: _Prompt) -> GenerationStream:
        sampling, constraint, tokens = request.sampling, request.constraint, prompt.tokens
        self._check(tokens, sampling, constraint)
        limit = self._limit(tokens, request)
        submitted_seconds = self._clock.monotonic_seconds()
        law: Law | None = None
        banned: tuple[int, ...] = ()
        if sampling.ignore_eos:
            banned = self._ends or await asyncio.to_thread(self._find_ends)
        if constraint is not None:
            thoughts = prompt.thoughts if _tells_thoughts(request) else Thoughts.NONE
            grammar, banned = await asyncio.to_thread(self._grammars.of, constraint, thoughts)
            law = Law(grammar, self._pieces)
        stream = GenerationStream(lambda: self._thread.post(Cancel(stream)))
        stream.marks_thoughts = prompt.thoughts is not Thoughts.NONE
        start = Start(
            receiver=stream,
            prompt=tokens,
            limit_tokens=limit,
            scope=request.cache_scope,
            sampler=Sampler(sampling, tokens[tokens >= 0], law=law, banned=banned),
            stops=sampling.stop,
            logprobs=sampling.logprobs,
            submitted_seconds=submitted_seconds,
            may_think=stream.marks_thoughts,
            opening=prompt.opening,
            looks=prompt.looks,
        )
        stream.usage.prompt_tokens = len(tokens)
        self._thread.submit(start, stream)
        return stream

    def _find_ends(self) -> tuple[int, ...]:
        with self._vocabulary.in_use():
            self._ends = self._pieces.ends()
        return self._ends

    def _check(self, prompt: Ints, sampling: Sampling, constraint: Constraint | None) -> None:
        if sampling.ignore_eos and constraint is not None:
            raise InvalidParameter("ignore_eos never ends an answer and a constraint must be able to; leave one out")
        if not len(prompt):
            raise InvalidParameter("the prompt is empty and this model has no mark to begin with; send some text")
        if len(prompt) >= self.context_length_tokens:
            raise PromptTooLong(len(prompt), self.context_length_tokens)
        size = self._vocabulary.size
        for token in sampling.logit_bias:
            if not 0 <= token < size:
                raise InvalidParameter(f"logit_bias: token {token} is not in the vocabulary of {size} tokens")

    def _limit(self, prompt: Ints, request: Request) -> int:
        """Prompt and answer together. Raises PromptTooLong when the request's own bound leaves no room."""
        context = self.context_length_tokens
        if request.context_tokens is not None and request.context_tokens < context:
            context = request.context_tokens
            if len(prompt) >= context:
                hint = f"shorten the prompt, or allow for more; this deployment takes {self.context_length_tokens}"
                raise PromptTooLong(len(prompt), context, hint, limit=f"the request allows for {context}")
        most = request.sampling.max_tokens
        return context if most is None else min(context, len(prompt) + max(most, 1))


def _tells_thoughts(request: Request) -> bool:
    return isinstance(request, ChatRequest) and request.tells_thoughts


def _may_think(request: ChatRequest) -> bool:
    """Whether the constraint leaves room for thoughts before the answer, where the model has any."""
    constraint = request.constraint
    is_free = constraint is None or (isinstance(constraint, ToolConstraint) and not constraint.required)
    return is_free or (_tells_thoughts(request) and not isinstance(constraint, GrammarConstraint))


def _context_options(options: TextOptions) -> ContextOptions:
    return ContextOptions(
        cells_tokens=options.cache_tokens,
        cache_type=options.cache_type,
        sequences=options.slots,
        batch_tokens=max(options.batch_tokens, options.slots),
        drafted_tokens=options.draft_tokens,
        threads=options.threads,
    )


class _Grammars:
    """Compiled grammars of the last constraints. Used by worker threads."""

    def __init__(self, vocabulary: Vocabulary, pieces: Pieces) -> None:
        self._vocabulary = vocabulary
        self._pieces = pieces
        self._compiled: OrderedDict[bytes, Grammar] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, constraint: Constraint, thoughts: Thoughts) -> tuple[Grammar, tuple[int, ...]]:
        """A fresh grammar for this constraint, and the tokens to ban beside it. Raises InvalidParameter."""
        with self._vocabulary.in_use():
            banned = self._pieces.hidden()
        return self._fresh(constraint, thoughts), banned

    def _fresh(self, constraint: Constraint, thoughts: Thoughts) -> Grammar:
        key = f"{type(constraint).__name__} {thoughts.value} ".encode() + msgspec.json.encode(constraint)
        with self._lock:
            if key in self._compiled:
                self._compiled.move_to_end(key)
                return self._compiled[key].clone()
        compiled = Grammar.compile(self._vocabulary, to_gbnf(constraint, thoughts))
        with self._lock:
            self._compiled[key] = compiled
            if len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
            return compiled.clone()

    def close(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._compiled.clear()
