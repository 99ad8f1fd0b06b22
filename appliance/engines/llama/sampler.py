"""How the next token is chosen from a row of logits.

One ``Sampler`` per generation, used by the engine's thread. Bias and penalties change the row in place, over the few
tokens they concern; the greedy choice is one argmax; a draw goes through llama.cpp's samplers, over the tokens that can
have a chance. A grammar is asked about the chosen token first and filters the vocabulary only when it says no, so that
constrained generation is as fast as free generation wherever the model writes what it should (as llama.cpp's
common_sampler does).
"""

from __future__ import annotations

import codecs
import secrets
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from appliance.domain.errors import Internal, InvalidParameter
from appliance.domain.inference import Sampling
from appliance.engines.llama.runtime import Candidates, Chain, ChainOptions, Floats, Grammar, Ints
from appliance.engines.llama.text import Pieces

NEGLIGIBLE_NATS = 30.0
"""Tokens less likely than the best by a factor of e^30 are dropped before a draw."""
FIRST_LOOK_TOKENS = 256
"""How many of the best tokens a grammar sees before it must look at the whole vocabulary."""
_RANDOM_SEED = 0xFFFFFFFF  # llama.cpp takes this one as a wish for a random seed


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
        self._bias_tokens = np.array([*sampling.logit_bias, *banned], dtype=np.int32)
        self._bias = np.array([*sampling.logit_bias.values(), *(-np.inf for _ in banned)], dtype=np.float32)
        self._penalties = _Penalties(sampling, prompt) if _has_penalties(sampling) else None
        self._chain = Chain(_chain_options(sampling)) if sampling.temperature > 0 else None
        self._margin = np.float32(NEGLIGIBLE_NATS * max(sampling.temperature, 1.0))

    def pick(self, logits: Floats, candidates: Candidates) -> int:
        """The next token. ``logits`` is changed. Raises InvalidParameter when the grammar admits no token at all."""
        if len(self._bias_tokens):
            logits[self._bias_tokens] += self._bias
        if self._penalties is not None:
            self._penalties.apply(logits)
        token = self._choose(logits, candidates)
        if self._law is not None:
            token = self._lawful(token, self._law, logits, candidates)
            self._law.accept(token)
        if self._penalties is not None:
            self._penalties.accept(token)
        return token

    def _choose(self, logits: Floats, candidates: Candidates) -> int:
        best = int(logits.argmax())
        if not np.isfinite(logits[best]):
            raise Internal("the model computed no number for the next token; its weights or its context are damaged")
        if self._chain is None:
            return best
        likely = np.flatnonzero(logits >= logits[best] - self._margin).astype(np.int32)
        return self._draw(likely, logits, candidates)

    def _draw(self, tokens: Ints, logits: Floats, candidates: Candidates) -> int:
        """One of these tokens: the likeliest, or by chance."""
        if self._chain is None:
            return int(tokens[logits[tokens].argmax()])
        candidates.fill(tokens, logits[tokens])
        return self._chain.choose(candidates)

    def _lawful(self, token: int, law: Law, logits: Floats, candidates: Candidates) -> int:
        """The token, or another choice if it is forbidden."""
        if law.allows(token, candidates):
            return token
        for tokens in self._allowed_tokens(law, logits, candidates):
            while len(tokens):
                token = self._draw(tokens, logits, candidates)
                if law.spells(token):
                    return token
                tokens = tokens[tokens != token]
        raise InvalidParameter(
            "the grammar reached a place where no token of this model's vocabulary may follow; "
            "loosen the grammar or the schema"
        )

    def _allowed_tokens(self, law: Law, logits: Floats, candidates: Candidates) -> Iterator[Ints]:
        """Those that the grammar allows and that have a chance beside the best of them; in the end all it allows."""
        first = _best_tokens(logits, FIRST_LOOK_TOKENS)
        tokens = law.allowed(first, logits, candidates)
        if len(tokens):
            threshold = logits[tokens].max() - (self._margin if self._chain is not None else 0)
            if threshold < logits[first].min():
                tokens = law.allowed(np.flatnonzero(logits >= threshold).astype(np.int32), logits, candidates)
            yield tokens
        yield law.allowed(np.arange(len(logits), dtype=np.int32), logits, candidates)

    def close(self) -> None:
        """Free the C objects. Twice is fine."""
        if self._chain is not None:
            self._chain.close()
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

    def accept(self, token: int) -> None:
        """The token was chosen."""
        self._grammar.accept(token)
        self._spell(token)

    def close(self) -> None:
        """Free the grammar."""
        self._grammar.close()


def _best_tokens(logits: Floats, count: int) -> Ints:
    if count >= len(logits):
        return np.arange(len(logits), dtype=np.int32)
    return np.argpartition(logits, -count)[-count:].astype(np.int32)


def _has_penalties(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1.0 or bool(sampling.frequency_penalty or sampling.presence_penalty)


def _chain_options(sampling: Sampling) -> ChainOptions:
    seed = secrets.randbits(32) if sampling.seed is None else sampling.seed & 0xFFFFFFFF
    return ChainOptions(
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        temperature=sampling.temperature,
        seed=seed if seed != _RANDOM_SEED else seed - 1,
    )


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
    best = _best_tokens(log_probs, min(count, len(log_probs)))
    return [int(token) for token in best[np.argsort(-log_probs[best], kind="stable")]]
