"""What moves logits before a token is chosen."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from appliance.domain.inference import Sampling
from appliance.engines.llama.runtime import Candidates
from appliance.engines.llama.sampler import Sampler

NO_CANDIDATES = cast("Candidates", None)
"""Asked for by grammars only."""


def picked(sampling: Sampling, banned: tuple[int, ...] = ()) -> tuple[int, list[float]]:
    logits = np.zeros(100, dtype=np.float32)
    sampler = Sampler(sampling, np.empty(0, dtype=np.int32), banned=banned)
    return sampler.pick(logits, NO_CANDIDATES), logits.tolist()


@pytest.mark.parametrize("count", [0, 1, 16, 17, 60])
def test_biases_are_added_however_many_there_are(count: int) -> None:
    """To their tokens and to no other."""
    biases = {token: token / 8 for token in range(count)}
    token, logits = picked(Sampling(temperature=0.0, logit_bias=biases))
    assert logits == [biases.get(each, 0.0) for each in range(100)]
    assert token == max(count - 1, 0)


def test_a_banned_token_is_not_chosen_whatever_its_bias() -> None:
    """As the end is with ignore_eos."""
    token, logits = picked(Sampling(temperature=0.0, logit_bias={5: 100.0, 7: 50.0}), banned=(5,))
    assert token == 7
    assert logits[5] == -np.inf
