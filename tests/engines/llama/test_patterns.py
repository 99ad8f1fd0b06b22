"""Regular expressions as grammars: what a real model says under one is found by Python's ``re``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.domain.inference import FinishReason, JsonConstraint, Sampling
from appliance.engines.llama.grammar import to_gbnf
from appliance.engines.llama.patterns import NotHeld, pattern_body
from tests.engines.llama.by_hand import Harness


@pytest.fixture(scope="module")
def harness(weights: Path) -> Iterator[Harness]:
    harness = Harness(weights, cells=2048, slots=2)
    yield harness
    harness.stepper.close()


def said(harness: Harness, pattern: str, seed: int) -> str | None:
    """What a random model says under the pattern; None when it did not come to an end."""
    gbnf = to_gbnf(JsonConstraint(schema={"type": "string", "pattern": pattern}))
    ending = {int(harness.tokens('"')[-1]): 5.0}  # what may stand beside a pattern would go on for ever
    sampling = Sampling(temperature=1.0, seed=seed, logit_bias=ending)
    reader = harness.start("x", 120, sampling=sampling, gbnf=gbnf)
    harness.finish()
    assert reader.error is None
    return str(json.loads(reader.text)) if reader.reason is FinishReason.STOP else None


CLASSES = ["[a-z]", "[^a-z]", r"[\d.-]", r"[^\s\w]", r"[\]\[^-]", "[é-ü]", "[ -~]", r"[\"\\x]", r"[a\n]"]
ATOMS = st.sampled_from(
    ["a", "é", ".", "-", "]", '"', r"\\", r"\.", r"\n", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", *CLASSES]
)
QUANTIFIERS = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,3}", "{2,}"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = st.tuples(st.sampled_from(["(", "(?:"]), inner, QUANTIFIERS).map(lambda t: f"{t[0]}{t[1]}){t[2]}")
    return groups | st.tuples(inner, inner).map("".join) | st.tuples(inner, inner).map("|".join)


BODIES = st.recursive(st.tuples(ATOMS, QUANTIFIERS).map("".join), _larger, max_leaves=6)
PATTERNS = st.tuples(st.sampled_from(["", "^"]), BODIES, st.sampled_from(["", "$"])).map("".join)


@given(PATTERNS, st.integers(0, 1000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_said_is_found(harness: Harness, pattern: str, seed: int) -> None:
    """Any pattern of the subset, anchored or not, with quotes and backslashes in it."""
    text = said(harness, pattern, seed)
    if text is not None:
        assert re.search(pattern, text), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [(r"^\"\\\n$", '"\\\n'), ("^a{3}$", "aaa"), ("^(?:ab){2}$", "abab"), ("^$", ""), (r"^\$\^$", "$^")],
)
def test_an_exact_pattern(harness: Harness, pattern: str, text: str) -> None:
    """Escapes stand for what they name."""
    assert said(harness, pattern, 1) == text


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?=a)", "group"),
        ("(?P<n>a)", "group"),
        (r"(a)\1", "'\\\\1'"),
        (r"\bword", "'\\\\b'"),
        ("a*?", "quantifier"),
        ("a++", "quantifier"),
        ("a$b", "before more"),
        ("(a$)", "not closed"),
        ("a^", "'\\^'"),
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "not closed"),
        ("[]", "empty"),
        ("[z-a]", "range"),
        ("(|a)*", "empty"),
        ("((a{100}){100})", "more than 1000 parts"),
        ("a{,3}", "counts"),
        ("a{3,2}", "wrong way"),
        ("a{1000}", "256 times"),
        ("*a", "'\\*'"),
        (r'["\\]', "JSON escapes"),
        ("a" * 600, "600 characters"),
        ("\x01", "control"),
    ],
)
def test_what_no_grammar_holds_is_refused(pattern: str, why: str) -> None:
    """With the place, or the reason."""
    with pytest.raises(NotHeld, match=why):
        pattern_body(pattern)
