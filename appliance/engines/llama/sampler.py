"""How the next token is chosen from a row of logits.

One ``Sampler`` per generation, used by the engine's thread. Bias and penalties change the row in place, over the few
tokens they concern; the greedy choice is one argmax, a draw is ``draw``'s. A grammar is asked about the chosen token
first and filters the vocabulary only when it says no, so that constrained generation is as fast as free generation
wherever the model writes what it should (as llama.cpp's common_sampler does).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import Sampling
from appliance.engines.llama.draw import Draw, best_places, no_number
from appliance.engines.llama.runtime import Candidates, Floats, Grammar, Ints
from appliance.engines.llama.text import Pieces

FIRST_LOOK_TOKENS = 256
"""How many of the best tokens a grammar sees before it must look at the whole vocabulary."""
NEGLIGIBLE_MASS = 1e-4
"""Of the probability: what the tokens that a grammar did not see may hold at most, all together."""


class Sampler:
    """Chooses tokens for one generation. ``close`` when it ends."""

    def __init__(
        self,
        sampling: Sampling,
        prompt: Ints,
        *,
        law: Law | None = None,
        banned: tuple[int, ...] = (),
    ) -> None:
        self._law = law
        self._bias = _Bias({**sampling.logit_bias, **dict.fromkeys(banned, -np.inf)})
        self._penalties = _Penalties(sampling, prompt) if _has_penalties(sampling) else None
        self._draw = Draw(sampling) if sampling.temperature > 0 else None
        self.free_draw = self._draw if self._draw is not None and self._draw.is_whole and law is None else None
        """What chooses where nothing but chance does, so that the choice can be made together with others'."""

    @property
    def is_constrained(self) -> bool:
        """Whether a choice may take long."""
        return self._law is not None

    def pick(self, logits: Floats, candidates: Candidates) -> int:
        """The next token. ``logits`` is changed. Raises InvalidParameter when the grammar admits no token at all."""
        self.prepare(logits)
        token = self._choose(logits)
        if self._law is not None:
            token = self._lawful(token, self._law, logits, candidates)
            self._law.accept(token)
        self.note(token)
        return token

    def prepare(self, logits: Floats) -> None:
        """Add biases and penalties. ``pick`` does; it is called for who chooses by ``free_draw`` itself."""
        self._bias.apply(logits)
        if self._penalties is not None:
            self._penalties.apply(logits)

    def note(self, token: int) -> None:
        """The token was chosen. ``pick`` says so itself."""
        if self._penalties is not None:
            self._penalties.accept(token)

    def _choose(self, logits: Floats) -> int:
        if self._draw is not None:
            return self._draw.choose(logits)
        best = int(logits.argmax())
        if not np.isfinite(logits[best]):
            raise no_number()
        return best

    def _choose_among(self, tokens: Ints, logits: Floats) -> int:
        values = logits[tokens]
        return int(tokens[values.argmax() if self._draw is None else self._draw.choose(values)])

    def _lawful(self, token: int, law: Law, logits: Floats, candidates: Candidates) -> int:
        """The token, or another choice if it is forbidden."""
        if law.allows(token, candidates):
            return token
        for tokens in self._allowed_tokens(law, logits, candidates):
            while len(tokens):
                token = self._choose_among(tokens, logits)
                if law.spells(token):
                    return token
                tokens = tokens[tokens != token]
        raise InvalidParameter(
            "the grammar reached a place where no token of this model's vocabulary may follow; "
            "loosen the grammar or the schema"
        )

    def _allowed_tokens(self, law: Law, logits: Floats, candidates: Candidates) -> Iterator[Ints]:
        """Those that the grammar allows and that have a chance beside the best of them; in the end all it allows."""
        tokens = law.allowed(best_places(logits, FIRST_LOOK_TOKENS).astype(np.int32), logits, candidates)
        if len(tokens) and self._is_nearly_all(tokens, logits):
            yield tokens
        yield law.allowed(np.arange(len(logits), dtype=np.int32), logits, candidates)

    def _is_nearly_all(self, tokens: Ints, logits: Floats) -> bool:
        """Whether the tokens that were not looked at can be neglected beside the allowed ones."""
        if self._draw is None:
            return True
        spread = np.float32(self._draw.spread)
        best = logits[tokens].max()
        allowed = np.exp((logits[tokens] - best) / spread).sum(dtype=np.float64)
        seen = best_places(logits, FIRST_LOOK_TOKENS)
        unseen = np.delete(logits, seen)
        return bool(np.exp((unseen - best) / spread).sum(dtype=np.float64) <= NEGLIGIBLE_MASS * allowed)

    def close(self) -> None:
        """Free the C objects. Twice is fine."""
        if self._law is not None:
            self._law.close()


