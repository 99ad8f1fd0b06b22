"""Choosing beside each other: the same tokens as one after the other, and one failure stays one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import Sampling
from appliance.engines.llama.choosing import Chooser
from appliance.engines.llama.runtime import Grammar, Ints, Model
from appliance.engines.llama.sampler import Law, Sampler
from appliance.engines.llama.text import Pieces

NO_PROMPT: Ints = np.array([1], dtype=np.int32)
GRAMMARS = ('root ::= "ja" | "nein"', "root ::= [0-9]+", 'root ::= "z" [a-y]*')


@pytest.fixture
def model(weights: Path) -> Iterator[Model]:
    model = Model(weights)
    yield model
    model.close()


@pytest.fixture
def chooser(model: Model) -> Iterator[Chooser]:
    chooser = Chooser(model.vocabulary.size, 3)
    yield chooser
    chooser.close()
    chooser.close()


def samplers(model: Model, *, greedy: bool = False) -> list[Sampler]:
    """A free one, then one for each grammar."""
    pieces = Pieces(model.vocabulary)
    sampling = Sampling(temperature=0.0 if greedy else 1.0, seed=4)
    laws = [None, *(Law(Grammar.compile(model.vocabulary, gbnf), pieces) for gbnf in GRAMMARS)]
    return [Sampler(sampling, NO_PROMPT, law=law) for law in laws]


def rows(model: Model, seed: int) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    made = np.random.default_rng(seed).standard_normal((len(GRAMMARS) + 1, model.vocabulary.size), dtype=np.float32)
    return list(made)


@pytest.mark.parametrize("greedy", [True, False])
def test_together_they_choose_what_each_chooses_alone(model: Model, chooser: Chooser, greedy: bool) -> None:
    """Over several steps, free and constrained ones mixed, in the order of the rows."""
    together, alone = samplers(model, greedy=greedy), samplers(model, greedy=greedy)
    for step in range(2):
        chosen = chooser.choose(together, rows(model, step))
        assert chosen == [chooser.choose([s], [row])[0] for s, row in zip(alone, rows(model, step), strict=True)]
    for sampler in together + alone:
        sampler.close()


def test_a_grammar_without_a_way_out_fails_its_own_generation_only(model: Model, chooser: Chooser) -> None:
    """The others have their tokens; the stuck one has its reason."""
    everyone, logits = samplers(model), rows(model, 0)
    logits[1][:] = -np.inf
    logits[1][0] = 0.0
    free, stuck, *others = chooser.choose(everyone, logits)
    assert isinstance(stuck, InvalidParameter)
    assert all(isinstance(choice, int) for choice in (free, *others))
    for sampler in everyone:
        sampler.close()
