"""The batching loop without its thread: a test takes each step itself and reads what was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from appliance.domain.clock import Clock, SystemClock
from appliance.domain.errors import ApplianceError
from appliance.domain.inference import Delta, FinishReason, Sampling, Usage
from appliance.engines.llama.batcher import Budget
from appliance.engines.llama.prefix import PrefixStore
from appliance.engines.llama.runtime import Context, ContextOptions, Grammar, Model
from appliance.engines.llama.sampler import Law, Sampler
from appliance.engines.llama.sequence import Cancel, Start
from appliance.engines.llama.stepper import TextStepper
from appliance.engines.llama.text import Pieces
from appliance.engines.stream import Outbox

GREEDY = Sampling(temperature=0.0)


class _Loop:
    def call_soon_threadsafe(self, callback: Any, *arguments: Any) -> None:
        callback(*arguments)


class Reader:
    """Receives one generation."""

    def __init__(self) -> None:
        self.loop: Any = _Loop()
        self.deltas: list[Delta] = []
        self.usage = Usage()
        self.error: ApplianceError | None = None

    def receive(self, value: Any) -> None:
        if isinstance(value, ApplianceError):
            self.error = value
        else:
            self.deltas.append(value.delta)
            self.usage = value.usage

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def reason(self) -> FinishReason | None:
        return self.deltas[-1].finish_reason if self.deltas else None

    @property
    def ended(self) -> bool:
        return self.error is not None or self.reason is not None


class Harness:
    """A stepper over the tiny weights."""

    def __init__(
        self,
        weights: Path,
        *,
        cells: int = 1024,
        slots: int = 4,
        batch: int = 64,
        prefix_bytes: int = 2**24,
        draft_tokens: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.model = Model(weights)
        options = ContextOptions(
            cells_tokens=cells, sequences=slots, batch_tokens=batch, threads=1, drafted_tokens=draft_tokens
        )
        self.prefixes = PrefixStore(prefix_bytes, is_divisible=self.model.is_divisible)
        self.context = Context(self.model, options)
        self.outbox = Outbox()
        self.stepper = TextStepper(
            self.context,
            Pieces(self.model.vocabulary),
            slots,
            Budget(batch, 1000.0),
            self.prefixes,
            self.outbox,
            clock or SystemClock(),
            draft_tokens,
        )

    def tokens(self, text: str) -> np.ndarray[Any, np.dtype[np.int32]]:
        return self.model.vocabulary.tokenize(text)

    def start(
        self,
        prompt: str | np.ndarray[Any, np.dtype[np.int32]],
        answer_tokens: int = 8,
        *,
        scope: str = "",
        sampling: Sampling = GREEDY,
        gbnf: str | None = None,
    ) -> Reader:
        reader = Reader()
        tokens = self.tokens(prompt) if isinstance(prompt, str) else prompt
        law = Law(Grammar.compile(self.model.vocabulary, gbnf), Pieces(self.model.vocabulary)) if gbnf else None
        self.stepper.take(
            Start(
                receiver=reader,
                prompt=tokens,
                limit_tokens=len(tokens) + answer_tokens,
                scope=scope,
                sampler=Sampler(sampling, tokens, law=law),
                stops=sampling.stop,
                logprobs=sampling.logprobs,
                submitted_seconds=0.0,
            )
        )
        return reader

    def cancel(self, reader: Reader) -> None:
        self.stepper.take(Cancel(reader))
        self.outbox.flush()

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.stepper.step()
            self.outbox.flush()

    def finish(self) -> None:
        while self.stepper.step():
            self.outbox.flush()
        self.outbox.flush()


NEAR_TIE = 0.05
"""Two logits closer than this may change places with the order of additions, and every later token with them."""


class Reference(Struct):
    """What a prompt's greedy continuation must be, as far as rounding cannot change it."""

    certain: str
    complete: bool

    def agrees(self, text: str) -> bool:
        plain = text.replace("\ufffd", "")
        return plain == self.certain if self.complete else plain.startswith(self.certain)


def reference(weights: Path, prompt: str, answer_tokens: int) -> Reference:
    """Greedy continuation computed the plain way: one sequence, one token at a time, no reuse."""
    model = Model(weights)
    context = Context(model, ContextOptions(cells_tokens=1024, sequences=1, batch_tokens=64, threads=1))
    owed, said, position, clear = model.vocabulary.tokenize(prompt).tolist(), b"", 0, True
    for _ in range(answer_tokens):
        for token in owed:
            context.batch.clear()
            context.batch.add(0, position, np.array([token], dtype=np.int32), want_last=True)
            assert context.decode()
            position += 1
        second, first = np.argsort(context.logits(1)[0])[-2:]
        row = context.logits(1)[0]
        clear = bool(row[first] - row[second] > NEAR_TIE)
        if not clear:
            break
        said += Pieces(model.vocabulary).shown(int(first))
        owed = [int(first)]
    context.close()
    model.close()
    return Reference(said.decode("utf-8", "ignore"), clear)
