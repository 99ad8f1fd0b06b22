"""Guesses: where they come from, how good they were, and whether they pay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.draft import (
    LENGTHS,
    LOOKED_UP_TOKENS,
    Guesser,
    Ints,
    Prospect,
    StepTimes,
    best_length,
    lookup,
    may_pay,
)


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int32)


def test_a_guess_is_what_followed_the_last_tokens_the_last_time() -> None:
    """Of several places the latest counts that enough follows; only as much as is asked for and there is."""
    known = ints(1, 2, 3, 7, 7, 1, 2, 3, 8, 9, 10, 1, 2, 3)
    assert lookup(known, 2).tolist() == [8, 9]
    assert lookup(known, 6).tolist() == [8, 9, 10, 1, 2, 3]
    assert lookup(known, 100).tolist() == [7, 7, 1, 2, 3, 8, 9, 10, 1, 2, 3]
    assert lookup(known, 0).tolist() == []


def test_a_loop_is_guessed_on() -> None:
    """As far as it was seen to go."""
    assert lookup(ints(9, *[5] * 20), 8).tolist() == [5] * 8
    assert lookup(ints(*[1, 2] * 4), 4).tolist() == [1, 2, 1, 2]
    assert lookup(ints(5, 5, 5, 5), 4).tolist() == [5]


@pytest.mark.parametrize("known", [ints(), ints(1), ints(1, 2, 3), ints(1, 2, 3, 4, 2, 3), ints(1, 2, 9, 1, 2, 3)])
def test_without_an_earlier_place_there_is_no_guess(known: Ints) -> None:
    """Fewer than the looked-up tokens in common are chance."""
    assert len(lookup(known, 8)) == 0


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 10))
def test_a_guess_stands_after_the_same_tokens(known: list[int], most: int) -> None:
    """Compared with a plain search."""
    size = LOOKED_UP_TOKENS
    places = [start for start in range(len(known) - size) if known[start : start + size] == known[-size:]]
    far = [start for start in places if start + size + most <= len(known)]
    expected = known[(far[-1] if far else places[0]) + size :][:most] if places else []
    assert lookup(ints(*known), most).tolist() == expected


def test_confidence_follows_what_was_right_and_what_was_not() -> None:
    """Guesses count whether or not they were computed; tokens beyond the guess do not."""
    guesser = Guesser()
    first = guesser.confidence
    guesser.look(ints(1, 2, 3, 8, 9, 1, 2, 3), 2)
    assert guesser.note(0, 8)
    assert guesser.note(1, 9)
    assert guesser.confidence > first
    assert not guesser.note(2, 1)
    sure = guesser.confidence
    for _ in range(20):
        assert not guesser.note(0, 7)
    assert guesser.confidence < 0.2 < sure


def times(seconds: dict[int, float]) -> StepTimes:
    learned = StepTimes()
    for tokens, each in seconds.items():
        learned.learn(tokens, each)
    return learned


SURE, UNSURE = Prospect(8, 0.95), Prospect(8, 0.1)


def test_cheap_tokens_are_guessed_and_dear_ones_are_not() -> None:
    """Where a step of nine takes as long as one of one, all eight are; where it takes nine times as long, none is."""
    assert best_length([SURE], times({1: 1.0, 3: 1.0, 5: 1.0, 9: 1.0}), 100) == 8
    assert best_length([SURE], times({1: 1.0, 3: 3.0, 5: 5.0, 9: 9.0}), 100) == 0
    assert best_length([SURE], times({1: 1.0, 3: 1.2, 5: 3.5, 9: 9.0}), 100) == 2


def test_where_guesses_cannot_pay_none_is_made() -> None:
    """Not even if all of them would be right; as long as a cost is unknown they could."""
    assert not may_pay(1, times({1: 1.0, 3: 3.0, 5: 5.0, 9: 9.0}), 8)
    assert may_pay(1, times({1: 1.0, 3: 2.5, 5: 5.0, 9: 9.0}), 8)
    assert may_pay(1, times({1: 1.0, 3: 3.0, 9: 9.0}), 8)


def test_costs_beyond_the_room_are_not_waited_for() -> None:
    """Sixteen streams with room for eight guesses never make a step of 48 tokens; one of 24 says it all."""
    learned = times({16: 1.0})
    assert may_pay(16, learned, 8)
    learned.learn(24, 1.5)
    assert not may_pay(16, learned, 8)
    assert not may_pay(16, StepTimes(), 0)


def test_who_finds_nothing_looks_less_often() -> None:
    """After ever more steps, at most eight; from the first find on in every step again."""
    guesser, new, again = Guesser(), ints(*range(20)), ints(1, 2, 3, 8, 9, 1, 2, 3)
    for pause in (1, 3, 7, 7):
        guesser.look(new, 2)
        for _ in range(pause):
            guesser.look(again, 2)
            assert not len(guesser.guess)
    for _ in range(3):
        guesser.look(again, 2)
        assert guesser.guess.tolist() == [8, 9]
        guesser.forget()


def test_an_old_guess_says_nothing_about_later_tokens() -> None:
    """A step without a guess leaves the confidence as it was."""
    guesser = Guesser()
    guesser.look(ints(1, 2, 3, 8, 9, 1, 2, 3), 2)
    guesser.note(0, 8)
    guesser.forget()
    sure = guesser.confidence
    assert not guesser.note(0, 7)
    assert guesser.confidence == sure


def test_unsure_guesses_are_left_alone() -> None:
    """They would be right too seldom, even where they cost little."""
    assert best_length([UNSURE], times({1: 1.0, 3: 1.1, 5: 1.2, 9: 1.4}), 100) == 0
    assert best_length([UNSURE, SURE], times({2: 1.0, 6: 1.1, 10: 1.2, 18: 1.4}), 100) == 8


def test_an_unknown_cost_is_tried_once() -> None:
    """It counts as nothing until it is known."""
    learned = times({1: 1.0})
    tried = []
    while length := best_length([SURE], learned, 100):
        tried.append(length)
        learned.learn(1 + length, 10.0)
    assert tried == list(LENGTHS)


def test_guesses_keep_to_their_room() -> None:
    """Of results and cells; without guesses there is nothing to choose."""
    assert best_length([SURE, SURE], StepTimes(), 8) == 4
    assert best_length([SURE, SURE], StepTimes(), 3) == 0
    assert best_length([Prospect(0, 0.9)], StepTimes(), 100) == 0


def test_what_was_not_seen_for_long_is_looked_at_again() -> None:
    """A machine that was busy when it was measured may be quiet now."""
    learned = times({1: 1.0, 9: 9.0})
    assert learned.cost(1, 9) == 9.0
    for _ in range(StepTimes.FORGOTTEN_AFTER + StepTimes.LOOKED_THROUGH_EVERY):
        learned.learn(1, 1.0)
    assert learned.cost(1, 9) == 1.0
