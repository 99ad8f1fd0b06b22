"""What the console's client makes of the routes of fine-tuning."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.tui.support import fixed_trainings
from tests.tui.support.fixed_node import FixedNode, json_answer
from tui.client import Client
from tui.training import MOST_CONTENT_BYTES, TrainingClient, first_of_array

RUNNING = fixed_trainings.FINE_TUNINGS[-1]


@pytest.fixture
def training(node: FixedNode) -> TrainingClient:
    return TrainingClient(Client("http://appliance.example", "a-key", httpx.MockTransport(node.answer)))


@pytest.mark.parametrize("end", range(1, 60))
def test_an_array_that_is_cut_anywhere(end: int) -> None:
    """Whole elements are read, whatever comes after them."""
    elements = [{"input": "a [ } b", "output": "ü"}, {"input": "c", "output": ""}, {"n": 1}]
    text = json.dumps(elements, separators=(",", ":"))[:end]
    found = first_of_array(text, 10)
    assert found == elements[: len(found)]
    assert len(found) == sum(text.startswith(json.dumps(elements[:n], separators=(",", ":"))[:-1]) for n in (1, 2, 3))


async def test_no_more_examples_than_asked(training: TrainingClient) -> None:
    """The rest of a dataset is not shown."""
    assert await training.first_examples("data-2", 1) == fixed_trainings.EXAMPLES[:1]


async def test_a_dataset_is_not_fetched_to_its_end(training: TrainingClient, node: FixedNode) -> None:
    """After what is enough to show, the rest stays on the server; control characters are replaced."""
    sent = 0

    async def endless() -> object:
        nonlocal sent
        yield b"["
        while True:
            sent += 1
            yield json.dumps({"input": "\x1b[31m" + "x" * 1000}).encode() + b","

    node.routes["GET", "/v4/training-datasets/data-1/contents"] = lambda _: httpx.Response(200, content=endless())
    examples = await training.first_examples("data-1", 3)
    assert [example["input"][:5] for example in examples] == ["\ufffd[31m"] * 3
    assert sent < MOST_CONTENT_BYTES / 1000 + 1


async def test_a_job_that_ended_while_one_was_asked_is_not_removed(training: TrainingClient, node: FixedNode) -> None:
    """Deleting a job that has ended would remove its record: it comes back as it is."""
    ended = fixed_trainings.FINE_TUNINGS[1]
    assert await training.cancel_job(ended.id) == ended
    assert [request.method for request in node.requests] == ["GET"]
    node.routes["DELETE", f"/v4/fine-tuning-jobs/{RUNNING.id}"] = lambda _: json_answer({"count": 1, "success": True})
    await training.cancel_job(RUNNING.id)
    assert node.requests[-1].method == "DELETE"
