"""Training datasets through the official clients and plain HTTP: made, read, counted, refused with their lines."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import PydanticDeprecatedSince20
from scale_egp.sdk.client import EGPClient
from scale_gp import APIStatusError, SGPClient, UnprocessableEntityError

from tests.contract.conftest import name_of_its_own
from tests.support.fine_tunings import EXAMPLES, PAIRS, Upload
from tests.support.server import Server

with warnings.catch_warnings():
    # the client's fine-tuning types call pydantic 2's Field the way pydantic 1 took it
    warnings.simplefilter("ignore", PydanticDeprecatedSince20)
    from scale_egp.sdk.collections.fine_tuning import TrainingDatasetCollection


@pytest.fixture(autouse=True)
def none_is_left(admin: httpx.Client) -> Iterator[None]:
    """Datasets that a test has made on the shared server go with it."""
    before = {dataset["id"] for dataset in admin.get("/v3/training-datasets").json()}
    yield
    for dataset in admin.get("/v3/training-datasets").json():
        if dataset["id"] not in before:
            admin.delete(f"/v3/training-datasets/{dataset['id']}").raise_for_status()


def test_a_dataset_through_v4s_strict_client(sgp: SGPClient, upload: Upload) -> None:
    """Made from text, listed, read back line by line, deleted; each answer is as its types say."""
    text = EXAMPLES.replace("\n", "\r\n")
    made = upload(text)
    assert (made.schema_type, made.data_source) == ("GENERATION", "LocalFile")
    assert made.examples == 40  # type: ignore[attr-defined]
    assert made.size_bytes == len(text), "line ends were changed"  # type: ignore[attr-defined]
    assert sgp.training_datasets.retrieve(made.id) == made
    assert made.id in {dataset.id for dataset in sgp.training_datasets.list(limit=1)}
    contents = list(sgp.training_datasets.contents.list(made.id))
    assert [(row.input, row.output) for row in contents[:2]] == [
        ("question 0?", "answer 0."),
        ("question 1?", "answer 1."),
    ]
    assert len(contents) == 40
    deleted = sgp.training_datasets.delete(made.id)
    assert (deleted.count, deleted.success) == (1, True)
    with pytest.raises(APIStatusError) as gone:
        sgp.training_datasets.retrieve(made.id)
    assert gone.value.status_code == 404


def test_contents_of_conversations_and_pairs_are_readable_too(sgp: SGPClient, upload: Upload) -> None:
    """What is no input and output is shown as such, with its own keys beside them."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (row,) = sgp.training_datasets.contents.list(upload(json.dumps({"messages": turns})).id)
    assert (row.input, row.output, row.messages) == ("user: a", "b", turns)  # type: ignore[attr-defined]
    first = next(iter(sgp.training_datasets.contents.list(upload(PAIRS, "RERANKING_QUESTIONS").id)))
    assert (first.input, first.output, first.positive) == ("what is 0", "0 is a number", True)  # type: ignore[attr-defined]


def test_bytes_and_file_objects_are_not_taken_for_text(upload: Upload, tmp_path: Path) -> None:
    """v4's client sends how Python shows them; that is refused with what to send instead."""
    path = tmp_path / "examples.jsonl"
    path.write_text(EXAMPLES)
    with pytest.raises(UnprocessableEntityError, match="decode"):
        upload(EXAMPLES.encode())
    with path.open("rb") as file, pytest.raises(UnprocessableEntityError, match="read_text"):
        upload(file)
    with path.open() as text_file, pytest.raises(UnprocessableEntityError, match="read_text"):
        upload(text_file)


def test_a_dataset_through_v3s_client(egp: EGPClient, tmp_path: Path) -> None:
    """Its file part is taken; get and list, which it reads as jobs, work as well."""
    path = tmp_path / "examples.jsonl"
    path.write_text(EXAMPLES)
    collection = TrainingDatasetCollection(egp)
    made = collection.create(file_name=str(path))
    assert made.name == "examples.jsonl"
    assert made.schema_type.value == "GENERATION"  # type: ignore[attr-defined]
    assert collection.get(made.id).training_dataset_id == made.id
    assert made.id in {dataset.id for dataset in collection.list()}
    raw = collection.create(file_content=EXAMPLES.encode(), name="raw")
    assert raw.name == "raw"
    assert collection.delete(made.id)
    assert collection.delete(raw.id)


def sent(client: httpx.Client, content: bytes, schema_type: str = "GENERATION", **more: Any) -> httpx.Response:
    data = {"name": name_of_its_own("bad"), "schema_type": schema_type, **more}
    return client.post("/v3/training-datasets", data=data, files={"file": ("x.jsonl", content)})


