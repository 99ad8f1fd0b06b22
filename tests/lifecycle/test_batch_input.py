"""What is wrong with an input file is said by line, before any of it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.domain.background import BatchFault
from appliance.domain.errors import NotFound
from appliance.lifecycle.batch_input import LISTED_FAULTS, read_contents

ENDPOINT = "/v1/completions"


def row(custom_id: str = "a", **fields: Any) -> dict[str, Any]:
    """A sound line, or one with something wrong in it."""
    body = {"model": "tiny", "prompt": "hello"}
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body, **fields}


def check_body(body: bytes) -> None:
    if json.loads(body)["model"] == "nobody":
        raise NotFound("no model 'nobody'")


def written(path: Path, *lines: dict[str, Any] | bytes) -> Path:
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


WRONG = [
    pytest.param([b"{"], "invalid_json_line", 1, "JSON", id="half an object"),
    pytest.param([b"hello"], "invalid_json_line", 1, "JSON", id="no JSON"),
    pytest.param([row(), b"\xff\xfe"], "invalid_json_line", 2, "JSON", id="no UTF-8"),
    pytest.param([b'{"body":' * 5000], "invalid_json_line", 1, "JSON", id="nested without end"),
    pytest.param([b"[]"], "invalid_request", 1, "object", id="a list"),
    pytest.param([row(), row("b"), row("a")], "duplicate_custom_id", 3, "line 1", id="an id twice"),
    pytest.param([row(custom_id=7)], "invalid_request", 1, "custom_id", id="an id that is no text"),
    pytest.param([row(custom_id="")], "invalid_request", 1, "custom_id", id="an empty id"),
    pytest.param([row(custom_id="x" * 513)], "invalid_request", 1, "custom_id", id="a very long id"),
    pytest.param([{"custom_id": "a"}], "invalid_request", 1, "missing", id="no method"),
    pytest.param([row(method="GET")], "invalid_method", 1, "POST", id="another method"),
    pytest.param([row(url="/v1/embeddings")], "invalid_url", 1, ENDPOINT, id="another endpoint"),
    pytest.param([row(more=1)], "invalid_request", 1, "more", id="an unknown field"),
    pytest.param([row(body={"prompt": "a"})], "invalid_request", 1, "model", id="no model"),
    pytest.param([row(body={"model": "nobody"})], "not_found", 1, "nobody", id="an unknown model"),
    pytest.param([row(str(n)) for n in range(4)], "too_many_requests", 4, "batch_lines", id="too many lines"),
    pytest.param([b""], "empty_file", None, "no requests", id="an empty file"),
    pytest.param([b"  ", b""], "empty_file", None, "no requests", id="blank lines"),
]


@pytest.mark.parametrize(("lines", "code", "number", "word"), WRONG)
async def test_what_is_wrong(tmp_path: Path, lines: list[Any], code: str, number: int | None, word: str) -> None:
    """One fault, with its code, its line and words that help."""
    found = await read_contents(written(tmp_path / "a", *lines), ENDPOINT, 3, check_body)
    (fault,) = found.listed()
    assert (fault.code, fault.line) == (code, number)
    assert word in fault.message


async def test_every_fault_is_found(tmp_path: Path) -> None:
    """Faults of several lines are listed together; of many only the first ones, and the others are counted."""
    lines = [row("a"), b"{", row("b", url="/x"), row("a")]
    found = await read_contents(written(tmp_path / "a", *lines), ENDPOINT, 10, check_body)
    assert [(fault.code, fault.line) for fault in found.listed()] == [
        ("invalid_json_line", 2),
        ("invalid_url", 3),
        ("duplicate_custom_id", 4),
    ]

    many = [b"{"] * (LISTED_FAULTS + 5)
    listed = (await read_contents(written(tmp_path / "b", *many), ENDPOINT, 1000, check_body)).listed()
    assert len(listed) == LISTED_FAULTS + 1
    assert listed[-1] == BatchFault(code="more_errors", message="5 more faults are not listed")


async def test_requests_are_found_again(tmp_path: Path) -> None:
    """Each request is read from its place in the file, whatever stands between them and however long it is."""
    long = row("long", body={"model": "other", "prompt": "x" * 500_000})
    path = written(tmp_path / "a", row("a"), b"", b"  ", long, row("€"), b"")
    found = await read_contents(path, ENDPOINT, 3, check_body)
    assert not found.faults
    assert [(line.custom_id, line.model) for line in found.lines] == [("a", "tiny"), ("long", "other"), ("€", "tiny")]
    assert [json.loads(line.read(path)) for line in found.lines] == [row()["body"], long["body"], row()["body"]]
