"""The ``openai`` client against ``/v1/files`` and ``/v1/batches``: upload, run, poll, fetch, cancel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from tests.contract.conftest import CallLog, Starters
from tests.support import chain
from tests.support.server import Server

CHAT, EMBED = "starter-chat", "starter-embed"
FINAL = {"completed", "failed", "cancelled", "expired"}


def chat_line(custom_id: str, text: str, **body: Any) -> dict[str, Any]:
    """A request of a batch."""
    asked = {"model": CHAT, "messages": [{"role": "user", "content": text}], "max_tokens": 4, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked}


def embedding_line(custom_id: str, texts: list[str]) -> dict[str, Any]:
    """A request of a batch."""
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": EMBED, "input": texts},
    }


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """The official client with a member's key. What a test leaves in its account is removed."""
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.member_key, max_retries=0, timeout=60) as made:
        yield made
        for file in made.files.list():
            made.files.delete(file.id)


def upload(client: OpenAI, lines: list[dict[str, Any]]) -> str:
    """The id of a file with these lines."""
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return client.files.create(file=("requests.jsonl", content), purpose="batch").id


def ended(client: OpenAI, batch_id: str) -> Batch:
    """The batch once it has ended."""

    def look() -> Batch | None:
        found = client.batches.retrieve(batch_id)
        return found if found.status in FINAL else None

    return chain.until(look, f"{batch_id} ends")


def lines_of(client: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of an output file by their custom_id."""
    assert file_id is not None
    rows = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    found = {row["custom_id"]: row for row in rows}
    assert len(found) == len(rows), "a custom_id stands in the output twice"
    return found


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_kept_as_it_was_sent(client: OpenAI) -> None:
    """What is uploaded is listed, retrieved and downloaded byte by byte, until it is deleted."""
    content = b'{"custom_id": "a"}\n\xe2\x82\xac\n'
    made = client.files.create(file=("täglich.jsonl", content), purpose="batch")
    assert (made.object, made.purpose, made.bytes, made.filename) == ("file", "batch", len(content), "täglich.jsonl")
    assert client.files.retrieve(made.id) == made
    assert made in list(client.files.list(purpose="batch"))
    assert made not in list(client.files.list(purpose="batch_output"))
    assert client.files.content(made.id).read() == content
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


def test_files_are_listed_page_by_page(client: OpenAI) -> None:
    """The client's own paging finds every file once, newest first, or oldest first when asked."""
    made = [client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="batch").id for n in range(5)]
    assert [file.id for file in client.files.list(limit=2)][:5] == made[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc") if file.id in made] == made


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_of_chats(client: OpenAI, calls: CallLog, starters: Starters) -> None:
    """Every line is answered under its id as the endpoint would have answered it, and each is a logged call."""
    before = len(calls.of(starters.chat))
    file_id = upload(client, [chat_line(f"q{n}", f"Hello, number {n}") for n in range(5)])
    made = client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "tests"}
    )
    assert (made.object, made.status) == ("batch", "validating")

    batch = ended(client, made.id)

    assert (batch.status, batch.errors, batch.error_file_id) == ("completed", None, None)
    assert batch.metadata == {"for": "tests"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 5, "completed": 5, "failed": 0}
    assert batch.created_at <= (batch.in_progress_at or 0) <= (batch.finalizing_at or 0) <= (batch.completed_at or 0)
    assert batch.expires_at == batch.created_at + 86_400
    found = lines_of(client, batch.output_file_id)
    assert set(found) == {f"q{n}" for n in range(5)}
    for row in found.values():
        assert row["id"].startswith("batch_req_")
        assert row["error"] is None
        assert row["response"]["status_code"] == 200
        assert row["response"]["request_id"]
        assert row["response"]["body"]["object"] == "chat.completion"
        assert row["response"]["body"]["choices"][0]["message"]["role"] == "assistant"
    logged = calls.of(starters.chat)[: len(calls.of(starters.chat)) - before]
    assert [call["dialect"] for call in logged] == ["openai_batch"] * 5
    tokens = sum(row["response"]["body"]["usage"]["prompt_tokens"] for row in found.values())
    assert sum(call["prompt_tokens"] for call in logged) == tokens


