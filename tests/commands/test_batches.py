"""``appliance batches`` against a real server: a file goes there, its answers come back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from appliance.cli import main
from appliance.commands import watching
from tests.support import chain
from tests.support.server import Server
from tui.client import Client

Run = Callable[..., Result]


@pytest.fixture
def run(server: Server, member: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs ``appliance batches`` with a member's key. Files that a test leaves are removed."""
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.05)

    def invoke(*arguments: str) -> Result:
        where = ["--url", server.url, "--key", server.member_key]
        return CliRunner().invoke(main, ["batches", *arguments, *where])

    yield invoke
    for file in member.get("/v1/files").json()["data"]:
        chain.until(lambda file=file: member.delete(f"/v1/files/{file['id']}").status_code in {200, 404}, "it is free")  # type: ignore[misc]


def chat_line(custom_id: str, **body: Any) -> dict[str, Any]:
    asked = {"model": "starter-chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked}


def written(path: Path, lines: list[dict[str, Any]]) -> str:
    """The path of a file with these lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


CHAT = ("--endpoint", "/v1/chat/completions")


def test_a_batch_from_file_to_answers(run: Run, tmp_path: Path) -> None:
    """Created, watched, shown, listed, downloaded: the ID is all that goes from one command to the next."""
    asked = written(tmp_path / "asked.jsonl", [chat_line("one"), chat_line("two")])
    created = run("create", asked, *CHAT, "--metadata", "night=1")
    assert created.exit_code == 0, created.output
    batch_id = created.stdout.strip()
    assert f"batches watch {batch_id}" in created.stderr

    watched = run("watch", batch_id)
    assert watched.exit_code == 0, watched.output
    assert "is completed: 2 of 2 requests answered, 0 failed" in watched.stdout

    shown = run("show", batch_id).stdout
    assert "completed" in shown
    assert "metadata night  1" in shown
    listed = json.loads(run("list", "--json").stdout)
    assert listed[0]["id"] == batch_id
    assert batch_id in run("list", "--limit", "1").stdout

    downloaded = run("download", batch_id)
    assert downloaded.exit_code == 0, downloaded.output
    assert sorted(line["custom_id"] for line in lines_of(downloaded.stdout)) == ["one", "two"]


def test_answers_and_errors_go_to_files(run: Run, tmp_path: Path) -> None:
    """Each to its own; what failed is counted where nobody asked for it; an existing file is replaced when told so."""
    asked = written(
        tmp_path / "asked.jsonl",
        [chat_line("good"), chat_line("bad", messages=[{"role": "user", "content": "word " * 20_000}])],
    )
    done = run("create", asked, *CHAT, "--watch", "--json")
    assert done.exit_code == 0, done.output
    batch_id = json.loads(done.stdout)["id"]
    answers, errors = tmp_path / "answers.jsonl", tmp_path / "errors.jsonl"

    only = run("download", batch_id, "--output", str(answers))
    assert "1 of its requests failed; --errors FILE" in only.stderr
    assert [line["custom_id"] for line in lines_of(answers.read_text())] == ["good"]
    refused = run("download", batch_id, "--output", str(answers), "--errors", str(errors))
    assert refused.exit_code == 1
    assert "exists" in refused.stderr
    assert not errors.exists()
    both = run("download", batch_id, "--output", str(answers), "--errors", str(errors), "--force")
    assert (both.exit_code, both.output) == (0, "")
    (failed,) = lines_of(errors.read_text())
    assert failed["custom_id"] == "bad"
    assert "tokens" in json.dumps(failed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "asked.jsonl", "errors.jsonl"]


def test_one_that_is_cancelled(run: Run, tmp_path: Path) -> None:
    """It ends with what it has; until then there is nothing to download; watching it is no success."""
    endless = [chat_line(str(n), max_tokens=1500, logit_bias={"300": 100}) for n in range(200)]
    batch_id = run("create", written(tmp_path / "asked.jsonl", endless), *CHAT).stdout.strip()
    early = run("download", batch_id)
    assert early.exit_code == 1
    assert "can be fetched when it has ended" in early.stderr
    assert early.stdout == ""

    cancelled = run("cancel", batch_id)
    assert cancelled.exit_code == 0, cancelled.output
    watched = run("watch", batch_id)
    assert watched.exit_code == 1
    assert "is cancelled" in watched.stdout
    assert run("download", batch_id).exit_code == 0
    again = run("cancel", batch_id)
    assert again.exit_code == 1
    assert "cancelled" in again.stderr


def test_a_file_that_cannot_be_run(run: Run, tmp_path: Path) -> None:
    """What is wrong with it is said line by line, and the exit status tells scripts."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(chat_line("one")) + "\nno json\n")
    done = run("create", str(bad), *CHAT, "--watch")
    assert done.exit_code == 1
    assert "is failed" in done.stderr
    assert "line 2: " in done.stderr
    shown = run("show", done.stdout.strip())
    assert "line 2: " in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        pytest.param(("show", "batch_nobody"), 1, "Not found", id="unknown batch"),
        pytest.param(("create", "/nowhere", *CHAT), 2, "No such file", id="no such file"),
        pytest.param(("create", "-", "--endpoint", "/v1/wrong"), 2, "/v1/wrong", id="wrong endpoint"),
        pytest.param(("create", "-", *CHAT, "--metadata", "night"), 2, "key=value", id="metadata"),
        pytest.param(("create", "-", *CHAT, "--watch"), 1, "is failed: 0 of 0 requests", id="standard input, empty"),
        pytest.param(("list", "--limit", "0"), 2, "limit", id="limit"),
    ],
)
def test_what_is_refused(run: Run, arguments: tuple[str, ...], status: int, words: str) -> None:
    """One line that says why; status 2 for a command that cannot be meant."""
    done = run(*arguments)
    assert done.exit_code == status, done.output
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_batch_that_is_refused_leaves_no_file(run: Run, member: httpx.Client, tmp_path: Path) -> None:
    """What was uploaded for it is removed again."""
    many = [word for n in range(17) for word in ("--metadata", f"key{n}=value")]
    done = run("create", written(tmp_path / "asked.jsonl", [chat_line("one")]), *CHAT, *many)
    assert done.exit_code == 1
    assert "metadata" in done.stderr
    assert member.get("/v1/files").json()["data"] == []


def test_no_server(server: Server) -> None:
    """A server that does not answer is said in one line."""
    done = CliRunner().invoke(main, ["batches", "list", "--url", "http://127.0.0.1:1", "--key", "sk-x"])
    assert done.exit_code == 1
    assert "not reachable" in done.stderr


async def test_files_travel_in_pieces(server: Server, tmp_path: Path) -> None:
    """Neither way is a large file in memory as a whole."""
    path = tmp_path / "large.jsonl"
    path.write_bytes(b"x" * 8 * 1024**2)
    reads: list[int] = []

    class Counted:
        """A file that tells how much of it is read at once."""

        def __init__(self) -> None:
            self._file = path.open("rb")

        def read(self, size: int = -1) -> bytes:
            reads.append(size)
            return self._file.read(size)

        def close(self) -> None:
            self._file.close()

    client, counted = Client(server.url, server.member_key), Counted()
    stored = await client.upload("large.jsonl", counted)  # type: ignore[arg-type]
    counted.close()
    pieces = [len(piece) async for piece in client.download(stored.id)]
    await client.delete_file(stored.id)
    await client.aclose()
    assert 0 < max(reads) <= 1024**2
    assert min(reads) > 0
    assert sum(pieces) == 8 * 1024**2
    assert max(pieces) <= 1024**2
