"""How a planned step is computed: in one pass, or in several one after the other, whatever was faster.

In one pass the weights are read once, which pays where reading them takes most of the time: on GPUs, and on processors
with many cores. In several, attention is cheaper: from 64 queries on llama.cpp's kernel for processors takes them in
tiles and looks at every cell that anyone of a tile may see (``ggml_flash_attn_ext_tiled``). For a prompt that is
several times as fast as one query after the other; but a tile of streams sees the whole cache. Streams and the first
prompts have their token sooner, too. Which weighs more depends on the machine, the weights and the sizes, so all ways
are tried, and the slower ones looked at again from time to time.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TypeAlias

from appliance.engines.llama.batcher import TILE_TOKENS, Plan, Share

Part: TypeAlias = tuple[Share, ...]


class Way(Enum):
    """Into which passes a step falls."""

    APART = "the streams, then the prompts"
    RIDING = "the streams with the first prompts, then the other prompts"
    TOGETHER = "all at once"


def parts(plan: Plan, way: Way) -> tuple[Part, ...]:
    """The passes of a step, in their order.

    Streams are those that compute one token. Prompts that fill no tile fill one together, and who has room in a tile
    that would stay half empty comes along: an empty place costs as much attention as a query.
    """
    streams = tuple(share for share in plan.shares if share.known_tokens == 1)
    prompts = _tiles([share for share in plan.shares if share.known_tokens > 1])
    if way is Way.TOGETHER or not prompts:
        return (plan.shares,) if plan.shares else ()
    if way is Way.RIDING:
        return ((*streams, *prompts[0]), *prompts[1:])
    return (streams, *prompts) if streams else tuple(prompts)


def _tiles(prompts: Sequence[Share]) -> list[Part]:
    groups: list[Part] = []
    filled = 0
    for share in prompts:
        if groups and (filled < TILE_TOKENS or share.tokens <= -filled % TILE_TOKENS):
            groups[-1] = (*groups[-1], share)
            filled += share.tokens
        else:
            groups.append((share,))
            filled = share.tokens
    if filled < TILE_TOKENS and len(groups) > 1:
        rest = groups.pop()
        groups[-1] = (*groups[-1], *rest)
    return groups


def ways(plan: Plan) -> list[Way]:
    """Those that differ for this plan, the one whose tokens come soonest first."""
    if len(plan.shares) < 2 or all(share.known_tokens == 1 for share in plan.shares):
        return [Way.TOGETHER]
    found: dict[int, Way] = {}
    for way in Way:
        # as many passes are the same passes, but streams that ride with the only prompts are together with all
        found.setdefault(len(parts(plan, way)), way)
    return list(found.values())


class _Trial:
    """Seconds per token of steps of about one size, by the way they were computed."""

    __slots__ = ("_guess", "seconds_per_token", "steps")

    def __init__(self, guess: Way) -> None:
        self._guess = guess
        self.steps = 0
        self.seconds_per_token: dict[Way, float] = {}

    def best(self, among: Sequence[Way]) -> Way:
        """As far as is known. Of two that are as fast, the one whose tokens come sooner."""
        known = [way for way in among if way in self.seconds_per_token]
        if not known or (self._guess in among and self._guess not in known):
            return self._guess if self._guess in among else among[0]
        fastest = min(self.seconds_per_token[way] for way in known)
        return next(way for way in known if self.seconds_per_token[way] <= fastest * Passes.AS_FAST)

    def way(self, among: Sequence[Way]) -> Way:
        """The best, or one that should be looked at."""
        best = self.best(among)
        others = [way for way in among if way is not best]
        if not others:
            return best
        unknown = [way for way in others if way not in self.seconds_per_token]
        if unknown and self.steps >= Passes.LOOK_AFTER:
            return unknown[0]
        if self.steps and self.steps % Passes.EXPLORE_EVERY == 0:
            return others[self.steps // Passes.EXPLORE_EVERY % len(others)]
        return best

    def note(self, way: Way, seconds_per_token: float) -> None:
        self.steps += 1
        known = self.seconds_per_token.get(way, seconds_per_token)
        self.seconds_per_token[way] = 0.7 * known + 0.3 * seconds_per_token


class Passes:
    """Chooses the way of each step, and learns: for each order of magnitude of its streams, its prompts and their
    tokens. A size that was not seen begins as the one most like it goes.
    """

    LOOK_AFTER = 3
    """Steps of a size before the first look at the other ways."""
    EXPLORE_EVERY = 32
    """Steps of a size between two later looks at a slower way."""
    AS_FAST = 1.03
    """Times that differ by less are the same."""

    def __init__(self) -> None:
        self._trials: dict[tuple[int, int, int], _Trial] = {}

    def way(self, plan: Plan) -> Way:
        """How to compute the plan."""
        among = ways(plan)
        return self._trial(plan, among).way(among) if len(among) > 1 else Way.TOGETHER

    def learn(self, plan: Plan, way: Way, seconds: float) -> None:
        """Note what computing the plan took. Plans of one part say nothing."""
        among = ways(plan)
        if len(among) > 1 and seconds > 0:
            self._trial(plan, among).note(way, seconds / plan.tokens)

    def _trial(self, plan: Plan, among: Sequence[Way]) -> _Trial:
        streams = sum(share.known_tokens == 1 for share in plan.shares)
        pieces = len(plan.shares) - streams
        size = (streams.bit_length(), pieces.bit_length(), (plan.tokens - streams).bit_length())
        if size not in self._trials:
            self._trials[size] = _Trial(self._guess(size, plan, among))
        return self._trials[size]

    def _guess(self, size: tuple[int, int, int], plan: Plan, among: Sequence[Way]) -> Way:
        """As with the most similar size whose streams, or lack of them, are alike."""
        alike = {known: trial for known, trial in self._trials.items() if bool(known[0]) == bool(size[0])}
        if not alike:
            apart = size[0] > 0 or all(share.tokens >= TILE_TOKENS for share in plan.shares)
            return Way.APART if apart else Way.TOGETHER
        nearest = min(alike, key=lambda known: sum(abs(a - b) for a, b in zip(known, size, strict=True)))
        return alike[nearest].best(among)
