"""Numbers within bounds: exactly those between them, written without leading zeros."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.ranges import LARGEST, numbers, whole_numbers

WHOLE = st.integers(-LARGEST, LARGEST)


def says(gbnf: str, text: str) -> bool:
    """Whether the rule's body says the text; what these rules use of GBNF is all but a regular expression."""
    pattern = re.sub(r'"([^"]*)"', lambda found: re.escape(found.group(1)), gbnf).replace(" ", "")
    return re.fullmatch(pattern, text) is not None


@given(st.tuples(WHOLE, WHOLE).map(sorted), WHOLE)
def test_whole_numbers_are_those_between_the_bounds(bounds: list[int], number: int) -> None:
    """Of any size and sign."""
    least, most = bounds
    body = whole_numbers(least, most)
    assert says(body, str(number)) == (least <= number <= most)
    for edge in (least - 1, least, most, most + 1):
        assert says(body, str(edge)) == (least <= edge <= most)


@given(st.integers(-30, 30), st.integers(0, 40), st.integers(-60, 80))
def test_small_whole_numbers(least: int, span: int, number: int) -> None:
    """Where lengths and signs change, and never with a zero in front."""
    body = whole_numbers(least, least + span)
    assert says(body, str(number)) == (least <= number <= least + span)
    assert not says(body, f"0{number}")
    assert not says(body, "-0")


SMALL = st.integers(-25, 25)


@given(SMALL, st.integers(1, 20), st.booleans(), st.booleans(), st.decimals(-50, 50, places=2))
def test_numbers_are_those_between_the_bounds(
    least: int, span: int, with_least: bool, with_most: bool, number: object
) -> None:
    """With a fraction or without, the bounds themselves included or not."""
    most = least + span
    body = numbers(least, most, with_least=with_least, with_most=with_most)
    value = float(str(number))
    inside = least < value < most or (value == least and with_least) or (value == most and with_most)
    for text in {f"{value:.2f}", f"{value:.6f}".rstrip("0"), str(value)}:
        if says(body, text):
            assert inside, text
    if inside and value != least and value != most:
        assert says(body, f"{value:.2f}") or value == int(value)
    for edge, included in ((least, with_least), (most, with_most)):
        assert says(body, str(edge)) == included
