"""Parameters against the schema that a template declares. Pure functions.

Creation parameters must fit exactly: unknown names and missing required ones are refused by name. Request bindings
are read by their declared type, because one official client sends every value as a string.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Parameter, Parameters

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}

Value = str | int | float | bool


def merge_creation_parameters(
    schema: Sequence[Parameter], of_model: Parameters | None, of_deployment: Parameters | None
) -> Parameters:
    """The parameters a deployment is made with: the model's, overridden by the deployment's.

    Raises InvalidParameter naming every unknown, missing or mistyped one.
    """
    merged = {**(of_model or {}), **(of_deployment or {})}
    return check(schema, merged, where="model_creation_parameters", complete=True)


def check(schema: Sequence[Parameter], values: Mapping[str, Value], *, where: str, complete: bool) -> Parameters:
    """Return ``values`` with every value of its declared type.

    ``complete``: also refuse a missing required parameter. ``where`` names the field in the errors.
    """
    declared = {parameter.name: parameter for parameter in schema}
    faults: list[tuple[tuple[str | int, ...], str]] = []
    checked: Parameters = {}
    for name, value in values.items():
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            faults.append(((where, name), f"unknown parameter '{name}'; the template knows: {known}"))
            continue
        try:
            checked[name] = coerce(declared[name], value)
        except InvalidParameter as error:
            faults.append(((where, name), error.message))
    if complete:
        faults += [
            ((where, p.name), f"missing required parameter '{p.name}' ({p.description})")
            for p in schema
            if p.required and p.name not in values
        ]
    if faults:
        raise InvalidParameter("; ".join(message for _, message in faults), errors=faults)
    return checked


def coerce(parameter: Parameter, value: Value) -> Value:
    """Read a value as the declared type: ``"1"`` is 1 for an int, ``"True"`` is true for a bool."""
    try:
        return _CASTS[parameter.type](value)
    except (ValueError, KeyError):
        shown = repr(value)[:64]
        raise InvalidParameter(f"parameter '{parameter.name}' must be {parameter.type}, got {shown}") from None


def _to_str(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _to_int(value: Value) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def _to_float(value: Value) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError
    return number


def _to_bool(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError


_CASTS: dict[str, Callable[[Value], Value]] = {"str": _to_str, "int": _to_int, "float": _to_float, "bool": _to_bool}
