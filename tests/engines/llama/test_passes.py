"""Into how many passes a step falls: what the ways are, and that the fastest is found."""

from __future__ import annotations

import pytest

from appliance.engines.llama.batcher import Plan, Share
from appliance.engines.llama.passes import Passes, Way, parts, ways

APART, RIDING, TOGETHER = Way.APART, Way.RIDING, Way.TOGETHER


def step(streams: int, *prompts: int) -> Plan:
    return Plan(
        (*(Share(key, 1) for key in range(streams)), *(Share(99 + key, each) for key, each in enumerate(prompts)))
    )


def choices(passes: Passes, plan: Plan, seconds: dict[Way, float], times: int) -> list[Way]:
    """What was chosen in so many steps that took these seconds in each way."""
    chosen = []
    for _ in range(times):
        chosen.append(passes.way(plan))
        passes.learn(plan, chosen[-1], seconds[chosen[-1]])
    return chosen


@pytest.mark.parametrize("fastest", list(Way))
def test_a_step_is_computed_in_the_way_that_was_fastest(fastest: Way) -> None:
    """After an early look at each, slower ways are only looked at again from time to time, in turns."""
    seconds = {way: 0.1 if way is fastest else 0.2 for way in Way}
    chosen = choices(Passes(), step(8, 100, 100), seconds, 2 + 2 * Passes.EXPLORE_EVERY)
    early = Passes.LOOK_AFTER + 2
    assert set(chosen[:early]) == set(Way)
    later = [way for way in chosen[early:] if way is not fastest]
    assert len(later) == 2
    assert set(later) == set(Way) - {fastest}


def test_of_ways_that_are_as_fast_the_one_is_taken_whose_tokens_come_first() -> None:
    """Streams before prompts, the first prompt before the others."""
    alike = {APART: 0.1 * Passes.AS_FAST, RIDING: 0.1, TOGETHER: 0.1}
    assert choices(Passes(), step(8, 100, 100), alike, 12)[-1] is APART
    slower = alike | {APART: 0.11}
    assert choices(Passes(), step(8, 100, 100), slower, 12)[-1] is RIDING


def test_a_way_that_becomes_the_faster_one_is_found() -> None:
    """What was learned long ago does not stay true for ever."""
    passes, plan = Passes(), step(8, 100)
    choices(passes, plan, {APART: 0.1, RIDING: 0.2}, 10)
    chosen = choices(passes, plan, {APART: 0.2, RIDING: 0.1}, 10 * Passes.EXPLORE_EVERY)
    assert chosen[-Passes.EXPLORE_EVERY :].count(RIDING) >= Passes.EXPLORE_EVERY - 1


def test_each_size_of_step_learns_for_itself() -> None:
    """A piece beside one stream and one beside many are different things."""
    passes = Passes()
    choices(passes, step(1, 60), {APART: 0.2, RIDING: 0.1}, 8)
    choices(passes, step(14, 60), {APART: 0.1, RIDING: 0.2}, 8)
    assert passes.way(step(1, 50)) is RIDING
    assert passes.way(step(15, 63)) is APART


def test_a_new_size_of_step_begins_as_the_one_most_like_it_goes() -> None:
    """The first steps of each size are no experiment where a similar size has been tried."""
    passes = Passes()
    choices(passes, step(8, 100), {APART: 0.2, RIDING: 0.1}, 8)
    choices(passes, step(60, 500), {APART: 0.1, RIDING: 0.2}, 8)
    assert passes.way(step(4, 100)) is RIDING
    assert passes.way(step(4, 100, 100)) is RIDING
    assert passes.way(step(60, 200)) is APART


def test_a_way_that_a_plan_does_not_have_is_not_taken() -> None:
    """Plans of one size can differ in their ways; what is known of the others counts."""
    passes = Passes()
    choices(passes, step(8, 100, 100), {APART: 0.3, RIDING: 0.2, TOGETHER: 0.1}, 8)
    assert passes.way(step(8, 100, 100)) is TOGETHER
    assert passes.way(step(8, 30, 90)) is RIDING


def test_prompts_alone_begin_apart_only_where_each_part_fills_a_tile() -> None:
    """Small prompts that arrive together read the weights once; of large ones the first has its token first."""
    assert Passes().way(step(0, *[30] * 9)) is TOGETHER
    assert Passes().way(step(0, *[200] * 9)) is APART


def test_a_step_of_one_part_is_one_pass() -> None:
    """Streams alone, and a prompt alone, need no choice."""
    for plan in (step(2), step(0, 40), step(1)):
        passes = Passes()
        assert passes.way(plan) is TOGETHER
        passes.learn(plan, TOGETHER, 0.1)
        assert parts(plan, TOGETHER) == (plan.shares,)
    assert parts(Plan(()), TOGETHER) == ()


def test_the_ways_are_those_that_differ() -> None:
    """Streams that ride with the only prompt are together with all."""
    assert ways(step(2, 100)) == [APART, RIDING]
    assert ways(step(2, 100, 100)) == [APART, RIDING, TOGETHER]
    assert ways(step(0, 100, 100)) == [APART, TOGETHER]
    assert ways(step(2)) == [TOGETHER]


def test_the_parts_of_a_step_are_its_streams_and_its_prompts() -> None:
    """Whoever is computed first has its token first; small pieces fill a tile together, and none is left alone."""
    plan = Plan((Share(3, 1), Share(4, 1), Share(1, 40), Share(2, 25)))
    assert parts(plan, APART) == ((Share(3, 1), Share(4, 1)), (Share(1, 40), Share(2, 25)))
    hundreds = [Share(key, 100) for key in range(3)]
    assert parts(Plan(tuple(hundreds)), APART) == tuple((share,) for share in hundreds)
    assert parts(Plan((Share(9, 1), *hundreds)), RIDING) == (
        (Share(9, 1), hundreds[0]),
        (hundreds[1],),
        (hundreds[2],),
    )
    thirties = [Share(key, 30) for key in range(7)]
    assert parts(Plan(tuple(thirties)), APART) == (tuple(thirties[:4]), tuple(thirties[4:]))
    assert parts(Plan((Share(9, 1), *thirties[:2])), APART) == ((Share(9, 1),), tuple(thirties[:2]))
    assert parts(plan, TOGETHER) == (plan.shares,)


def test_a_tile_is_not_left_half_empty() -> None:
    """Who has room in it comes along; who has not begins the next."""
    shares = [Share(key, tokens) for key, tokens in enumerate((100, 28, 100, 29, 99))]
    assert parts(Plan(tuple(shares)), APART) == (tuple(shares[:2]), (shares[2],), tuple(shares[3:]))


def test_drafted_tokens_are_part_of_their_stream() -> None:
    """Guesses do not make a stream a prompt."""
    assert len(parts(Plan((Share(1, 5, 4), Share(2, 1))), APART)) == 1
