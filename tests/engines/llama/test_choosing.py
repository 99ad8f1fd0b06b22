"""Choosing beside each other: the same tokens as one after the other, and one failure stays one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import Sampling
from appliance.engines.llama.choosing import Chooser
from appliance.engines.llama.runtime import Floats, Grammar, Ints, Model
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


def rows(model: Model, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((len(GRAMMARS) + 1, model.vocabulary.size), dtype=np.float32)


@pytest.mark.parametrize("greedy", [True, False])
def test_together_they_choose_what_each_chooses_alone(model: Model, chooser: Chooser, greedy: bool) -> None:
    """Over several steps, free and constrained ones mixed, in the order of the rows."""
    together, alone = samplers(model, greedy=greedy), samplers(model, greedy=greedy)
    for step in range(2):
        chosen = chooser.choose(together, rows(model, step))
        lone = zip(alone, rows(model, step), strict=True)
        assert chosen == [chooser.choose([sampler], row[np.newaxis])[0] for sampler, row in lone]
    for sampler in together + alone:
        sampler.close()


def test_what_chance_decides_is_the_same_in_company(model: Model, chooser: Chooser) -> None:
    """Free choices of a step are made together, and penalties follow them."""
    sampling = [Sampling(temperature=0.5 + seed, seed=seed, presence_penalty=1.5) for seed in range(4)]
    together, alone = ([Sampler(each, NO_PROMPT) for each in sampling] for _ in range(2))
    for step in range(6):
        chosen = chooser.choose(together, rows(model, step))
        lone = zip(alone, rows(model, step), strict=True)
        assert chosen == [chooser.choose([sampler], row[np.newaxis])[0] for sampler, row in lone]


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
