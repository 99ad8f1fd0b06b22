"""The batching loop: every running generation advances together, one ``llama_decode`` per step.

Runs on the engine's thread (``appliance.engines.thread``) and owns everything there: sequences, cells, samplers. Policy
is elsewhere: ``batcher`` says who shares a step, ``prefix`` what can be reused, ``sampler`` which token comes next.

A step: admit those that wait, share prefixes, plan, compute, sample, tell. Cancelling happens between steps, so that a
slot is free within one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Many
from typing import TypeAlias

import msgspec

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, Internal
from appliance.domain.inference import Delta, FinishReason, Logprobs, TokenLogprob
from appliance.engines.base import EngineStats
from appliance.engines.llama.batcher import Budget, Debt, Passes, Plan, Share, may_admit, plan_step
from appliance.engines.llama.choosing import Chooser
from appliance.engines.llama.prefix import CellLedger, Kept, PrefixStore
from appliance.engines.llama.runtime import Context, Floats
from appliance.engines.llama.sampler import log_probabilities, most_likely
from appliance.engines.llama.sequence import Cancel, Look, Sequence, Start
from appliance.engines.llama.text import Pieces
from appliance.engines.stream import News, Outbox

Command: TypeAlias = Start | Cancel

LEAST_KEPT_TOKENS = 32
"""A shorter finished sequence is not worth a place among the kept prefixes."""


class TextStepper:
    """Continuous batching over one context."""

    def __init__(
        self,
        context: Context,
        pieces: Pieces,
        slots: int,
        budget: Budget,
        prefixes: PrefixStore,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._context = context
        self._pieces = pieces
        self._slots = slots
        self._budget = budget
        self._passes = Passes()
        self._outbox = outbox
        self._clock = clock
        self._chooser = Chooser(context.model.vocabulary.size, context.options.threads)
        self._ledger = CellLedger(context.cells_tokens)
        self._prefixes = prefixes
        self._free_ids = deque(range(context.options.sequences))
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._arrivals = 0
        self.stats = EngineStats(cache_total_tokens=self._ledger.total_cells)
        self.steps = 0
        self.preemptions = 0

    # --- commands ------------------------------------------------------------------------------------------------

    def take(self, command: Command) -> None:
        """Accept a new generation or cancel one."""
        if isinstance(command, Start):
            self._arrivals += 1
            self._waiting.append(Sequence(command, self._arrivals))
        else:
            self._cancel(command)
        self._publish()

    def _cancel(self, command: Cancel) -> None:
        for sequence in [*self._running, *self._waiting]:
            if sequence.receiver is command.receiver:
                self._finish(sequence, FinishReason.CANCELLED)

    def abandon(self, error: ApplianceError | None) -> None:
        """End every generation: cancelled, or with the error."""
        for sequence in [*self._running, *self._waiting]:
            if error is None:
                self._tell(sequence, Delta(finish_reason=FinishReason.CANCELLED))
            else:
                self._outbox.put(sequence.receiver, error)
            sequence.sampler.close()
        self._running.clear()
        self._waiting.clear()
        self._publish()

    def close(self) -> None:
        """Free the context, the weights and what is kept beside them."""
        self._prefixes.clear()
        self._chooser.close()
        self._context.close()
        self._context.model.close()

    # --- one step ------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Advance every generation by one step. False when there is none."""
        self._admit()
        self._place()
        self._look()
        plan = self._plan()
        if plan.shares:
            self._advance(plan)
        else:
            self._outbox.flush()
        self.steps += 1
        self._publish()
        return bool(self._running or self._waiting)

    def _advance(self, plan: Plan) -> None:
        apart = self._passes.apart(plan)
        computed_tokens, seconds = 0, 0.0
        for part in plan.parts if apart else (plan.shares,):
            if computed_tokens and not self._may_go_on(computed_tokens, part):
                break
            tokens, took = self._pass(part)
            computed_tokens += tokens
            seconds += took
        self._budget.learn(computed_tokens, seconds)
        if computed_tokens == plan.tokens:
            self._passes.learn(plan, apart, seconds)

    def _may_go_on(self, computed_tokens: int, part: Many[Share]) -> bool:
        """Whether the step may grow by this part, for those too who have had their first token in this very step."""
        streaming = sum(sequence.is_streaming for sequence in self._running)
        return computed_tokens + sum(share.tokens for share in part) <= self._budget.tokens(streaming)

    def _pass(self, shares: Many[Share]) -> tuple[int, float]:
        """Compute a part of a plan and pass on what it says; tokens computed and the seconds that this took."""
        running = {sequence.arrival for sequence in self._running}  # the pass before may have preempted some
        started = self._clock.monotonic_seconds()
        computed = self._compute([share for share in shares if share.key in running])
        seconds = self._clock.monotonic_seconds() - started
        self._note_computed(computed)
        return sum(share.tokens for share in computed), seconds

    def _note_computed(self, computed: Many[Share]) -> None:
        by_arrival = {sequence.arrival: sequence for sequence in self._running}
        ready: list[Sequence] = []
        for share in computed:
            sequence = by_arrival[share.key]
            assert sequence.id is not None, "a sequence without cells was computed"
            self._ledger.extend(sequence.id, share.tokens)
            sequence.computed += share.tokens
            if sequence.owed == 0:
                ready.append(sequence)
        if ready:
            self._sample_all(ready)

    # --- who runs ------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give slots to those that wait, in arrival order."""
        while self._waiting and len(self._running) < self._slots:
            sequence = self._waiting[0]
            match = self._prefixes.find(sequence.scope, sequence.known, self._sources())
            needed = sequence.length - match.tokens_of_running
            if not may_admit(needed, len(self._running), self._ledger.free_cells):
                return
            self._waiting.popleft()
            sequence.id = self._free_ids.popleft()
            if sequence.admitted_seconds is None:
                sequence.admitted_seconds = self._clock.monotonic_seconds()
                sequence.usage.queue_milliseconds = (sequence.admitted_seconds - sequence.submitted_seconds) * 1000
            self._running.append(sequence)
            self._running.sort(key=lambda running: running.arrival)

    def _place(self) -> None:
        """Let admitted sequences share a prefix, or wait for the one who computes it."""
        for sequence in self._running:
            if not sequence.is_placed and not self._still_awaits(sequence):
                self._share_prefix(sequence)

    def _still_awaits(self, sequence: Sequence) -> bool:
        source = sequence.awaited
        return source is not None and source.id is not None and source.computed < sequence.awaited_tokens

    def _share_prefix(self, sequence: Sequence) -> None:
        sequence.is_placed = True
        older = [other for other in self._sources() if other.arrival < sequence.arrival]
        match = self._prefixes.find(sequence.scope, sequence.known, older)
        if match.awaited is not None:
            assert isinstance(match.awaited, Sequence), "only running sequences are awaited"
            sequence.awaited, sequence.awaited_tokens = match.awaited, match.awaited_tokens
            sequence.is_placed = False
        elif match.kept is not None:
            self._restore(match.kept, sequence, sequence.whole(match.tokens))
        elif match.running is not None:
            assert isinstance(match.running, Sequence), "only running sequences are shared"
            self._share(match.running, sequence, sequence.whole(match.tokens))

    def _sources(self) -> list[Sequence]:
        """Those whose cells others can share. A recurrent state is one sequence's own."""
        return [] if self._context.model.is_recurrent else self._running

    def _share(self, source: Sequence, sequence: Sequence, tokens: int) -> None:
        assert source.id is not None, "a sequence without cells cannot be shared"
        assert sequence.id is not None, "a sequence without a slot cannot share"
        if self._is_whole(source.id):
            self._context.share(source.id, sequence.id, tokens)
            self._ledger.share(source.id, sequence.id, tokens)
            self._note_cached(sequence, tokens)

    def _restore(self, kept: Kept, sequence: Sequence, tokens: int) -> None:
        """Fill cells with a kept prefix, as far as it is wanted. For lack of room it is computed after all."""
        assert sequence.id is not None, "a sequence without a slot has no cells"
        if len(kept.tokens) > self._ledger.free_cells or not self._context.restore(kept.state, sequence.id):
            return
        if tokens < len(kept.tokens):
            self._context.forget(sequence.id, tokens)
        self._ledger.extend(sequence.id, tokens)
        self._prefixes.touch(kept)
        self._note_cached(sequence, tokens)

    def _note_cached(self, sequence: Sequence, tokens: int) -> None:
        sequence.computed = tokens
        if not sequence.was_preempted:  # else some of it may be its own work
            sequence.usage.cached_tokens = tokens

    def _is_whole(self, number: int) -> bool:
        """Windowed caches forget their beginning, and others cannot share the rest."""
        return self._context.first_position(number) == 0

    def _plan(self) -> Plan:
        """Plan with the cells at hand; preempt until the plan holds."""
        while True:
            placed = [sequence for sequence in self._running if sequence.is_placed]
            debts = [
                Debt(s.arrival, owed, self._ledger.freed_without(s.id))
                for s in placed
                if s.id is not None and (owed := s.owed_before_look if s.looks else s.owed)
            ]
            budget = self._budget.tokens(sum(sequence.is_streaming for sequence in placed))
            plan = plan_step(debts, budget, self._ledger.free_cells)
            if not plan.preempted:
                return plan
            for arrival in plan.preempted:
                self._preempt(next(sequence for sequence in placed if sequence.arrival == arrival))

    def _release(self, number: int) -> None:
        self._context.forget(number)
        self._ledger.release(number)
        self._free_ids.append(number)

    def _preempt(self, sequence: Sequence) -> None:
        """Take the cells back; when there is room it goes on from what is kept of it, or starts over."""
        assert sequence.id is not None, "only running sequences are preempted"
        self._running.remove(sequence)
        self._keep(sequence, sequence.id)
        self._release(sequence.id)
        sequence.restart()
        self._waiting.appendleft(sequence)
        self.preemptions += 1

    # --- images --------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Compute the next image of the oldest that has come to one: one in a step, for streams wait meanwhile."""
        for sequence in self._running:
            look = sequence.next_look if sequence.looks and sequence.is_placed else None
            if look is not None:
                self._compute_look(sequence, look)
                return

    def _compute_look(self, sequence: Sequence, look: Look) -> None:
        assert sequence.id is not None, "a sequence without cells cannot look"
        while look.tokens > self._ledger.free_cells:
            if not self._made_room_for(sequence):
                return
        self._outbox.flush()
        if not look.compute(self._context, sequence.id):
            self._made_room_for(sequence)
            return
        self._ledger.extend(sequence.id, look.tokens)
        sequence.computed += look.tokens

    def _made_room_for(self, sequence: Sequence) -> bool:
        """Preempt the youngest; False when that is the one who asks."""
        if len(self._running) == 1:
            raise Internal("llama.cpp finds no room in its cache for a single image")
        youngest = self._running[-1]
        self._preempt(youngest)
        return youngest is not sequence

    # --- computing -----------------------------------------------------------------------------------------------

    def _compute(self, shares: list[Share]) -> list[Share]:
        """Compute the shares, fewer if llama.cpp finds no room for all; return what was computed."""
        while shares:
            self._fill(shares)
            self._outbox.flush()  # now: the loop passes the news on while llama.cpp computes, not while we sample
            if self._context.decode():
                return shares
            shares = self._smaller(shares)
        return []

    def _fill(self, shares: Many[Share]) -> None:
        by_arrival = {sequence.arrival: sequence for sequence in self._running}
        batch = self._context.batch
        batch.clear()
        for share in shares:
            sequence = by_arrival[share.key]
            assert sequence.id is not None, "a sequence without cells was planned"
            complete = share.tokens == sequence.owed
            batch.add(sequence.id, sequence.computed, sequence.next_tokens(share.tokens), want_last=complete)

    def _smaller(self, shares: list[Share]) -> list[Share]:
        """The cache is fuller than the ledger says (windows, recurrent states): halve, then preempt."""
        if any(share.tokens > 1 for share in shares):
            return [Share(share.key, max(1, share.tokens // 2)) for share in shares]
        asking = {share.key for share in shares}
        in_the_way = [s for s in self._running if s.arrival in asking or (s.id is not None and s.computed)]
        if len(in_the_way) == 1:
            raise Internal("llama.cpp finds no room in its cache for a single token")
        youngest = in_the_way[-1]
        self._preempt(youngest)
        return [share for share in shares if share.key != youngest.arrival]

    # --- results -------------------------------------------------------------------------------------------------

    def _sample_all(self, ready: Many[Sequence]) -> None:
        """Sample for every sequence with a row of logits; rows come in the order of the batch."""
        logits = self._context.logits(len(ready))
        # before choosing, which changes the rows
        log_probs = [
            None if sequence.logprobs is None else log_probabilities(row)
            for row, sequence in zip(logits, ready, strict=True)
        ]
        choices = self._chooser.choose([sequence.sampler for sequence in ready], list(logits))
        for sequence, choice, row_log_probs in zip(ready, choices, log_probs, strict=True):
            if isinstance(choice, ApplianceError):
                self._fail(sequence, choice)
            else:
                self._go_on(sequence, choice, row_log_probs)

    def _go_on(self, sequence: Sequence, token: int, log_probs: Floats | None) -> None:
        if sequence.first_token_seconds is None:
            self._note_first_token(sequence)
        sequence.append(token)
        sequence.usage.response_tokens += 1
        if sequence.thoughts is not None:
            sequence.usage.reasoning_tokens += sequence.thoughts.tokens_with(self._pieces.shown(token))
        logprobs: tuple[Logprobs, ...] = ()
        if log_probs is not None and sequence.logprobs is not None:
            logprobs = (self._logprobs(token, log_probs, sequence.logprobs),)
        self._say(sequence, token, logprobs)

    def _note_first_token(self, sequence: Sequence) -> None:
        now = sequence.first_token_seconds = self._clock.monotonic_seconds()
        sequence.usage.prefill_milliseconds = (now - (sequence.admitted_seconds or now)) * 1000

    def _say(self, sequence: Sequence, token: int, logprobs: tuple[Logprobs, ...]) -> None:
        ended = self._pieces.is_end(token)
        text = "" if ended else sequence.text.feed(self._pieces.shown(token))
        if ended or sequence.text.stopped:
            self._finish(sequence, FinishReason.STOP, text, () if ended else logprobs)
        elif sequence.is_full:
            self._finish(sequence, FinishReason.LENGTH, text, logprobs)
        elif text or logprobs:
            self._tell(sequence, Delta(text=text, logprobs=logprobs))

    def _logprobs(self, token: int, log_probs: Floats, count: int) -> Logprobs:
        top = most_likely(log_probs, count)
        return Logprobs(self._logprob(token, log_probs), tuple(self._logprob(other, log_probs) for other in top))

    def _logprob(self, token: int, log_probs: Floats) -> TokenLogprob:
        raw = self._pieces.raw(token)
        return TokenLogprob(raw.decode("utf-8", "replace"), float(log_probs[token]), raw)

    def _tell(self, sequence: Sequence, delta: Delta) -> None:
        usage = sequence.usage
        if sequence.first_token_seconds is not None:
            usage.decode_milliseconds = (self._clock.monotonic_seconds() - sequence.first_token_seconds) * 1000
        self._outbox.put(sequence.receiver, News(delta, msgspec.structs.replace(usage)))

    def _finish(
        self, sequence: Sequence, reason: FinishReason, text: str = "", logprobs: tuple[Logprobs, ...] = ()
    ) -> None:
        if not sequence.text.stopped:
            text += sequence.text.finish()
        stop = sequence.text.stop if reason is FinishReason.STOP else None
        self._tell(sequence, Delta(text=text, logprobs=logprobs, finish_reason=reason, stop_text=stop))
        self._leave(sequence)

    def _fail(self, sequence: Sequence, error: ApplianceError) -> None:
        self._outbox.put(sequence.receiver, error)
        self._leave(sequence)

    def _leave(self, sequence: Sequence) -> None:
        """Give up the slot; keep what was computed as a prefix for others."""
        sequence.sampler.close()
        if sequence.id is None:
            self._waiting.remove(sequence)
            return
        self._running.remove(sequence)
        self._keep(sequence, sequence.id)
        self._release(sequence.id)
        sequence.id = None

    def _keep(self, sequence: Sequence, number: int) -> None:
        tokens = sequence.known[: sequence.computed]
        if len(tokens) < LEAST_KEPT_TOKENS or self._prefixes.has(sequence.scope, tokens):
            return
        if self._prefixes.has_room_for(self._context.state_bytes(number)):
            state = self._context.state(number)
            self._prefixes.keep(Kept(sequence.scope, tokens.copy(), state, self._context.model.is_divisible))

    def _publish(self) -> None:
        self.stats = EngineStats(
            active=len(self._running),
            waiting=len(self._waiting),
            cache_used_tokens=self._ledger.used_cells,
            cache_total_tokens=self._ledger.total_cells,
        )
