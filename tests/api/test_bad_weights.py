"""Weights that are truncated, renamed or corrupt: refused over HTTP and on the command line, with nothing kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.server import Server
from tests.support.tiny_models import write_llama


def truncated(sound: bytes) -> bytes:
    return sound[:-1000]


def without_its_header(sound: bytes) -> bytes:
    return b"\0" * 64 + sound[64:]


def with_a_huge_count(sound: bytes) -> bytes:
    """The tensor count, a 64-bit number at byte 8, says 2^62."""
    return sound[:8] + (2**62).to_bytes(8, "little") + sound[16:]


def of_text(_: bytes) -> bytes:
    return b"these are no weights\n" * 100


def of_nothing(_: bytes) -> bytes:
    return b""


DAMAGES = (truncated, without_its_header, with_a_huge_count, of_text, of_nothing)


@pytest.fixture
def sound(tmp_path: Path) -> bytes:
    return write_llama(tmp_path / "sound.gguf", seed=7).read_bytes()


@pytest.fixture
def place(server: Server) -> Iterator[Callable[[str, bytes], Path]]:
    """Puts files below the import root and takes them away again."""
    placed: list[Path] = []

    def put(name: str, content: bytes) -> Path:
        path = server.home / "import" / name
        path.write_bytes(content)
        placed.append(path)
        return path

    yield put
    for path in placed:
        path.unlink()


def kept(client: httpx.Client) -> tuple[Any, ...]:
    """What an import could leave."""
    artifacts = [artifact["name"] for artifact in client.get("/admin/artifacts").json()]
    return client.get("/admin/state").json()["store_used_bytes"], artifacts, client.get("/v1/models").json()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_refused_at_once(
    damage: Callable[[bytes], bytes], admin: httpx.Client, sound: bytes, place: Callable[[str, bytes], Path]
) -> None:
    """What the header betrays is a 4xx of the request itself; no job, no bytes, no artifact."""
    path = place("bad.gguf", damage(sound))
    before = kept(admin)

    answer = admin.post("/admin/imports", json={"paths": [str(path)], "name": "bad"})

    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "bad_weights"
    assert "bad.gguf" in answer.json()["detail"]
    assert kept(admin) == before


@pytest.mark.parametrize(
    ("start", "looks_like"),
    [(b"PK\x03\x04", "zip"), (b"<!DOCTYPE html>", "web page"), (b"\x80\x04\x95", "no format known")],
    ids=["zip", "html", "pickle"],
)
def test_other_files_renamed_to_weights_are_refused(
    start: bytes, looks_like: str, admin: httpx.Client, place: Callable[[str, bytes], Path]
) -> None:
    """A download page, an archive or a pickle under a weights file's name is told for what it is."""
    path = place("renamed.gguf", start + b" " * 4096)
    before = kept(admin)

    answer = admin.post("/admin/imports", json={"paths": [str(path)], "name": "bad"})

    assert answer.status_code == 400, answer.text
    assert "renamed.gguf" in answer.json()["detail"]
    assert looks_like.lower() in answer.json()["detail"].lower()
    assert kept(admin) == before


def test_weights_that_do_not_load_are_refused_by_the_trial(
    admin: httpx.Client, sound: bytes, place: Callable[[str, bytes], Path]
) -> None:
    """A sound container without a tensor that the architecture needs fails its first load, in a child, and is gone."""
    path = place("hollow.gguf", sound.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
    before = kept(admin)

    job = chain.finished_job(admin, [path], "hollow")

    assert job["state"] == "FAILED"
    assert job["message"]
    assert kept(admin) == before


def test_the_command_line_refuses_them_too(
    server: Server, admin: httpx.Client, sound: bytes, place: Callable[[str, bytes], Path]
) -> None:
    """``models import`` of damaged weights ends with status 1, says why on standard error, and keeps nothing."""
    path = place("bad.gguf", truncated(sound))
    before = kept(admin)

    done = subprocess.run(
        [sys.executable, "-m", "appliance", "models", "import", str(path), "--name", "bad"],
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert "bad.gguf" in done.stderr
    assert "Traceback" not in done.stderr
    assert kept(admin) == before
