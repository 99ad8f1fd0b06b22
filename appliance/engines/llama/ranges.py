"""Numbers within bounds, dates and the like as GBNF. Pure; called by ``grammar``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

DIGITS: Final = 16
"""Of the whole part of a number, at most."""
LARGEST: Final = 10**DIGITS - 1
LARGEST_BOUND: Final = 10**9
"""Of numbers that may have a fraction."""

_MONTH_AND_DAY: Final = (
    '(("01" | "03" | "05" | "07" | "08" | "10" | "12") "-" ("0" [1-9] | [12] [0-9] | "3" [01]) | '
    '("04" | "06" | "09" | "11") "-" ("0" [1-9] | [12] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))'
)
_DATE: Final = f'[1-9] [0-9]{{3}} "-" {_MONTH_AND_DAY}'
_CLOCK: Final = '("0" [0-9] | "1" [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
_TIME: Final = f'{_CLOCK} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [-+] {_CLOCK})'
_OCTET: Final = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9] [0-9] | [0-9])'
_LABEL: Final = "[a-z0-9]{1,30}"

FORMATS: Final = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": 'hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}',
    "ipv4": f'{_OCTET} ("." {_OCTET}){{3}}',
    "email": f'{_LABEL} ([-._] {_LABEL}){{0,3}} "@" {_LABEL} ("-" {_LABEL})? ("." {_LABEL}){{1,3}}',
}
"""What stands between the quotes of a string of this ``format``; every one of them is valid, not every valid one is
among them (29 February is not)."""


class Limits(Struct, frozen=True, kw_only=True):
    """Whole bounds on a number, which may be among the numbers or not."""

    least: int
    most: int
    with_least: bool = True
    with_most: bool = True


def limits_of(given: Mapping[str, float | None], *, whole: bool) -> Limits:
    """The tighter of each pair of bounds. Between whole numbers every bound can be one of them."""
    least, above = given["minimum"], given["exclusiveMinimum"]
    most, below = given["maximum"], given["exclusiveMaximum"]
    with_least = above is None or (least is not None and least > above)
    with_most = below is None or (most is not None and most < below)
    low = least if with_least else above
    high = most if with_most else below
    if whole:
        first = -LARGEST if low is None else math.ceil(low) if with_least else math.floor(low) + 1
        last = LARGEST if high is None else math.floor(high) if with_most else math.ceil(high) - 1
        return Limits(least=first, most=last)
    return Limits(
        least=-LARGEST if low is None else int(low),
        most=LARGEST if high is None else int(high),
        with_least=with_least,
        with_most=with_most,
    )


def whole_numbers(least: int, most: int) -> str:
    """Whole numbers from ``least`` to ``most``, both included. At least one lies between them."""
    parts = []
    if least < 0:
        parts.append(f'"-" ({_naturals(max(1, -most), -least)})')
    if most >= 0:
        parts.append(_naturals(max(0, least), most))
    return " | ".join(parts)


def numbers(least: int, most: int, *, with_least: bool = True, with_most: bool = True) -> str:
    """Numbers with and without a fraction between whole bounds, which may be excluded; ``least`` is below ``most``."""
    parts = []
    if least < 0:
        mirrored = _positive(max(0, -most), -least, with_least=with_most and most < 0, with_most=with_least)
        parts.append(f'"-" ({mirrored})')
    if most > 0 or (most == 0 and with_most):
        parts.append(_positive(max(0, least), most, with_least=with_least or least < 0, with_most=with_most))
    return " | ".join(parts)


_ABOVE_ZERO: Final = '"." "0"{0,3} [1-9] [0-9]{0,2}'
_FRACTION: Final = '("." [0-9]{1,6})?'
"""Few enough digits that no reader rounds a number below ``LARGEST_BOUND`` onto its bound."""


def _positive(least: int, most: int, *, with_least: bool, with_most: bool) -> str:
    """Numbers from 0 on. Just below ``most`` is its predecessor with a fraction."""
    parts = []
    if least < most:
        parts.append(f"({_naturals(least, least)}) {_FRACTION if with_least else _ABOVE_ZERO}")
    if least + 1 < most:
        parts.append(f"({_naturals(least + 1, most - 1)}) {_FRACTION}")
    if with_most and (least < most or with_least):
        parts.append(f'({_naturals(most, most)}) ("." "0")?')
    return " | ".join(parts)


def _naturals(least: int, most: int) -> str:
    """Naturals without leading zeros: those of each length are alternatives."""
    parts: list[str] = []
    for length in range(len(str(least)), len(str(most)) + 1):
        low = max(least, 10 ** (length - 1) if length > 1 else 0)
        high = min(most, 10**length - 1)
        parts += _same_length(str(low), str(high))
    return " | ".join(parts)


def _same_length(low: str, high: str) -> Iterator[str]:
    """Digit strings from ``low`` to ``high``, of the same length, as alternatives."""
    rest = len(low) - 1
    first, last = low[0], high[0]
    if set(low[1:]) <= {"0"} and set(high[1:]) <= {"9"}:
        yield _digit(first, last) + _any(rest)
        return
    if first == last:
        yield from (f'"{first}" {others}' for others in _same_length(low[1:], high[1:]))
        return
    yield from (f'"{first}" {others}' for others in _same_length(low[1:], "9" * rest))
    if int(last) - int(first) > 1:
        yield _digit(str(int(first) + 1), str(int(last) - 1)) + _any(rest)
    yield from (f'"{last}" {others}' for others in _same_length("0" * rest, high[1:]))


def _digit(first: str, last: str) -> str:
    return f'"{first}"' if first == last else f"[{first}-{last}]"


def _any(count: int) -> str:
    return f" [0-9]{{{count}}}" if count else ""
