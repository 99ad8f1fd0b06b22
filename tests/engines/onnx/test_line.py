"""Who leads the next batch, and which texts share it. Lengths only: nothing here runs."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.onnx.line import Line, choose_batch

REQUESTS = st.lists(
    st.tuples(st.lists(st.integers(1, 600), min_size=1, max_size=20), st.booleans()), min_size=1, max_size=12
)
"""Lengths of each request's texts, and whether the first of them opens it."""


def lined_up(*requests: list[int], batch_tokens: int = 100, opening: int | None = None) -> Line[int]:
    """A line of requests that are called 0, 1, 2, …"""
    line: Line[int] = Line(batch_tokens, pass_tokens=10)
    for name, lengths in enumerate(requests):
        line.join(name, lengths, opening)
    return line


def batches(line: Line[int]) -> list[list[tuple[int, int]]]:
    """Everything that the line gives, batch by batch."""
    found = []
    while batch := line.take():
        found.append(batch)
    return found


class TestTake:
    """One batch after the other."""

    def test_nobody_waits(self) -> None:
        """An empty line gives an empty batch."""
        assert lined_up().take() == []

    def test_a_request_goes_longest_first(self) -> None:
        """Neighbours in length share a batch, so that little of it is padding."""
        line = lined_up([10, 90, 50, 12, 48, 11])

        assert batches(line) == [[(0, 1)], [(0, 2), (0, 4)], [(0, 3), (0, 5), (0, 0)]]

    def test_requests_share_a_batch(self) -> None:
        """Texts of all who wait join, the nearest in length first."""
        line = lined_up([25], [90], [24], [26])

        assert batches(line) == [[(2, 0), (0, 0), (3, 0)], [(1, 0)]]

    def test_a_short_text_does_not_stand_behind_thousands(self) -> None:
        """It leads the very next batch, however much came before it."""
        line = lined_up([100] * 2_000)
        line.take()
        line.join(1, [8])

        assert line.take() == [(1, 0)]

    def test_the_oldest_is_in_every_second_batch(self) -> None:
        """A stream of short texts cannot keep a long request waiting for ever."""
        line = lined_up([100] * 10)
        led = []
        for name in range(1, 21):
            line.join(name, [8])
            line.join(name + 100, [40])
            led.append(any(request == 0 for request, _ in line.take()))

        assert sum(led) == 10
        assert not any(first and second for first, second in itertools.pairwise(led))

    def test_equals_are_answered_one_after_the_other(self) -> None:
        """Of two requests of the same size the older is finished before the newer begins: sharing would delay both."""
        order = [request for batch in batches(lined_up([60] * 5, [60] * 5)) for request, _ in batch]

        assert order == [0] * 5 + [1] * 5

    def test_who_left_is_not_computed(self) -> None:
        """The texts of a request that was withdrawn are gone, others are not touched."""
        line = lined_up([10, 10], [10], [10])
        line.leave(0)

        assert batches(line) == [[(1, 0), (2, 0)]]

    def test_clear_names_who_waits(self) -> None:
        """Those who are left behind can be told so."""
        line = lined_up([100, 100], [50])
        line.take()

        assert line.clear() == [*line.requests, 0]
        assert not line

    @given(REQUESTS, st.integers(16, 1_024))
    def test_every_text_runs_once(self, requests: list[tuple[list[int], bool]], batch_tokens: int) -> None:
        """No text is lost or computed twice, batches keep the budget, and opening texts come first."""
        line: Line[int] = Line(batch_tokens, pass_tokens=10)
        for name, (lengths, opens) in enumerate(requests):
            line.join(name, lengths, 0 if opens else None)

        found = batches(line)

        taken = Counter(text for batch in found for text in batch)
        assert taken == Counter((name, p) for name, (lengths, _) in enumerate(requests) for p in range(len(lengths)))
        for batch in found:
            lengths = [requests[name][0][place] for name, place in batch]
            assert len(batch) == 1 or max(lengths) * len(batch) <= batch_tokens
        order = [text for batch in found for text in batch]
        for name, (_, opens) in enumerate(requests):
            if opens:
                assert next(place for request, place in order if request == name) == 0

    @given(REQUESTS, st.integers(16, 1_024))
    def test_nobody_waits_for_ever(self, requests: list[tuple[list[int], bool]], batch_tokens: int) -> None:
        """The oldest request has a text in at least every second batch."""
        line = lined_up(*(lengths for lengths, _ in requests), batch_tokens=batch_tokens)
        passed_over = False
        while line:
            oldest = line.requests[0]
            has_part = any(request == oldest for request, _ in line.take())
            assert has_part or not passed_over
            passed_over = not has_part


