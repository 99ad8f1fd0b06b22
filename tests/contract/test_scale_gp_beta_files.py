"""The official ``scale-gp`` client: files under ``/v4/beta``, which it sends as texts without a name (trap 16)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from scale_gp import (
    AsyncSGPClient,
    NotFoundError,
    PermissionDeniedError,
    SGPClient,
    UnprocessableEntityError,
)

from tests.contract.conftest import name_of_its_own, strict_client
from tests.support.server import Server

LINES = 'one\r\ntwo\n\n{"three": "ä€"}\r\n \tend'


@pytest.fixture
def keep(member: httpx.Client) -> Iterator[Any]:
    """Uploads with names, as any other client sends them; removed in the end."""
    with ExitStack() as undo:

        def upload(name: str, content: bytes, kind: str = "application/octet-stream") -> dict[str, Any]:
            sent = member.post("/v4/beta/files", files={"file": (name, content, kind)})
            made: dict[str, Any] = sent.raise_for_status().json()
            undo.callback(member.delete, f"/v4/beta/files/{made['id']}")
            return made

        yield upload


def test_a_file_from_birth_to_end(sgp: SGPClient, member_sgp: SGPClient) -> None:
    """Create, retrieve, list, content and delete; every byte of the text is kept, line ends included."""
    made = member_sgp.beta.files.create(file=LINES)
    sent = LINES.encode()
    assert (made.filename, made.mime_type, made.size) == ("file.txt", "text/plain", len(sent))
    assert made.md5_checksum == hashlib.md5(sent, usedforsecurity=False).hexdigest()
    assert (made.object, made.created_by.type, made.created_by.object) == ("file", "user", "identity")
    assert made.created_by.id == member_sgp.users.info().id
    assert made.created_at.tzinfo is not None
    assert member_sgp.beta.files.retrieve(made.id).to_dict() == made.to_dict()
    assert made.id in {file.id for file in sgp.beta.files.list(filename="FILE.T")}
    assert member_sgp.beta.files.content(made.id).read() == sent

    deleted = member_sgp.beta.files.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "file")
    for ask in (member_sgp.beta.files.retrieve, member_sgp.beta.files.content, member_sgp.beta.files.delete):
        with pytest.raises(NotFoundError, match=made.id):
            ask(made.id)


async def test_the_asynchronous_client(async_sgp: AsyncSGPClient) -> None:
    """The same through the other client."""
    files = async_sgp.beta.files
    made = await files.create(file=LINES)
    assert (await files.retrieve(made.id)).md5_checksum == made.md5_checksum
    assert made.id in [file.id async for file in files.list(limit=1000)]
    assert await (await files.content(made.id)).read() == LINES.encode()
    assert (await files.delete(made.id)).deleted is True


@pytest.mark.parametrize(
    "mistake",
    [b"some bytes", b"it's \x00 binary", io.BytesIO(b"x"), io.StringIO("x"), object()],
    ids=["bytes", "bytes with a quote", "BytesIO", "StringIO", "an object"],
)
def test_what_is_no_text_is_refused(mistake: Any, member_sgp: SGPClient) -> None:
    """Python's names for bytes and objects are refused with what to do, and nothing is stored."""
    before = [file.id for file in member_sgp.beta.files.list()]
    with pytest.raises(UnprocessableEntityError, match=r"file: .*(data\.decode\(\)|open\(\.\.\.\)\.read\(\))"):
        member_sgp.beta.files.create(file=mistake)
    assert [file.id for file in member_sgp.beta.files.list()] == before


def test_an_open_file_is_refused(tmp_path: Path, member_sgp: SGPClient) -> None:
    """What the client makes of an open file is not kept as if it were its content."""
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    with path.open("rb") as opened, pytest.raises(UnprocessableEntityError, match="BufferedReader"):
        member_sgp.beta.files.create(file=opened)  # type: ignore[arg-type]


