"""What readers hear of a generation: text as far as it is whole, logprobs, usage, the end."""

from __future__ import annotations

import msgspec

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError
from appliance.domain.inference import Delta, FinishReason, Logprobs, TokenLogprob
from appliance.engines.llama.runtime import Floats
from appliance.engines.llama.sampler import most_likely
from appliance.engines.llama.sequence import Sequence
from appliance.engines.llama.text import Pieces
from appliance.engines.stream import News, Outbox


class Teller:
    """Puts news into the outbox; used by the engine's thread."""

    def __init__(self, pieces: Pieces, outbox: Outbox, clock: Clock) -> None:
        self._pieces = pieces
        self._outbox = outbox
        self._clock = clock

    def tell_token(self, sequence: Sequence, token: int, log_probs: Floats | None) -> bool:
        """A token was sampled, from these log-probabilities if they are wanted; whether the generation ends with it."""
        self._count(sequence, token)
        ended = self._pieces.is_end(token)
        text = "" if ended else sequence.text.feed(self._pieces.shown(token))
        logprobs: tuple[Logprobs, ...] = ()
        if log_probs is not None and sequence.logprobs is not None and not ended:
            logprobs = (self._logprobs(token, log_probs, sequence.logprobs),)
        if ended or sequence.text.stopped:
            self.tell_end(sequence, FinishReason.STOP, text, logprobs)
            return True
        if sequence.is_full:
            self.tell_end(sequence, FinishReason.LENGTH, text, logprobs)
            return True
        if text or logprobs:
            self.tell(sequence, Delta(text=text, logprobs=logprobs))
        return False

    def tell_end(
        self, sequence: Sequence, reason: FinishReason, text: str = "", logprobs: tuple[Logprobs, ...] = ()
    ) -> None:
        """It ends, with what the text held back."""
        if not sequence.text.stopped:
            text += sequence.text.finish()
        stop = sequence.text.stop if reason is FinishReason.STOP else None
        self.tell(sequence, Delta(text=text, logprobs=logprobs, finish_reason=reason, stop_text=stop))

    def tell_error(self, sequence: Sequence, error: ApplianceError) -> None:
        """It ends with an error."""
        self._outbox.put(sequence.receiver, error)

    def tell(self, sequence: Sequence, delta: Delta) -> None:
        """An increment, with the usage at this moment."""
        usage = sequence.usage
        if sequence.first_token_seconds is not None:
            usage.decode_milliseconds = (self._clock.monotonic_seconds() - sequence.first_token_seconds) * 1000
        self._outbox.put(sequence.receiver, News(delta, msgspec.structs.replace(usage)))

    def _count(self, sequence: Sequence, token: int) -> None:
        usage = sequence.usage
        if sequence.first_token_seconds is None:
            now = sequence.first_token_seconds = self._clock.monotonic_seconds()
            usage.prefill_milliseconds = (now - (sequence.admitted_seconds or now)) * 1000
        usage.response_tokens += 1
        if sequence.thoughts is not None:
            usage.reasoning_tokens += sequence.thoughts.tokens_with(self._pieces.shown(token))

    def _logprobs(self, token: int, log_probs: Floats, count: int) -> Logprobs:
        top = most_likely(log_probs, count)
        return Logprobs(self._logprob(token, log_probs), tuple(self._logprob(other, log_probs) for other in top))

    def _logprob(self, token: int, log_probs: Floats) -> TokenLogprob:
        raw = self._pieces.raw(token)
        return TokenLogprob(raw.decode("utf-8", "replace"), float(log_probs[token]), raw)
