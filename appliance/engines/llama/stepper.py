"""The batching loop: every running generation advances together, one ``llama_decode`` per step.

Runs on the engine's thread (``appliance.engines.thread``) and owns everything there: sequences, cells, samplers. Policy
is elsewhere: ``batcher`` says who shares a step, ``prefix`` what can be reused, ``draft`` what may be guessed,
``sampler`` which token comes next, ``telling`` what readers hear of it.

A step: admit those that wait, share prefixes, plan, compute, sample, tell. Cancelling happens between steps, so that a
slot is free within one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Many
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, Internal
from appliance.domain.inference import Delta, FinishReason
from appliance.engines.base import EngineStats
from appliance.engines.llama.batcher import Budget, Debt, Plan, Share, may_admit, plan_step
from appliance.engines.llama.cells import CellLedger
from appliance.engines.llama.choosing import Chooser
from appliance.engines.llama.draft import Prospect, StepTimes, best_length, may_pay
from appliance.engines.llama.passes import Passes, parts
from appliance.engines.llama.prefix import Kept, Match, PrefixStore
from appliance.engines.llama.runtime import Context, Floats
from appliance.engines.llama.sampler import log_probabilities
from appliance.engines.llama.sequence import Cancel, Look, Sequence, Start
from appliance.engines.llama.telling import Teller
from appliance.engines.llama.text import Pieces
from appliance.engines.stream import Outbox

Command: TypeAlias = Start | Cancel

LEAST_KEPT_TOKENS = 32
"""A shorter finished sequence is not worth a place among the kept prefixes."""


class Ready(Struct, frozen=True):
    """A sequence with results: rows from ``row`` on, one for its own last token and one for each drafted one."""

    sequence: Sequence
    row: int
    drafted: int


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
        draft_tokens: int = 0,
    ) -> None:
        self._context = context
        self._teller = Teller(pieces, outbox, clock)
        self._slots = slots
        self._budget = budget
        self._passes = Passes()
        self._draft_tokens = draft_tokens if context.model.is_divisible else 0
        self._step_times = StepTimes()
        self._outbox = outbox
        self._clock = clock
        self._chooser = Chooser(context.model.vocabulary.size, context.options.threads)
        self._ledger = CellLedger(context.cells_tokens)
        self._prefixes = prefixes
        self._free_ids = deque(range(context.options.sequences))
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._ended: list[Sequence] = []
        self._arrivals = 0
        self.stats = EngineStats(cache_total_tokens=self._ledger.total_cells)
        self.steps = 0
        self.preemptions = 0
        self.drafted_tokens = 0
        self.accepted_tokens = 0

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
        self._clear_away()

    def abandon(self, error: ApplianceError | None) -> None:
        """End every generation: cancelled, or with the error."""
        for sequence in [*self._running, *self._waiting]:
            if error is None:
                self._teller.tell(sequence, Delta(finish_reason=FinishReason.CANCELLED))
            else:
                self._teller.tell_error(sequence, error)
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
        plan = self._with_drafts(self._plan())
        if plan.shares:
            self._advance(plan)
        else:
            self._outbox.flush()
        self.steps += 1
        self._publish()
        return bool(self._running or self._waiting)

    def _advance(self, plan: Plan) -> None:
        way = self._passes.way(plan)
        is_for_streams = any(sequence.is_streaming for sequence in self._running)
        computed_tokens, seconds = 0, 0.0
        for part in parts(plan, way):
            if computed_tokens and not is_for_streams and not self._may_go_on(computed_tokens, part):
                break
            tokens, took = self._pass(part)
            computed_tokens += tokens
            seconds += took
        self._budget.learn(computed_tokens, seconds)
        if computed_tokens == plan.tokens:
            self._passes.learn(plan, way, seconds)
            if all(share.known_tokens == 1 for share in plan.shares):
                self._step_times.learn(plan.tokens, seconds)

    def _may_go_on(self, computed_tokens: int, part: Many[Share]) -> bool:
        """Whether a step planned without streams may grow by this part, for those who stream since it began."""
        streaming = sum(sequence.is_streaming for sequence in self._running)
        return not streaming or computed_tokens + sum(share.tokens for share in part) <= self._budget.tokens(streaming)

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
        ready: list[Ready] = []
        row = 0
        for share in computed:
            sequence = by_arrival[share.key]
            self._advance_by(sequence, share.known_tokens)
            if sequence.owed == 0:
                ready.append(Ready(sequence, row, share.drafted))
                row += 1 + share.drafted
        if ready:
            self._sample_all(ready)
            if any(each.sequence.usage.response_tokens == 1 for each in ready):
                self._outbox.flush()  # a first token does not wait for the next step to be planned
            self._clear_away()

    def _advance_by(self, sequence: Sequence, tokens: int) -> None:
        """So many more of its known tokens are in cells."""
        assert sequence.id is not None, "a sequence without cells was computed"
        self._ledger.extend(sequence.id, tokens)
        sequence.computed += tokens

    # --- who runs ------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give slots to those that wait, in arrival order."""
        while self._waiting and len(self._running) < self._slots:
            sequence = self._waiting[0]
            match = self._prefixes.find(sequence.scope, sequence.known, self._sources())
            needed = sequence.length - match.tokens_without_cells
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
        elif match.tokens:
            self._reuse(match, sequence)

    def _sources(self) -> list[Sequence]:
        """Those whose cells others can share. A recurrent state is one sequence's own."""
        return [] if self._context.model.is_recurrent else self._running

    def _reuse(self, match: Match, sequence: Sequence) -> None:
        """Share what a running sequence has in cells; fill cells with what else is kept."""
        tokens, reached = sequence.whole(match.tokens), 0
        if isinstance(match.running, Sequence):
            reached = self._share(match.running, sequence, min(tokens, match.tokens_of_running))
        if match.kept is not None:
            reached = self._restore(match.kept, sequence, reached, tokens)
        if reached:
            self._note_cached(sequence, reached)

    def _share(self, source: Sequence, sequence: Sequence, tokens: int) -> int:
        assert source.id is not None, "a sequence without cells cannot be shared"
        assert sequence.id is not None, "a sequence without a slot cannot share"
        if not self._is_whole(source.id):
            return 0
        self._context.share(source.id, sequence.id, tokens)
        self._ledger.share(source.id, sequence.id, tokens)
        return tokens

    def _restore(self, kept: Kept, sequence: Sequence, reached: int, tokens: int) -> int:
        """Go on with what is kept, up to ``tokens``; how far it went. For lack of room the rest is computed after all.

        Of windows and recurrent states, which go to an empty sequence whole, ``tokens`` is all there is.
        """
        assert sequence.id is not None, "a sequence without a slot has no cells"
        for piece in kept.pieces(tokens):
            if piece.stop <= reached:
                continue
            has_room = piece.cells <= self._ledger.free_cells
            if not has_room or not self._context.restore(piece.state, sequence.id, reached, piece.stop):
                return reached
            self._ledger.extend(sequence.id, piece.stop - reached)
            reached = piece.stop
        self._prefixes.touch(kept)
        return reached

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
            plan = plan_step(debts, budget, self._ledger.free_cells, self._budget.most_tokens)
            if not plan.preempted:
                return plan
            for arrival in plan.preempted:
                self._preempt(next(sequence for sequence in placed if sequence.arrival == arrival))

    def _with_drafts(self, plan: Plan) -> Plan:
        """Guess on for streams that have a step to themselves, if that is worth its time."""
        is_streaming = bool(plan.shares) and all(share.tokens == 1 for share in plan.shares)
        if not self._draft_tokens or not is_streaming:
            return plan
        spare = min(self._context.results, self._ledger.free_cells) - len(plan.shares)
        if not may_pay(len(plan.shares), self._step_times, spare):
            return plan
        by_arrival = {sequence.arrival: sequence for sequence in self._running}
        sequences = [by_arrival[share.key] for share in plan.shares]
        for sequence in sequences:
            room = sequence.limit_tokens - sequence.length - 1 if sequence.owed == 1 else 0
            sequence.guesser.look(sequence.known, min(self._draft_tokens, room))
        prospects = [Prospect(len(each.guesser.guess), each.guesser.confidence) for each in sequences]
        length = best_length(prospects, self._step_times, spare)
        if not length:
            return plan
        drafts = [prospect.drafted(length) for prospect in prospects]
        return Plan(tuple(Share(share.key, 1 + n, n) for share, n in zip(plan.shares, drafts, strict=True)))

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
            tokens, complete = sequence.next_tokens(share.known_tokens), share.known_tokens == sequence.owed
            if share.drafted:
                tokens = np.concatenate([tokens, sequence.guesser.guess[: share.drafted]])
            batch.add(
                sequence.id, sequence.computed, tokens, want_last=complete, want_all=complete and bool(share.drafted)
            )

    def _smaller(self, shares: list[Share]) -> list[Share]:
        """The cache is fuller than the ledger says (windows, recurrent states): guess nothing, halve, then preempt."""
        if any(share.drafted for share in shares):
            return [Share(share.key, share.known_tokens) for share in shares]
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

    def _sample_all(self, ready: Many[Ready]) -> None:
        """Sample for every sequence with results; rows come in the order of the batch. Guesses as far as they hold."""
        logits = self._context.logits(ready[-1].row + ready[-1].drafted + 1)
        asking, place = list(ready), 0
        while asking:
            self._sample([each.sequence for each in asking], _rows(logits, [each.row + place for each in asking]))
            asking = [each for each in asking if self._guessed_right(each, place)]
            place += 1
        for each in ready:
            self._drop_wrong(each)
            each.sequence.guesser.forget()

    def _guessed_right(self, ready: Ready, place: int) -> bool:
        """Whether the token just sampled was computed already, as a guess; it needs not be computed again then."""
        sequence = ready.sequence
        if sequence.has_ended:
            return False
        is_right = sequence.guesser.note(place, sequence.last_token) and place < ready.drafted
        if is_right:
            self._advance_by(sequence, 1)
            self.accepted_tokens += 1
        return is_right

    def _drop_wrong(self, ready: Ready) -> None:
        if ready.drafted:
            assert ready.sequence.id is not None, "it was computed"
            self._context.forget(ready.sequence.id, ready.sequence.computed)
            self.drafted_tokens += ready.drafted

    def _sample(self, sequences: Many[Sequence], rows: Floats) -> None:
        # before choosing, which changes the rows
        log_probs = [
            None if sequence.logprobs is None else log_probabilities(row)
            for row, sequence in zip(rows, sequences, strict=True)
        ]
        choices = self._chooser.choose([sequence.sampler for sequence in sequences], rows)
        for sequence, choice, row_log_probs in zip(sequences, choices, log_probs, strict=True):
            if isinstance(choice, ApplianceError):
                self._fail(sequence, choice)
            else:
                self._go_on(sequence, choice, row_log_probs)

    def _go_on(self, sequence: Sequence, token: int, log_probs: Floats | None) -> None:
        sequence.append(token)
        if self._teller.tell_token(sequence, token, log_probs):
            self._leave(sequence)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._teller.tell_end(sequence, reason)
        self._leave(sequence)

    def _fail(self, sequence: Sequence, error: ApplianceError) -> None:
        self._teller.tell_error(sequence, error)
        self._leave(sequence)

    def _leave(self, sequence: Sequence) -> None:
        """Compute no more of it."""
        sequence.has_ended = True
        sequence.sampler.close()
        if sequence.id is None:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
            self._ended.append(sequence)

    def _clear_away(self) -> None:
        """Give up the slots of those that ended; keep what was computed as prefixes for others."""
        if not self._ended:
            return
        self._publish()
        self._outbox.flush()  # keeping takes milliseconds, and their readers may have the next question already
        for sequence in self._ended:
            assert sequence.id is not None, "it had a slot"
            self._keep(sequence, sequence.id)
            self._release(sequence.id)
            sequence.id = None
        self._ended.clear()

    def _keep(self, sequence: Sequence, number: int) -> None:
        """Copy what is not kept of it already. It loses the cells before that, and is to be released."""
        tokens = sequence.known[: sequence.computed]
        if len(tokens) < LEAST_KEPT_TOKENS:
            return
        place = self._prefixes.place_for(sequence.scope, tokens)
        if place is None:
            return
        if place.start:
            self._context.forget(number, 0, place.start)
        size_bytes = self._context.state_bytes(number)
        if self._prefixes.has_room_for(size_bytes, place):
            own, state = tokens[place.start :].copy(), self._context.state(number, size_bytes)
            self._prefixes.keep(Kept(sequence.scope, own, state, place.base, place.start))

    def _publish(self) -> None:
        self.stats = EngineStats(
            active=len(self._running),
            waiting=len(self._waiting),
            cache_used_tokens=self._ledger.used_cells,
            cache_total_tokens=self._ledger.total_cells,
        )


def _rows(logits: Floats, numbers: list[int]) -> Floats:
    """These rows, in ascending order; not copied where they are equally far apart, as nearly always."""
    steps = {after - before for before, after in pairwise(numbers)} or {1}
    return logits[numbers[0] : numbers[-1] + 1 : steps.pop()] if len(steps) == 1 else logits[numbers]
