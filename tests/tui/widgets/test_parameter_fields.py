"""The form's fields for a template's parameters."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Input, Select

from tests.tui.support.fixed_records import ARTIFACTS, WEIGHTS, parameter
from tui.widgets.field_row import FieldError
from tui.widgets.parameter_fields import ParameterFields

FIELDS = [
    WEIGHTS,
    parameter("threads", "int", "CPU threads"),
    parameter("top_p", "float", "probability mass"),
    parameter("normalize", "bool", "scale vectors"),
    parameter("pooling", "str", "mean or cls"),
]


class _Bench(App[None]):
    """An application with nothing but the fields."""

    def compose(self) -> ComposeResult:
        yield ParameterFields()


async def test_values_by_type() -> None:
    """Each value has the type that its template declares; what was left empty is not sent."""
    async with _Bench().run_test() as pilot:
        fields = pilot.app.query_one(ParameterFields)
        await fields.show(FIELDS, ARTIFACTS)
        weights, normalize = fields.query(Select)
        threads, top_p, _ = fields.query(Input)
        weights.value, normalize.value = "smollm2-360m-q8", "false"
        threads.value, top_p.value = "4", "0.9"
        assert fields.values() == {"weights": "smollm2-360m-q8", "threads": 4, "top_p": 0.9, "normalize": False}


async def test_missing_weights() -> None:
    """What must be given is asked for by name."""
    async with _Bench().run_test() as pilot:
        fields = pilot.app.query_one(ParameterFields)
        await fields.show(FIELDS, ARTIFACTS)
        with pytest.raises(FieldError, match="weights is missing"):
            fields.values()


async def test_wrong_number() -> None:
    """A word where a number belongs is refused with the parameter's name and meaning."""
    async with _Bench().run_test() as pilot:
        fields = pilot.app.query_one(ParameterFields)
        await fields.show(FIELDS[1:], ARTIFACTS)
        fields.query(Input).first().value = "many"
        with pytest.raises(FieldError, match=r"threads: 'many' is not a whole number \(CPU threads\)"):
            fields.values()


async def test_overrides() -> None:
    """On a deployment nothing must be given, and the empty fields show what the model says."""
    async with _Bench().run_test() as pilot:
        fields = pilot.app.query_one(ParameterFields)
        await fields.show(FIELDS, ARTIFACTS, present={"weights": "phi-4-mini-q4", "threads": 2})
        assert fields.values() == {}
        assert [control.placeholder for control in fields.query(Input)] == ["as the model: 2", "default", "default"]
