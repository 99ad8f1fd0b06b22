"""Parameters against a template's schema."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Parameter
from appliance.lifecycle.parameters import check, coerce, merge_creation_parameters

WEIGHTS = Parameter(name="weights", type="str", description="an artifact", required=True)
THREADS = Parameter(name="threads", type="int", description="CPU threads")
RATE = Parameter(name="rate", type="float", description="a share")
FLAG = Parameter(name="flag", type="bool", description="yes or no")
SCHEMA = (WEIGHTS, THREADS, RATE, FLAG)


@pytest.mark.parametrize(
    ("parameter", "given_value", "read"),
    [
        (THREADS, 4, 4),
        (THREADS, "4", 4),
        (THREADS, 4.0, 4),
        (RATE, 1, 1.0),
        (RATE, "0.5", 0.5),
        (FLAG, True, True),
        (FLAG, "True", True),
        (FLAG, "false", False),
        (FLAG, 1, True),
        (FLAG, "no", False),
        (WEIGHTS, "4", "4"),
    ],
)
def test_values_are_read_by_their_declared_type(parameter: Parameter, given_value: object, read: object) -> None:
    """One official client sends every value as a string; each is read as what the template declares."""
    found = coerce(parameter, given_value)  # type: ignore[arg-type]

    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (THREADS, 4.5),
        (THREADS, True),
        (THREADS, "four"),
        (THREADS, ""),
        (RATE, True),
        (RATE, "nan"),
        (RATE, "inf"),
        (RATE, "1,5"),
        (FLAG, "maybe"),
        (FLAG, 2),
        (WEIGHTS, 4),
    ],
)
def test_values_of_another_type_are_refused_by_name(parameter: Parameter, value: str | int | float | bool) -> None:
    """The message names the parameter, its type and what was given."""
    with pytest.raises(InvalidParameter, match=rf"'{parameter.name}' must be {parameter.type}, got"):
        coerce(parameter, value)


def test_the_deployment_wins() -> None:
    """Parameters of the model are overridden by those of its deployment."""
    merged = merge_creation_parameters(SCHEMA, {"weights": "a", "threads": 1}, {"threads": "2", "flag": "yes"})

    assert merged == {"weights": "a", "threads": 2, "flag": True}


def test_all_faults_are_named_at_once() -> None:
    """Unknown names, wrong types and missing required ones come in one answer, each with its place."""
    with pytest.raises(InvalidParameter) as refused:
        merge_creation_parameters(SCHEMA, {"wieghts": "a", "threads": "x"}, None)

    assert [location for location, _ in refused.value.errors] == [
        ("model_creation_parameters", "wieghts"),
        ("model_creation_parameters", "threads"),
        ("model_creation_parameters", "weights"),
    ]
    assert "flag, rate, threads, weights" in refused.value.message


def test_a_model_may_leave_things_to_its_deployment() -> None:
    """Before there is a deployment a missing required parameter is no fault."""
    assert check(SCHEMA, {"threads": 1}, where="x", complete=False) == {"threads": 1}


def test_a_template_without_parameters_says_so() -> None:
    """The list of known names is ``none`` rather than empty."""
    with pytest.raises(InvalidParameter, match="knows: none"):
        check((), {"a": 1}, where="x", complete=True)


@given(
    st.sampled_from(SCHEMA),
    st.one_of(st.text(max_size=10), st.integers(), st.floats(), st.booleans()),
)
def test_reading_twice_changes_nothing(parameter: Parameter, value: str | int | float | bool) -> None:
    """What was read is of the declared type and reads as itself; anything else is InvalidParameter."""
    try:
        once = coerce(parameter, value)
    except InvalidParameter:
        return
    assert type(once).__name__ == parameter.type
    assert coerce(parameter, once) == once
