"""The input file of a batch: which requests are in it, and what is wrong with them, by line.

Read in slices, so that a file of many requests neither fills the memory nor holds up the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.domain.background import BatchFault
from appliance.domain.errors import ApplianceError
from appliance.wire.batches import BatchBody, BatchLine

SLICE_BYTES = 16 * 1024
"""Checked without a pause: a few milliseconds."""
LISTED_FAULTS = 100
METHOD = "POST"

CheckBody = Callable[[bytes], None]
"""Raises what is wrong with the body of a request."""


class Line(Struct, frozen=True):
    """A request of the file, and where it stands."""

    custom_id: str
    model: str
    offset: int
    size_bytes: int

    def read(self, path: Path) -> bytes:
        """Its body."""
        with path.open("rb") as file:
            file.seek(self.offset)
            return bytes(msgspec.json.decode(file.read(self.size_bytes), type=BatchLine).body)


class Contents:
    """What was found in a file: its requests in order, and its faults."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.faults: list[BatchFault] = []
        self.unlisted_faults = 0
        self._seen: dict[str, int] = {}

    def add(self, line: Line, number: int) -> None:
        """A request. Its id must be new."""
        first = self._seen.setdefault(line.custom_id, number)
        if first != number:
            self.blame(
                "duplicate_custom_id",
                f"custom_id '{line.custom_id[:128]}' stands in line {first} already; give each request its own",
                number,
                "custom_id",
            )
        self.lines.append(line)

    def blame(self, code: str, message: str, number: int | None = None, param: str | None = None) -> None:
        """A fault; of many only the first are listed, and the others counted."""
        if len(self.faults) < LISTED_FAULTS:
            self.faults.append(BatchFault(code=code, message=message, line=number, param=param))
        else:
            self.unlisted_faults += 1

    def listed(self) -> tuple[BatchFault, ...]:
        """The faults, and at the end how many more there are."""
        if not self.unlisted_faults:
            return tuple(self.faults)
        more = BatchFault(code="more_errors", message=f"{self.unlisted_faults} more faults are not listed")
        return (*self.faults, more)


async def read_contents(path: Path, endpoint: str, most_lines: int, check_body: CheckBody | None = None) -> Contents:
    """The requests of a file. Without ``check_body`` it was checked before, and only its requests are wanted."""
    found = Contents()
    number = 0
    async for offset, raw in _lines(path):
        number += 1
        if not raw.strip():
            continue
        if len(found.lines) == most_lines:
            found.blame("too_many_requests", f"a file takes {most_lines} requests (batch_lines); split it", number)
            break
        _read_line(found, raw, number, offset, endpoint, check_body)
    if not number or not (found.lines or found.faults):
        found.blame("empty_file", "the file has no requests in it; write one JSON object a line")
    return found


async def _lines(path: Path) -> AsyncIterator[tuple[int, bytes]]:
    """Each line with its offset; others get their turn between slices."""
    with path.open("rb") as file:
        offset = 0
        while some := await asyncio.to_thread(file.readlines, SLICE_BYTES):
            for raw in some:
                yield offset, raw
                offset += len(raw)


def _read_line(
    found: Contents, raw: bytes, number: int, offset: int, endpoint: str, check_body: CheckBody | None
) -> None:
    try:
        line = msgspec.json.decode(raw, type=BatchLine)
        model = msgspec.json.decode(line.body, type=BatchBody).model
    except msgspec.ValidationError as error:
        found.blame("invalid_request", f"{error}", number)
        return
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found.blame("invalid_json_line", f"not a JSON object on one line: {error}", number)
        return
    found.add(Line(line.custom_id, model, offset, len(raw)), number)
    if check_body is None:
        return
    if line.method != METHOD:
        found.blame("invalid_method", f"method is '{line.method[:16]}'; it is {METHOD}", number, "method")
    if line.url != endpoint:
        found.blame(
            "invalid_url", f"url is '{line.url[:64]}', and the endpoint of this batch is '{endpoint}'", number, "url"
        )
        return
    try:
        check_body(bytes(line.body))
    except ApplianceError as error:
        found.blame(error.code, error.message, number, "body")