def test_texts_that_look_a_little_like_python_are_kept(member_sgp: SGPClient) -> None:
    """Only what can be nothing else is refused: prose about bytes and tags of a document are texts."""
    for text in ("b'x' and b'y'", "b'", "<html><body>name object</body></html>", "b'two\nlines'"):
        made = member_sgp.beta.files.create(file=text)
        assert member_sgp.beta.files.content(made.id).read() == text.encode()
        member_sgp.beta.files.delete(made.id)


def test_an_empty_text(member_sgp: SGPClient) -> None:
    """The client drops an empty text from its form; the refusal says so."""
    with pytest.raises(UnprocessableEntityError, match="empty text"):
        member_sgp.beta.files.create(file="")


def test_a_file_with_its_name(keep: Any, member_sgp: SGPClient) -> None:
    """Who sends a real file part keeps its name and type; without a type it follows from the name."""
    said = keep("report.bin", b"\x00\xff", "application/pdf")
    assert (said["filename"], said["mime_type"], said["size"]) == ("report.bin", "application/pdf", 2)
    assert keep("rows.jsonl", b"{}")["mime_type"] == "application/jsonl"
    assert keep("unknown", b"x", "not a type")["mime_type"] == "application/octet-stream"
    assert member_sgp.beta.files.content(said["id"]).read() == b"\x00\xff"


def test_pages_end(keep: Any, member_sgp: SGPClient) -> None:
    """The client goes on after the last id until there is no more; filter, orders and both directions hold."""
    word = uuid4().hex
    wanted = [("b", b"xxx"), ("C", b"x"), ("a", b"xx")]
    made = [keep(f"{word}-{letter}.txt", content)["id"] for letter, content in wanted]
    files = member_sgp.beta.files

    def ids(**query: Any) -> list[str]:
        return [file.id for file in files.list(filename=word.upper(), **query)]

    assert ids(limit=1) == ids() == made[::-1]
    assert ids(limit=2, sort_order="asc") == made
    assert ids(sort_by="filename", sort_order="asc") == [made[2], made[0], made[1]]
    assert ids(sort_by="size") == [made[0], made[2], made[1]]
    assert ids(starting_after=made[1]) == [made[0]]
    page = files.list(filename=word, ending_before=made[0], limit=1)
    assert [file.id for file in page.items] == [made[1]]
    assert [file.id for file in page.get_next_page().items] == [made[2]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"sort_by": "colour"}, "colour"),
        ({"starting_after": "file-x"}, "file-x"),
        ({"limit": 0}, "limit"),
        ({"sort_order": "up"}, "sort_order"),
    ],
)
def test_lists_that_make_no_sense(query: dict[str, Any], words: str, member_sgp: SGPClient) -> None:
    """An unknown order, a cursor that leads nowhere and an empty page are refused by name."""
    with pytest.raises(UnprocessableEntityError, match=words):
        member_sgp.beta.files.list(**query)


def test_an_account_sees_its_own(server: Server, sgp: SGPClient, member_sgp: SGPClient) -> None:
    """Another account's file is unknown, its list is another, and a member cannot ask for it."""
    other = sgp.accounts.create(account_name=name_of_its_own("account")).account_id
    made = member_sgp.beta.files.create(file="mine")
    with strict_client(server, server.admin_key, account_id=other) as stranger:
        assert list(stranger.beta.files.list()) == []
        with pytest.raises(NotFoundError):
            stranger.beta.files.retrieve(made.id)
        theirs = stranger.beta.files.create(file="theirs")
        assert [file.id for file in sgp.beta.files.list(account_id=other)] == [theirs.id]
        stranger.beta.files.delete(theirs.id)
    with pytest.raises(PermissionDeniedError, match="cannot use"):
        list(member_sgp.beta.files.list(account_id=other))
    member_sgp.beta.files.delete(made.id)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"files": {"other": ("a", b"x")}}, "other"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]}, "2 parts"),
        ({"json": {"file": "x"}}, "file"),
    ],
)
def test_forms_that_are_none(form: dict[str, Any], words: str, member: httpx.Client) -> None:
    """An unknown field, two files and a body of JSON are refused with what to send."""
    answer = member.post("/v4/beta/files", **form)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