def test_a_batch_of_embeddings_is_what_the_endpoint_gives(client: OpenAI) -> None:
    """Vectors of a long list come in order, though the background hands it to the engine in pieces."""
    texts = [f"text number {n} is about {'trains' if n % 2 else 'boats'}" for n in range(23)]
    direct = client.embeddings.create(model=EMBED, input=texts, encoding_format="float")
    file_id = upload(client, [embedding_line("many", texts), embedding_line("one", texts[:1])])
    made = client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")

    found = lines_of(client, ended(client, made.id).output_file_id)

    body = found["many"]["response"]["body"]
    assert body["usage"]["prompt_tokens"] == direct.usage.prompt_tokens
    assert [row["index"] for row in body["data"]] == list(range(23))
    for row, wanted in zip(body["data"], direct.data, strict=True):
        assert row["embedding"] == pytest.approx(wanted.embedding, abs=1e-3)
    assert len(found["one"]["response"]["body"]["data"]) == 1


def test_a_batch_of_responses(client: OpenAI) -> None:
    """Each line is answered with a response; what a response would refuse is in the errors of the batch."""
    body: dict[str, Any] = {"model": CHAT, "input": "Hello", "max_output_tokens": 4}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    made = client.batches.create(
        input_file_id=upload(client, [line]), endpoint="/v1/responses", completion_window="24h"
    )
    answer = lines_of(client, ended(client, made.id).output_file_id)["a"]["response"]["body"]
    assert (answer["object"], answer["output"][0]["type"]) == ("response", "message")

    kept = {**line, "body": {**body, "store": True}}
    made = client.batches.create(
        input_file_id=upload(client, [kept]), endpoint="/v1/responses", completion_window="24h"
    )
    failed = ended(client, made.id)
    assert failed.status == "failed"
    assert failed.errors is not None
    assert "store" in str(failed.errors.data)


def test_lines_that_fail_stand_in_the_error_file(client: OpenAI) -> None:
    """A request that only running shows to be wrong is refused in its own line; the others are answered."""
    lines = [chat_line("good", "Hello"), chat_line("long", "word " * 20_000)]
    made = client.batches.create(
        input_file_id=upload(client, lines), endpoint="/v1/chat/completions", completion_window="24h"
    )

    batch = ended(client, made.id)

    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
    assert set(lines_of(client, batch.output_file_id)) == {"good"}
    refused = lines_of(client, batch.error_file_id)["long"]
    assert refused["response"]["status_code"] == 400
    assert refused["response"]["body"]["error"]["code"] == "prompt_too_long"


def test_batches_are_listed_newest_first(client: OpenAI) -> None:
    """The client's own paging finds every batch of the account, and each as it is retrieved."""
    file_id = upload(client, [chat_line("a", "Hello")])
    made = [
        client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h").id
        for _ in range(3)
    ]
    for batch_id in made:
        ended(client, batch_id)
    listed = list(client.batches.list(limit=2))
    assert [batch.id for batch in listed][:3] == made[::-1]
    assert listed[0] == client.batches.retrieve(made[2])


def test_cancelling_keeps_what_was_answered(client: OpenAI) -> None:
    """A cancelled batch ends at once though its requests would run for long, and says when; twice is a 409."""
    # one more line begins than there are slots, in no certain order: of two short ones one has a slot
    short = [chat_line(f"s{n}", "Hello", max_tokens=1) for n in range(2)]
    forever = [chat_line(f"q{n}", "Hello", max_tokens=1024, logit_bias={"300": 100}) for n in range(200)]
    file_id = upload(client, [*short, *forever])
    made = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    chain.until(lambda: (client.batches.retrieve(made.id).request_counts or made).completed >= 1, "an answer is there")  # type: ignore[union-attr]
    with pytest.raises(openai.ConflictError, match=made.id):
        client.files.delete(file_id)

    cancelled = client.batches.cancel(made.id)

    assert cancelled.status == "cancelling"
    batch = ended(client, made.id)
    assert batch.status == "cancelled"
    assert batch.cancelled_at is not None
    assert batch.request_counts is not None
    assert 1 <= batch.request_counts.completed < len(short) + len(forever)
    assert len(lines_of(client, batch.output_file_id)) == batch.request_counts.completed
    with pytest.raises(openai.ConflictError, match="cancelled"):
        client.batches.cancel(made.id)
    client.files.delete(file_id)
