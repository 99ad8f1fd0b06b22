"""``model_request_parameters``: bindings by their declared types, in their ranges."""

from __future__ import annotations

import pytest

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import Sampling
from appliance.domain.models import Parameter
from appliance.lifecycle.requests import bindings_of, with_sampling
from tests.lifecycle.things import template


@pytest.fixture
def offered() -> tuple[Parameter, ...]:
    return template(request_parameters={"top_k": "int", "top_p": "float", "seed": "int"}).request_parameters


def test_strings_become_numbers(offered: tuple[Parameter, ...]) -> None:
    """The bindings of one official client, all strings, reach the sampler as numbers."""
    bindings = bindings_of(offered, {"top_k": "3", "top_p": "0.5", "seed": "7"})

    assert with_sampling(Sampling(), bindings) == Sampling(top_k=3, top_p=0.5, seed=7)


def test_what_the_template_does_not_offer_is_refused(offered: tuple[Parameter, ...]) -> None:
    """An undeclared name is refused with the declared ones."""
    with pytest.raises(InvalidParameter, match=r"'min_p'.*seed, top_k, top_p"):
        bindings_of(offered, {"min_p": 0.1})


def test_where_nothing_is_offered() -> None:
    """No bindings are fine; any binding is refused."""
    assert bindings_of((), {}) == {}
    with pytest.raises(InvalidParameter, match="knows: none"):
        bindings_of((), {"top_k": 1})


@pytest.mark.parametrize("bindings", [{"top_p": 1.5}, {"top_k": -1}, {"seed": 2**63}])
def test_ranges_hold_here_too(bindings: dict[str, float]) -> None:
    """A value that a dialect would refuse in its own field is refused as a binding."""
    with pytest.raises(InvalidParameter, match=r"model_request_parameters.*\$\.(top_p|top_k|seed)"):
        with_sampling(Sampling(), bindings)


def test_others_are_left_alone() -> None:
    """Bindings that are no sampling parameters change nothing in the sampling."""
    assert with_sampling(Sampling(top_k=5), {"normalize": True}) == Sampling(top_k=5)
