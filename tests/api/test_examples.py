"""The examples of the document at /schema fit what stands beside them, and those that can be sent are answered so."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from appliance.api.description.examples import EXAMPLES
from appliance.api.description.examples.base import BUILT_IN, Example
from appliance.api.description.operations import operations
from appliance.app import ROUTES
from tests.support.described import Described
from tests.support.server import Server

EVERY = [(operation, example) for operation, examples in EXAMPLES.items() for example in examples]
FORMS = {"openaiCreateFile", "v4BetaCreateFile", "v5CreateFile", "v3CreateTrainingDataset", "v4CreateTrainingDataset"}
"""Operations that take a form."""
SENT = [(operation, example) for operation, example in EVERY if example.runs]


def named(pair: tuple[str, Example]) -> str:
    return f"{pair[0]} {pair[1].name}"


@pytest.fixture(scope="module")
def described(fresh: Server) -> Iterator[Described]:
    found = Described(fresh)
    yield found
    found.client.close()


class Ids:
    """What the ids in the examples stand for on the server."""

    def __init__(self, client: httpx.Client) -> None:
        self._real: dict[str, str] = {}
        models = {model["name"]: model["id"] for model in client.get("/v3/models").json()}
        deployments = {model["id"]: model["deployment_id"] for model in client.get("/v1/models").json()["data"]}
        for name, (model, deployment) in BUILT_IN.items():
            self._real |= {model: models[name], deployment: deployments[name]}

    def learn(self, example: Example, answer: Any) -> None:
        """What an example has made."""
        if example.makes:
            names = ("id", "account_id", "model_server_id")
            record = answer.get("key", answer)
            self._real[example.makes] = next(record[name] for name in names if name in record)
            if "model_server_id" in record:
                self._real[example.makes] = record["model_server_id"]

    def real(self, value: Any) -> Any:
        """The same with real ids."""
        text = json.dumps(value)
        for shown, real in self._real.items():
            text = text.replace(shown, real)
        return json.loads(text)


@pytest.fixture(scope="module")
def ids(described: Described) -> Ids:
    return Ids(described.client)


def test_every_body_has_an_example() -> None:
    """Each operation that takes a body shows one, and no example is of an operation that is not there."""
    known = operations(ROUTES)
    taking = {name for name, operation in known.items() if operation.bodies} | FORMS
    assert taking - set(EXAMPLES) == set()
    assert set(EXAMPLES) - taking == set()


@pytest.mark.parametrize("pair", EVERY, ids=named)
def test_an_example_fits_its_schemas(pair: tuple[str, Example], described: Described) -> None:
    """A body fits the request's schema, an answer the schema of success, field by field."""
    name, example = pair
    described.body_schema(name).validate(example.body)
    if example.answer is not None:
        described.answer_schema(name, closed=True).validate(example.answer)


@pytest.mark.parametrize("pair", SENT, ids=named)
def test_an_example_is_answered_as_described(pair: tuple[str, Example], described: Described, ids: Ids) -> None:
    """Sent to a fresh appliance, it is a 200 that fits its schema and has no field that is not described."""
    name, example = pair
    answer = described.send(name, ids.real(example.body), ids.real(example.path), example.query)

    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("application/json"):
        described.answer_schema(name, closed=True).validate(answer.json())
        ids.learn(example, answer.json())
    else:
        pieces = described.pieces(name, answer)
        assert pieces  # on a busy machine a short answer may come in one
        schema = described.piece_schema(name, closed=True)
        for piece in pieces:
            schema.validate(piece)


def test_contents_of_datasets_are_as_described(described: Described) -> None:
    """Inputs, conversations and pairs, as they were uploaded, have no field that is not described."""
    for example in EXAMPLES["v4CreateTrainingDataset"]:
        made = described.send("v4CreateTrainingDataset", example.body, {}, {}).json()
        contents = described.client.get(f"/v4/training-datasets/{made['id']}/contents").raise_for_status().json()
        assert len(contents) == 2
        described.answer_schema("v4ListTrainingDatasetContents", closed=True).validate(contents)


def test_a_wrong_example_would_be_found(described: Described) -> None:
    """The schemas bite: a body with a field too many, and an answer with one too few, do not fit."""
    example = EXAMPLES["openaiCreateChatCompletion"][0]
    with pytest.raises(jsonschema.ValidationError):
        described.body_schema("openaiCreateChatCompletion").validate({**example.body, "unheard_of": 1})
    answer = copy.deepcopy(example.answer)
    del answer["usage"]["total_tokens"]
    with pytest.raises(jsonschema.ValidationError):
        described.answer_schema("openaiCreateChatCompletion").validate(answer)