class TestOpening:
    """A text that the others of its request depend on."""

    def test_goes_before_longer_ones(self) -> None:
        """It runs first although it is the shortest."""
        line = lined_up([8, 90, 91], opening=0)

        assert batches(line) == [[(0, 0)], [(0, 2)], [(0, 1)]]

    def test_takes_those_along_that_fit(self) -> None:
        """A small request is one batch, in which the opening text comes first."""
        assert batches(lined_up([8, 12, 10], opening=0)) == [[(0, 0), (0, 2), (0, 1)]]

    def test_joins_others_alone(self) -> None:
        """Texts that depend on it join no batch of another request before it has run."""
        line = lined_up([8])
        line.join(1, [9, 8, 7], opening=0)

        assert batches(line) == [[(0, 0), (1, 0)], [(1, 1), (1, 2)]]


class TestChooseBatch:
    """Which texts run together."""

    @pytest.mark.parametrize(
        ("lengths", "batch_tokens", "chosen"),
        [
            pytest.param([], 100, [], id="nobody waits"),
            pytest.param([500], 100, [0], id="larger than the budget, alone"),
            pytest.param([10, 10, 10], 100, [0, 1, 2], id="all fit"),
            pytest.param([50, 50, 50], 100, [0, 1], id="the budget is full"),
            pytest.param([100, 10, 95, 12], 1000, [0, 2], id="short texts would be padding"),
            pytest.param([10, 400, 11, 12], 1000, [0, 2, 3], id="a long one would make padding of the rest"),
            pytest.param([10, 10, 10, 14], 1000, [0, 1, 2], id="little for one text, much for three"),
            pytest.param([3, 12, 4], 1000, [0, 2], id="another pass is cheaper than sixteen tokens of padding"),
            pytest.param([3, 8, 4], 1000, [0, 2, 1], id="eight tokens of padding are cheaper than another pass"),
            pytest.param([40, 60, 32, 35], 1000, [0, 3, 2], id="one side ends, the other goes on"),
            pytest.param([400, 10, 10, 10], 1000, [0], id="the first runs, however odd"),
        ],
    )
    def test_table(self, lengths: list[int], batch_tokens: int, chosen: list[int]) -> None:
        """The first, which leads, and with it those nearest in length."""
        assert choose_batch(lengths, batch_tokens, pass_tokens=10) == chosen

    @given(st.lists(st.integers(1, 600), min_size=1, max_size=60), st.integers(16, 4_096), st.integers(0, 64))
    def test_padding_never_costs_more_than_the_passes_it_saves(
        self, lengths: list[int], batch_tokens: int, pass_tokens: int
    ) -> None:
        """The first is always in; a batch of several is inside the budget and saves more than it pads."""
        chosen = choose_batch(lengths, batch_tokens, pass_tokens)
        longest = max(lengths[place] for place in chosen)
        padding = sum(longest - lengths[place] for place in chosen)

        assert chosen[0] == 0
        assert len(set(chosen)) == len(chosen)
        assert len(chosen) == 1 or longest * len(chosen) <= batch_tokens
        assert padding <= pass_tokens * (len(chosen) - 1)
