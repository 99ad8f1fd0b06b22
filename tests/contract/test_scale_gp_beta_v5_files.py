"""The official ``scale-gp-beta`` client: files under ``/v5``, which it sends as files with their names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from openai import OpenAI
from scale_gp import SGPClient
from scale_gp_beta import (
    AsyncSGPClient,
    BadRequestError,
    NotFoundError,
    UnprocessableEntityError,
)
from scale_gp_beta import SGPClient as SGPClientV5
from scale_gp_beta.types import SGPFile

from tests.contract.conftest import v5_client
from tests.support.server import Server

ROWS = b'{"a": 1}\r\n{"a": "\xc3\xa4"}\n'


@pytest.fixture
def keep(member_v5: SGPClientV5) -> Iterator[Any]:
    """Uploads files that are removed in the end."""
    with ExitStack() as undo:

        def upload(file: Any) -> SGPFile:
            made = member_v5.files.create(file=file)
            undo.callback(member_v5.files.delete, made.id)
            return made

        yield upload


def test_a_file_from_birth_to_end(v5: SGPClientV5, member_v5: SGPClientV5, tmp_path: Path) -> None:
    """Create from a path, retrieve, list, content and delete."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    made = member_v5.files.create(file=path, x_project_id="none")
    assert (made.filename, made.mime_type, made.size) == ("rows.jsonl", "application/jsonl", len(ROWS))
    assert made.md5_checksum == hashlib.md5(ROWS, usedforsecurity=False).hexdigest()
    assert (made.object, made.created_by.type, made.tags) == ("file", "user", None)
    assert member_v5.files.retrieve(made.id) == made
    assert made in list(v5.files.list(filename="ROWS"))
    raw = member_v5.files.content.with_raw_response.retrieve(made.id)
    assert raw.http_response.content == ROWS
    assert raw.headers["content-disposition"] == 'attachment; filename="rows.jsonl"'
    assert raw.headers["content-type"].startswith("application/jsonl")
    assert raw.headers["x-content-type-options"] == "nosniff"

    deleted = member_v5.files.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "file")
    with pytest.raises(NotFoundError, match=made.id):
        member_v5.files.retrieve(made.id)


async def test_the_asynchronous_client(async_v5: AsyncSGPClient) -> None:
    """The same through the other client, from bytes."""
    made = await async_v5.files.create(file=("a.txt", b"x", "text/plain"))
    assert (await async_v5.files.update(made.id, tags={"k": 1})).tags == {"k": 1}
    assert made.id in [file.id async for file in async_v5.files.list(limit=1000)]
    assert (await async_v5.files.content.with_raw_response.retrieve(made.id)).http_response.content == b"x"
    assert (await async_v5.files.delete(made.id)).deleted is True


def test_the_lenient_client_reads_the_content(server: Server, account_id: str, keep: Any) -> None:
    """It gives a text as a text, and a file of JSON as what it says; the strict one accepts nothing but JSON."""
    with v5_client(server, server.member_key, account_id, _strict_response_validation=False) as lenient:
        assert lenient.files.content.retrieve(keep(("a.txt", b"words")).id) == "words"
        assert lenient.files.content.retrieve(keep(("a.json", b'{"a": 1}')).id) == {"a": 1}


def test_tags_are_replaced(keep: Any, member_v5: SGPClientV5) -> None:
    """What is sent takes the place of all there is; what is not sent stays; nothing else changes."""
    made = keep(("a", b"x"))
    first = member_v5.files.update(made.id, tags={"colour": "red", "deep": {"list": [1, None]}})
    assert first == made.model_copy(update={"tags": {"colour": "red", "deep": {"list": [1, None]}}})
    assert member_v5.files.update(made.id) == first
    assert member_v5.files.update(made.id, tags={"size": 1}).tags == {"size": 1}
    assert member_v5.files.retrieve(made.id).tags == {"size": 1}
    with pytest.raises(UnprocessableEntityError, match="tags"):
        member_v5.files.update(made.id, tags={str(i): i for i in range(65)})
    with pytest.raises(NotFoundError, match="file-x"):
        member_v5.files.update("file-x", tags={})


def test_pages_end(keep: Any, member_v5: SGPClientV5) -> None:
    """``has_more`` ends a list without one more request, in both directions."""
    word = uuid4().hex
    made = [keep((f"{word}.txt", b"x")).id for _ in range(3)]
    page = member_v5.files.list(filename=word, limit=2)
    assert ([file.id for file in page.items], page.has_more) == ([made[2], made[1]], True)
    last = page.get_next_page()
    assert ([file.id for file in last.items], last.has_more) == ([made[0]], False)
    assert not last.has_next_page()
    back = member_v5.files.list(filename=word, limit=2, ending_before=made[0])
    assert ([file.id for file in back.items], back.has_more) == ([made[2], made[1]], False)


def test_cloud_imports_are_refused(member_v5: SGPClientV5) -> None:
    """There is no cloud: the refusal says how files come here, and that it is no use to ask again."""
    wanted: Any = [{"container": "c", "file_type": "text/plain", "filename": "a", "filepath": "a"}]
    with pytest.raises(BadRequestError, match="POST /v5/files") as refused:
        member_v5.files.import_from_cloud(files=wanted)
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert refused.value.body["code"] == "unsupported"  # type: ignore[index]


def test_one_store_for_all_dialects(
    keep: Any, member_v5: SGPClientV5, member_sgp: SGPClient, openai_client: OpenAI
) -> None:
    """A file of one dialect is a file in the others; a batch reads only what was uploaded for one."""
    made = keep(("rows.jsonl", ROWS))
    assert member_sgp.beta.files.retrieve(made.id).md5_checksum == made.md5_checksum
    assert openai_client.files.retrieve(made.id).purpose == "user_data"
    assert openai_client.files.content(made.id).read() == ROWS
    with pytest.raises(Exception, match="a batch reads 'batch'"):
        openai_client.batches.create(input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h")
    theirs = openai_client.files.create(file=("in.jsonl", ROWS), purpose="batch")
    assert member_v5.files.retrieve(theirs.id).mime_type == "application/jsonl"
    assert member_v5.files.delete(theirs.id).deleted
    other = openai_client.files.create(file=("notes", b"x"), purpose="user_data")
    assert member_v5.files.retrieve(other.id).size == 1
    openai_client.files.delete(other.id)