GOOD = b'{"input": "a", "output": "b"}\n'
BAD: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "nothing": ("GENERATION", b"\n \n", ("no examples",)),
    "no JSON": ("GENERATION", GOOD + b"input, output\n", ("line 2", "not JSON")),
    "no UTF-8": ("GENERATION", GOOD + b'{"input": "\xff", "output": "b"}\n', ("line 2", "UTF-8")),
    "no object": ("GENERATION", b'["a", "b"]\n', ("line 1", "a list")),
    "a missing key": ("GENERATION", GOOD * 2 + b'{"input": "a"}\n', ("line 3", "'output' is missing")),
    "an unknown key": ("GENERATION", b'{"input": "a", "output": "b", "id": 1}\n', ("line 1", "'id'")),
    "a number for text": ("GENERATION", b'{"input": "a", "output": 1}\n', ("line 1", "must be text, not a number")),
    "empty text": ("GENERATION", b'{"input": "a", "output": " "}\n', ("line 1", "'output' is empty")),
    "an unknown role": (
        "GENERATION",
        b'{"messages": [{"role": "bot", "content": "a"}]}\n',
        ("line 1", "messages[0]", "'bot'"),
    ),
    "no answer": (
        "GENERATION",
        b'{"messages": [{"role": "user", "content": "a"}]}\n',
        ("line 1", "must be the assistant's"),
    ),
    "a word for a truth": (
        "RERANKING_QUESTIONS",
        b'{"question": "a", "chunk": "b", "positive": "yes"}\n',
        ("line 1", "true or false"),
    ),
    "the other schema": ("RERANKING_QUESTIONS", GOOD, ("line 1", "'question'")),
    "a long line": ("GENERATION", GOOD + b'{"input": "' + b"a" * 1_100_000 + b'"}\n', ("line 2", "dataset_line_bytes")),
    "a byte order mark": ("GENERATION", b"\xef\xbb\xbf" + GOOD, ("line 1", "byte order mark")),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_dataset_is_refused_with_its_lines(member: httpx.Client, what: str) -> None:
    """Nothing of it is kept, and the answer names each line and what is wrong with it."""
    schema_type, content, words = BAD[what]
    before = len(member.get("/v3/training-datasets").json())
    answer = sent(member, content, schema_type)
    assert answer.status_code == 422, answer.text
    for word in words:
        assert word in answer.json()["detail"]
    assert len(member.get("/v3/training-datasets").json()) == before


def test_of_many_bad_lines_the_first_are_listed(member: httpx.Client) -> None:
    """Twenty with their numbers, and the count of all."""
    answer = sent(member, GOOD + b"{}\n" * 50).json()
    assert answer["detail"].startswith("50 of 51 lines are wrong: line 2: ")
    assert answer["detail"].endswith("and 30 more lines")
    assert [error["loc"] for error in answer["errors"]] == [["file", number] for number in range(2, 22)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"schema_type": "OTHER"}, "schema_type must be GENERATION or RERANKING_QUESTIONS"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"purpose": "batch"}, "'purpose' is not known"),
        ({"account_id": "somebody-elses"}, "cannot use"),
    ],
)
def test_a_wrong_form_is_refused(member: httpx.Client, fields: dict[str, str], words: str) -> None:
    """With the field that is wrong; another account's is forbidden."""
    answer = sent(member, GOOD, **{"schema_type": "GENERATION", **fields})
    assert answer.status_code == (403 if "account_id" in fields else 422), answer.text
    assert words in answer.json()["detail"]
    assert member.post("/v3/training-datasets", data={"name": "x", "schema_type": "GENERATION"}).status_code == 422


def test_tokens_by_the_base_models_tokenizer(server: Server, admin: httpx.Client, upload: Upload) -> None:
    """Counted without loading the weights, and as the engine counts them."""
    dataset = upload(json.dumps({"input": "Hello", "output": "Good day to you"}) + "\n" + EXAMPLES)
    path = f"/admin/training-datasets/{dataset.id}/tokens"
    loaded = server.metric("appliance_loads_total")
    found = admin.get(path, params={"base_model": "starter-chat"}).raise_for_status().json()
    assert found["examples"] == 41
    assert 0 < found["min_tokens"] <= found["median_tokens"] <= found["p95_tokens"] <= found["max_tokens"]
    assert found["longer"] == 0
    assert found["sequence_length"] > 0
    short = admin.get(path, params={"base_model": "starter-chat", "sequence_length": found["min_tokens"]}).json()
    assert 0 < short["longer"] < 41
    assert server.metric("appliance_loads_total") == loaded
    wrong = admin.get(path, params={"base_model": "starter-embed"})
    assert wrong.status_code == 422
    assert "RERANKING_QUESTIONS" in wrong.json()["detail"]
    pairs = upload(PAIRS, "RERANKING_QUESTIONS")
    counted = admin.get(f"/admin/training-datasets/{pairs.id}/tokens", params={"base_model": "starter-rerank"})
    assert counted.raise_for_status().json()["max_tokens"] > 5
