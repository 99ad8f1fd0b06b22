"""Schemas of any shape, what a model says under a grammar, and whether it may say a text."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from appliance.domain.inference import FinishReason, Sampling
from appliance.engines.llama.ranges import FORMATS
from appliance.engines.llama.runtime import Candidates, Grammar
from tests.engines.llama.by_hand import Harness

Json = dict[str, Any]


def answer(harness: Harness, gbnf: str, seed: int = 1, most: int = 900) -> str:
    reader = harness.start("x", most, sampling=Sampling(temperature=1.0, seed=seed), gbnf=gbnf)
    harness.finish()
    assert reader.error is None
    assert reader.reason is FinishReason.STOP
    return reader.text


def accepts(harness: Harness, gbnf: str, text: str) -> bool:
    """Whether the grammar lets a model say this text and then end."""
    vocabulary = harness.model.vocabulary
    grammar, candidates = Grammar.compile(vocabulary, gbnf), Candidates(vocabulary.size)
    for token in [*vocabulary.tokenize(text, add_special=False).tolist(), vocabulary.eos]:
        candidates.fill(np.array([token], dtype=np.int32), np.ones(1, dtype=np.float32))
        grammar.filter(candidates)
        if not candidates.allowed()[0]:
            return False
        grammar.accept(token)
    return True


names = st.text('ab"\\é\n', min_size=1, max_size=3)
leaves = st.one_of(
    st.sampled_from([{"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]),
    st.tuples(st.integers(0, 3), st.integers(0, 4)).map(
        lambda pair: {"type": "string", "minLength": pair[0], "maxLength": pair[0] + pair[1]}
    ),
    st.lists(st.sampled_from([1, "a", None, True, 2.5, 'q"\\', [1, {"a": None}]]), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from([{"const": "é"}, {"type": ["integer", "null"]}]),
    st.sampled_from(sorted(FORMATS)).map(lambda name: {"type": "string", "format": name}),
    st.sampled_from(["^[a-f]{2,4}$", "^a$|^b$", r"^\d{1,2}(\.\d)?$", '^(a|[^b"]b){0,2}$']).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.tuples(st.integers(-2000, 2000), st.integers(0, 3000)).map(
        lambda pair: {"type": "integer", "minimum": pair[0], "maximum": pair[0] + pair[1]}
    ),
    st.tuples(st.integers(-120, 120), st.integers(1, 120), st.booleans(), st.booleans()).map(
        lambda t: {
            "type": "number",
            "minimum" if t[2] else "exclusiveMinimum": t[0],
            "maximum" if t[3] else "exclusiveMaximum": t[0] + t[1],
        }
    ),
)


def _containers(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    arrays = st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
        lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
    )
    objects = st.dictionaries(names, inner, max_size=4).flatmap(
        lambda properties: st.sets(st.sampled_from(sorted(properties)) if properties else st.nothing()).map(
            lambda required: {
                "type": "object",
                "properties": properties,
                "required": sorted(required),
                "additionalProperties": False,
            }
        )
    )
    alternatives = st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each})
    tuples = st.lists(inner, min_size=1, max_size=3).map(
        lambda each: {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    )
    return st.one_of(arrays, objects, alternatives, tuples, inner.map(lambda each: {"allOf": [each]}))


schemas = st.recursive(leaves, _containers, max_leaves=5)
