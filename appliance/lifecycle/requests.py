"""``model_request_parameters``: the template's request parameters applied to a request. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import Sampling
from appliance.domain.models import Parameter, Parameters
from appliance.lifecycle import parameters
from appliance.wire.limits import Penalty, Probability, Seed, TopK


class _SamplingRanges(Struct, kw_only=True):
    """The ranges of the sampling parameters that a template may offer."""

    top_k: TopK = 0
    top_p: Probability = 1.0
    min_p: Probability = 0.0
    repetition_penalty: Penalty = 1.0
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    seed: Seed | None = None


def bindings_of(schema: Sequence[Parameter], bindings: Mapping[str, str | int | float | bool] | None) -> Parameters:
    """The bindings by their declared types. Raises InvalidParameter for names that are not declared."""
    if not bindings:
        return {}
    return parameters.check(schema, bindings, where="model_request_parameters", complete=True)


def with_sampling(sampling: Sampling, bindings: Parameters) -> Sampling:
    """Sampling with the bound parameters in it. Raises InvalidParameter for one out of its range."""
    known = {field.name for field in structs.fields(_SamplingRanges)}
    chosen: dict[str, Any] = {name: value for name, value in bindings.items() if name in known}
    try:
        msgspec.convert(chosen, _SamplingRanges)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"model_request_parameters: {error}") from error
    return structs.replace(sampling, **chosen)
