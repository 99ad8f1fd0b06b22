"""The templates that come with the appliance agree with what its backends read."""

from __future__ import annotations

import msgspec
import pytest

from appliance.domain.models import BackendName, ModelType
from appliance.lifecycle.schemas import request_schema, response_schema
from appliance.lifecycle.shipped import SHIPPED, ShippedTemplate, vendor_configuration
from appliance.wire import sgp_v3

each = pytest.mark.parametrize("shipped", SHIPPED, ids=lambda s: str(s.name))


def test_names_and_types() -> None:
    """One template per backend and model type, each named once."""
    assert len({s.name for s in SHIPPED}) == len(SHIPPED)
    assert len({(s.backend, s.model_type) for s in SHIPPED}) == len(SHIPPED)
    assert {s.model_type for s in SHIPPED} == set(ModelType)


@each
def test_weights_are_what_must_be_given(shipped: ShippedTemplate) -> None:
    """Every template needs the name of an artifact and nothing else."""
    assert [p.name for p in shipped.creation_parameters if p.required] == ["weights"]
    assert not any(p.required for p in shipped.request_parameters)


@each
def test_a_shipped_template_could_have_been_created(shipped: ShippedTemplate) -> None:
    """Its vendor configuration and its schemas pass the checks that an administrator's template has to."""
    vendor = vendor_configuration(shipped.backend, "1.0", shipped.endpoint_type)
    body = {
        "name": shipped.name,
        "endpoint_type": shipped.endpoint_type,
        "model_type": shipped.model_type.value,
        "vendor_configuration": vendor,
        "model_creation_parameters_schema": {
            "parameters": [msgspec.to_builtins(p) for p in shipped.creation_parameters],
        },
    }

    read = msgspec.json.decode(msgspec.json.encode(body), type=sgp_v3.TemplateCreate)

    assert read.vendor_configuration.bundle_config.registry == "local"
    assert read.vendor_configuration.bundle_config.image == shipped.backend.value


def test_what_the_templates_ask_of_the_machine() -> None:
    """No GPU unless the configuration says so, and numbers that limit nothing."""
    plain = vendor_configuration(BackendName.LLAMA, "1.0", "SYNC")["endpoint_config"]
    assert (plain["gpus"], plain["cpus"], plain["memory"]) == (0, 1024, "1024Ti")
    assert vendor_configuration(BackendName.LLAMA, "1.0", "SYNC", gpus=2)["endpoint_config"]["gpus"] == 2


@pytest.mark.parametrize("model_type", list(ModelType))
def test_each_type_has_its_schemas(model_type: ModelType) -> None:
    """Request and response schema of a model are self-contained JSON Schemas of objects."""
    for schema in (request_schema(model_type), response_schema(model_type)):
        assert "$defs" in schema or schema.get("type") == "object"
