"""What must hold in the batching loop under any sequence of requests, leavers, steps and full caches (Hypothesis).

The real stepper, batcher, prefix store and sampler over a double of llama.cpp (``fake_llama``) and a fake clock. The
double's next token follows from all that a sequence holds, so that a wrong position or a wrong share is a wrong text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.domain.inference import FinishReason
from appliance.engines.llama.batcher import TILE_TOKENS, Budget
from appliance.engines.llama.prefix import PrefixStore
from appliance.engines.llama.sampler import Sampler
from appliance.engines.llama.sequence import Cancel, Sequence, Start
from appliance.engines.llama.stepper import TextStepper
from appliance.engines.llama.text import Assembler
from appliance.engines.stream import Outbox
from tests.engines.llama.by_hand import GREEDY, Reader
from tests.engines.llama.fake_llama import PIECES, FakeContext, following
from tests.support.fake_engine import FakeClock

LETTERS = range(1, 27)
FAMILIES = [[LETTERS[(seed * step + step // 7) % 26] for step in range(100)] for seed in (1, 3)]
"""Beginnings that prompts have in common."""
STEP_SECONDS = 0.02
MOST_STILL_STEPS = 12
"""The published bound: the oldest of all generations gets on within so many steps."""


class RecordingBudget(Budget):
    """The real budget; remembers what it last allowed."""

    allowed_tokens = 0

    def tokens(self, streaming: int) -> int:
        self.allowed_tokens = super().tokens(streaming)
        return self.allowed_tokens


class Asked:
    """One request and what it must be answered, by a plain loop over its own tokens."""

    def __init__(self, prompt: list[int], limit: int, scope: str, stops: tuple[str, ...]) -> None:
        self.prompt, self.limit, self.scope, self.stops = prompt, limit, scope, stops
        self.reader = Reader()
        self.cancelled = False
        self.tokens, self.text, self.reason = list(prompt), "", FinishReason.LENGTH
        assembler = Assembler(stops)
        while len(self.tokens) < limit and self.reason is not FinishReason.STOP:
            self.tokens.append(following(self.tokens))
            ended = PIECES.is_end(self.tokens[-1])
            self.text += "" if ended else assembler.feed(PIECES.shown(self.tokens[-1]))
            if ended or assembler.stopped:
                self.reason = FinishReason.STOP
        if not assembler.stopped:
            self.text += assembler.finish()


class StepperMachine(RuleBasedStateMachine):
    """Requests come and leave; steps are taken; llama.cpp finds no room now and then."""

    @initialize(
        slots=st.integers(1, 4),
        cells=st.integers(64, 260),
        batch=st.sampled_from([4, 16, 64]),
        kept=st.sampled_from([0, 100, 1000]),
        recurrent=st.sampled_from([False, False, False, True]),
        forgetful=st.sampled_from([False, False, False, True]),
        drafted=st.sampled_from([0, 8, 16]),
        bound_by_memory=st.booleans(),
    )
    def begin(
        self,
        slots: int,
        cells: int,
        batch: int,
        kept: int,
        recurrent: bool,
        forgetful: bool,
        drafted: int,
        bound_by_memory: bool,
    ) -> None:
        """An engine of some size, with room for so many kept tokens, that guesses so many."""
        self.clock = FakeClock()
        self.sequences = slots
        self.context = FakeContext(
            self.clock,
            cells=cells,
            sequences=self.sequences,
            batch=batch,
            recurrent=recurrent,
            forgetful=forgetful,
            drafted=drafted,
            bound_by_memory=bound_by_memory,
        )
        self.budget = RecordingBudget(batch, STEP_SECONDS)
        self.outbox = Outbox()
        context: Any = self.context
        self.prefixes = PrefixStore(8 * kept, is_divisible=self.context.model.is_divisible)
        self.stepper = TextStepper(context, PIECES, slots, self.budget, self.prefixes, self.outbox, self.clock, drafted)
        self.asked: list[Asked] = []
        self.still_steps = 0

    # --- what happens --------------------------------------------------------------------------------------------

    @rule(
        family=st.sampled_from(FAMILIES),
        common=st.sampled_from([0, 20, 33, 50, 70, 100]),
        tail=st.lists(st.sampled_from(LETTERS), min_size=1, max_size=20),
        answer=st.integers(1, 40),
        scope=st.sampled_from(["a", "b"]),
        stops=st.sampled_from([(), (), ("e",), ("ab", "q"), ("é",)]),
    )
    def submit(
        self, family: list[int], common: int, tail: list[int], answer: int, scope: str, stops: tuple[str, ...]
    ) -> None:
        """Somebody asks; prompt and answer together fit the cache."""
        self.ask(family[:common] + tail, answer, scope, stops)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), tail=st.lists(st.sampled_from(LETTERS), min_size=1, max_size=5), answer=st.integers(1, 10))
    def next_turn(self, data: Any, tail: list[int], answer: int) -> None:
        """A prompt that goes on where an earlier answer ended, or will have ended."""
        earlier = data.draw(st.sampled_from(self.asked))
        self.ask(earlier.tokens + tail, answer, earlier.scope, ())

    def ask(self, prompt: list[int], answer: int, scope: str, stops: tuple[str, ...]) -> None:
        prompt = prompt[: self.context.cells_tokens - 1]
        asked = Asked(prompt, min(self.context.cells_tokens, len(prompt) + answer), scope, stops)
        self.asked.append(asked)
        tokens = np.array(prompt, dtype=np.int32)
        self.stepper.take(
            Start(
                receiver=asked.reader,
                prompt=tokens,
                limit_tokens=asked.limit,
                scope=scope,
                sampler=Sampler(GREEDY, tokens),
                stops=stops,
                logprobs=None,
                submitted_seconds=self.clock.seconds,
            )
        )

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        """A reader leaves, whatever its request is doing or has done: at once it holds no slot and no place in line."""
        asked = data.draw(st.sampled_from(self.asked))
        asked.cancelled = asked.cancelled or not asked.reader.ended
        self.stepper.take(Cancel(asked.reader))
        self.outbox.flush()
        assert asked.reader.ended
        if asked.cancelled:
            assert asked.reader.reason is FinishReason.CANCELLED

    @rule(times=st.integers(1, 3))
    def find_no_room(self, times: int) -> None:
        """The cache is fuller than the ledger says: the next decodes of more than one token are refused."""
        self.context.refusals += times

    @rule(times=st.integers(1, 8))
    def step(self, times: int) -> None:
        """Some steps."""
        for _ in range(times):
            self.one_step()

    @rule()
    def finish(self) -> None:
        """Nobody new comes until all have their answer."""
        for _ in range(sum(len(asked.tokens) for asked in self.asked) * 2 + 100):
            if not self.live():
                return
            self.one_step()
        raise AssertionError(f"{len(self.live())} requests are never answered")

    def one_step(self) -> None:
        streaming = [s for s in self.stepper._running if s.is_placed and s.is_streaming]
        lengths = {s.arrival: s.length for s in streaming}
        oldest = self.oldest()
        before = progress(oldest)
        preemptions, refused = self.stepper.preemptions, self.context.refused
        self.context.largest_tokens = 0
        busy = self.stepper.step()
        self.outbox.flush()
        self.cells_are_as_booked()
        assert busy == bool(self.live())
        assert self.context.largest_tokens < self.budget.allowed_tokens + TILE_TOKENS
        if oldest is not None:
            assert self.context.largest_tokens > 0, "there is work, and nothing was computed"
            self.still_steps = 0 if progress(oldest) > before else self.still_steps + 1
            assert self.still_steps <= MOST_STILL_STEPS
        if (self.stepper.preemptions, self.context.refused) == (preemptions, refused):
            for sequence in streaming:
                assert sequence.length > lengths[sequence.arrival], "a stream stood still"

    # --- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def answers_are_those_of_a_lone_run(self) -> None:
        """Chunks, shares, preemptions and refusals never change an answer, its end or its count."""
        for asked in self.asked:
            reader = asked.reader
            assert reader.error is None
            if asked.cancelled:
                assert asked.text.startswith(reader.text)
            elif reader.ended:
                assert (reader.text, reader.reason) == (asked.text, asked.reason)
                assert reader.usage.prompt_tokens == len(asked.prompt)
                assert reader.usage.response_tokens == len(asked.tokens) - len(asked.prompt)

    @invariant()
    def nobody_is_lost(self) -> None:
        """Who was not answered yet runs or waits, and nobody else does."""
        assert self.stepper.stats.active + self.stepper.stats.waiting == len(self.live())

    @invariant()
    def cells_are_as_booked(self) -> None:
        """The ledger counts exactly the cells that are in the cache."""
        assert self.stepper.stats.cache_used_tokens == len(self.context.cells) <= self.context.cells_tokens

    @invariant()
    def no_number_is_lost(self) -> None:
        """Each of llama.cpp's sequence numbers is free or runs, and free ones hold no cell."""
        free = list(self.stepper._free_ids)
        running = [s.id for s in self.stepper._running]
        assert sorted([*free, *running]) == list(range(self.sequences))
        assert not any(self.context.held_by(number) for number in free)

    @invariant()
    def kept_prefixes_have_their_bound(self) -> None:
        """What is kept in RAM is counted, and never more than there is room for."""
        kept = list(self.prefixes._kept.values())
        assert sum(entry.state.nbytes for entry in kept) == self.prefixes.used_bytes <= self.prefixes._most_bytes
        assert all(entry.state.nbytes == 8 * len(entry.tokens) for entry in kept)

    @invariant()
    def prefixes_stay_inside_their_scope(self) -> None:
        """Nobody is spared more of a prompt than somebody of the same scope has had computed."""
        for asked in self.asked:
            others = [other for other in self.asked if other is not asked and other.scope == asked.scope]
            most = max((common(asked.prompt[:-1], other.tokens) for other in others), default=0)
            assert asked.reader.usage.cached_tokens <= most

    # --- helpers -------------------------------------------------------------------------------------------------

    def live(self) -> list[Asked]:
        return [asked for asked in self.asked if not asked.reader.ended]

    def oldest(self) -> Sequence | None:
        everybody = [*self.stepper._running, *self.stepper._waiting]
        return min(everybody, key=lambda sequence: sequence.arrival, default=None)

    def teardown(self) -> None:
        self.finish()
        self.no_number_is_lost()
        self.answers_are_those_of_a_lone_run()
        self.stepper.close()


def progress(sequence: Sequence | None) -> tuple[int, int]:
    return (0, 0) if sequence is None else (sequence.length, sequence.computed)


def common(one: list[int], other: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


StepperMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestStepper = StepperMachine.TestCase