class Law:
    """What constrains an answer: its grammar, and that its bytes stay UTF-8.

    The second because llama.cpp's grammars take any bytes after a character's first one for that character.
    """

    def __init__(self, grammar: Grammar, pieces: Pieces) -> None:
        self._grammar = grammar
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def allows(self, token: int, candidates: Candidates) -> bool:
        """Whether the token may come next."""
        one = np.array([token], dtype=np.int32)
        candidates.fill(one, np.zeros(1, dtype=np.float32))
        self._grammar.filter(candidates)
        return bool(candidates.allowed()[0]) and self.spells(token)

    def allowed(self, tokens: Ints, logits: Floats, candidates: Candidates) -> Ints:
        """Those of the tokens that the grammar lets come next."""
        candidates.fill(tokens, logits[tokens])
        self._grammar.filter(candidates)
        return tokens[candidates.allowed()]

    def spells(self, token: int) -> bool:
        """Whether the token's bytes continue as UTF-8."""
        state = self._decoder.getstate()
        try:
            self._spell(token)
        except UnicodeDecodeError:
            return False
        finally:
            self._decoder.setstate(state)
        return True

    def _spell(self, token: int) -> None:
        ends = self._pieces.is_end(token)
        self._decoder.decode(b"" if ends else self._pieces.raw(token), final=ends)
        pending = self._decoder.getstate()[0]
        if pending[:1] == b"\xed" and pending[1:2] >= b"\xa0":  # Python's decoder notices at the third byte only
            raise UnicodeDecodeError("utf-8", pending, 0, 2, "half of a surrogate pair")

    def accept(self, token: int) -> None:
        """The token was chosen."""
        self._grammar.accept(token)
        self._spell(token)

    def close(self) -> None:
        """Free the grammar."""
        self._grammar.close()


def _has_penalties(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1.0 or bool(sampling.frequency_penalty or sampling.presence_penalty)


class _Bias:
    """What is added to the logits of some tokens."""

    FEW = 16
    """Up to so many are quicker one after the other than as an array."""

    def __init__(self, biases: dict[int, float]) -> None:
        self._few = list(biases.items()) if len(biases) <= self.FEW else []
        self._tokens = np.array([] if self._few else [*biases], dtype=np.int32)
        self._values = np.array([] if self._few else [*biases.values()], dtype=np.float32)

    def apply(self, logits: Floats) -> None:
        for token, value in self._few:
            logits[token] += value
        if len(self._tokens):
            logits[self._tokens] += self._values


class _Penalties:
    """Repetition over prompt and answer, as it was defined; frequency and presence over the answer, as OpenAI does."""

    def __init__(self, sampling: Sampling, prompt: Ints) -> None:
        self._repetition = np.float32(sampling.repetition_penalty)
        self._frequency = np.float32(sampling.frequency_penalty)
        self._presence = np.float32(sampling.presence_penalty)
        self._seen = set(np.unique(prompt).tolist()) if sampling.repetition_penalty != 1.0 else set()
        self._counts: dict[int, int] = {}

    def apply(self, logits: Floats) -> None:
        if self._repetition != 1.0:
            seen = np.fromiter(self._seen, np.int32, len(self._seen))
            values = logits[seen]
            # dividing alone would make tokens with negative logits more likely
            logits[seen] = np.where(values <= 0, values * self._repetition, values / self._repetition)
        if self._counts:
            tokens = np.fromiter(self._counts, np.int32, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            logits[tokens] -= counts * self._frequency + self._presence

    def accept(self, token: int) -> None:
        self._seen.add(token)
        self._counts[token] = self._counts.get(token, 0) + 1


def log_probabilities(logits: Floats) -> Floats:
    """Natural-log probabilities of a row, before bias, penalties and temperature."""
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted, dtype=np.float32).sum(dtype=np.float64)), dtype=np.float32)


def most_likely(log_probs: npt.NDArray[np.float32], count: int) -> list[int]:
    """The ``count`` most likely tokens, most likely first."""
    if count <= 0:
        return []
    return [int(token) for token in best_places(log_probs, count)]
