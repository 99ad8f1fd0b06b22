"""The table of fields tells of every field that the official client documents, and of no other."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Struct
from openai.types import completion_create_params as completions
from openai.types import embedding_create_params as embeddings
from openai.types.chat import completion_create_params as chats
from openai.types.responses import response_create_params as responses

from appliance.api.openai import fields
from appliance.domain.errors import Unsupported
from appliance.wire import openai as wire
from appliance.wire.openai_responses import ResponseCreate

DOCUMENTED = [
    (wire.ChatCompletionCreate, chats.CompletionCreateParamsBase.__annotations__),
    (wire.CompletionCreate, completions.CompletionCreateParamsBase.__annotations__),
    (wire.EmbeddingsCreate, embeddings.EmbeddingCreateParams.__annotations__),
    (ResponseCreate, responses.ResponseCreateParamsBase.__annotations__),
]
WRONG_VALUE = {"modalities": ["audio"], "store": True, "background": True}


def names(body: type[Struct]) -> set[str]:
    """The fields of a body."""
    return {field.name for field in msgspec.structs.fields(body)}


@pytest.mark.parametrize(("body", "documented"), DOCUMENTED, ids=lambda value: getattr(value, "__name__", ""))
def test_every_documented_field_is_known(body: type[Struct], documented: dict[str, object]) -> None:
    """The client's parameters are fields here: served, without effect, or refused for a reason."""
    assert set(documented) - names(body) == set()


@pytest.mark.parametrize("body", list(fields.BODIES.values()), ids=lambda body: str(body.__name__))
def test_the_tables_tell_of_fields_that_exist(body: type[Struct]) -> None:
    """Nothing is told of a field that is not there, and nothing is told twice."""
    without, refused = set(fields.NO_EFFECT.get(body, {})), set(fields.REFUSED.get(body, {}))
    assert without <= names(body)
    assert refused <= names(body)
    assert not without & refused


def least(body: type[Struct], **values: object) -> Struct:
    """A body with what it needs, and these values."""
    needed = {field.name: "x" for field in msgspec.structs.fields(body) if field.required}
    return body(**{**needed, **values})


REFUSED = [(body, name) for body, each in fields.REFUSED.items() for name in each]


@pytest.mark.parametrize(("body", "name"), REFUSED, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_not_served_is_refused_by_name(body: type[Struct], name: str) -> None:
    """Set to a value that asks for something, the field is refused; left out or set to a harmless one, it is not."""
    fields.check(least(body))
    for harmless in fields.REFUSED[body][name].harmless:
        fields.check(least(body, **{name: harmless}))
    with pytest.raises(Unsupported, match=f"^at.{name} is not served: ") as raised:
        fields.check(least(body, **{name: WRONG_VALUE.get(name, "something")}), "at.")
    assert raised.value.errors[0][0] == (f"at.{name}",)
