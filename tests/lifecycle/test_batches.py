"""Batches from the order to the output, through every way of ending. Real registry and files; a scripted dialect, a
clock to turn."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from appliance.domain.background import Batch, BatchStatus
from appliance.domain.errors import Busy, Conflict, InUse, InvalidParameter, InvalidRequest, NotFound, QueueFull
from appliance.lifecycle.background import MOST_INTERRUPTIONS
from appliance.lifecycle.batches import SWEEP_SECONDS, WINDOW
from appliance.registry.batches import batches, stored_files
from appliance.wire.batches import BatchCreate
from tests.support.background_home import BATCH_LIMITS, SLOTS, BackgroundHome, until
from tests.support.stored_requests import Script

ENDPOINT = "/v1/completions"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[BackgroundHome]:
    made = BackgroundHome(tmp_path)
    yield made
    await made.close()


async def upload(home: BackgroundHome, count: int, **body: Any) -> str:
    """A file of so many requests; its id."""
    rows = (
        {"custom_id": f"q{n}", "method": "POST", "url": ENDPOINT, "body": {"model": "tiny", "n": n, **body}}
        for n in range(count)
    )
    content = b"\n".join(json.dumps(row).encode() for row in rows)
    return (await home.files.create(home.mine, "a.jsonl", "batch", io.BytesIO(content))).id


async def order(home: BackgroundHome, file_id: str) -> str:
    """A batch of the file; its id."""
    body = BatchCreate(input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h")
    return (await home.batches.create(home.mine, body)).id


async def ended(home: BackgroundHome, batch_id: str) -> Batch:
    async def look() -> bool:
        return (await home.batches.get(home.mine, batch_id)).is_final and not home.batches.unfinished

    await until(look)
    return await home.batches.get(home.mine, batch_id)


async def busy(home: BackgroundHome, script: Script, answered: int = 0) -> None:
    """Wait until so many are answered and others run."""

    async def look() -> bool:
        return len(script.answered) >= answered and script.running > 0

    await until(look)


async def kept(home: BackgroundHome, batch_id: str, lines: int) -> None:
    """Wait until so many answers are on the disk."""
    part = home.home / "files" / "parts" / f"{batch_id}.output"

    async def look() -> bool:
        return part.exists() and part.read_bytes().count(b"\n") == lines

    await until(look)


async def rows_of(home: BackgroundHome, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    file = await home.files.get(home.mine, file_id)
    with await home.files.open(home.mine, file) as opened:
        content = opened.read()
    assert len(content) == file.size_bytes
    return [json.loads(line) for line in content.splitlines()]


def counts(batch: Batch) -> tuple[int, int, int]:
    return batch.total, batch.completed, batch.failed


# --- to the end ------------------------------------------------------------------------------------------------------


async def test_every_request_is_answered(home: BackgroundHome) -> None:
    """Each is in the output once, under its id, with what it was answered."""
    script = Script()
    await home.start(script)
    batch = await ended(home, await order(home, await upload(home, 20)))
    assert (batch.status, counts(batch), batch.error_file_id) == (BatchStatus.COMPLETED, (20, 20, 0), None)
    rows = await rows_of(home, batch.output_file_id)
    assert sorted(row["custom_id"] for row in rows) == sorted(f"q{n}" for n in range(20))
    for row in rows:
        assert row["response"]["body"]["echo"]["n"] == int(row["custom_id"][1:])
        assert row["response"]["body"]["where"] == ENDPOINT
    assert script.most_at_once <= SLOTS + 1
    assert home.batches.waiting_lines == 0


async def test_refusals_stand_in_a_file_of_their_own(home: BackgroundHome) -> None:
    """What running a request raises is its line in the error file; what passes by itself is not seen at all."""
    await home.start(Script([InvalidRequest("too long"), QueueFull("full", retry_after_seconds=1)]))
    batch = await ended(home, await order(home, await upload(home, 3)))
    assert (batch.status, counts(batch)) == (BatchStatus.COMPLETED, (3, 2, 1))
    (refused,) = await rows_of(home, batch.error_file_id)
    assert refused["response"]["status_code"] == 400
    assert refused["response"]["body"] == {"detail": "too long"}
    assert len(await rows_of(home, batch.output_file_id)) == 2


async def test_a_wrong_file_runs_nothing(home: BackgroundHome) -> None:
    """The batch fails with the faults of all lines, and no request was run."""
    script = Script()
    await home.start(script)
    batch = await ended(home, await order(home, await upload(home, 3, wrong=True)))
    assert (batch.status, counts(batch)) == (BatchStatus.FAILED, (3, 0, 0))
    assert [(fault.line, fault.code) for fault in batch.faults] == [(n, "invalid_request") for n in (1, 2, 3)]
    assert (script.asked, batch.output_file_id, batch.error_file_id) == ([], None, None)


async def test_a_revoked_key_runs_nothing(home: BackgroundHome) -> None:
    """A batch whose key is revoked before it was read fails; requests that had not run are refused one by one."""
    script = Script()
    script.gate.clear()
    await home.start(script)
    running = await order(home, await upload(home, 10))
    await busy(home, script)
    file_id = await upload(home, 2)
    home.revoke_key()
    late = await order(home, file_id)
    script.gate.set()
    first, second = await ended(home, running), await home.batches.get(home.mine, late)
    assert first.status is BatchStatus.COMPLETED
    assert first.completed <= SLOTS + 1
    assert {row["response"]["status_code"] for row in await rows_of(home, first.error_file_id)} == {401}
    assert (second.status, [fault.code for fault in second.faults]) == (BatchStatus.FAILED, ["unauthenticated"])


async def test_recalled_work_is_done_again(home: BackgroundHome) -> None:
    """A request whose task is cancelled because its place is needed is asked again, and answered once."""
    script = Script()
    await home.start(script)
    inner, recalled = script.answer, 0

    async def answer(*asked: Any) -> Any:
        nonlocal recalled
        reply = await inner(*asked)
        if recalled < 3:
            recalled += 1
            script.answered.pop()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return reply

    script.answer = answer  # type: ignore[method-assign]
    batch = await ended(home, await order(home, await upload(home, 5)))
    assert (recalled, batch.status, counts(batch)) == (3, BatchStatus.COMPLETED, (5, 5, 0))
    assert len(script.asked) == 8


# --- other ends ------------------------------------------------------------------------------------------------------


async def test_cancelling(home: BackgroundHome) -> None:
    """A cancelled batch ends at once; what it has answered is kept, and then there is nothing more to cancel."""
    script = Script(stop_after=3)
    await home.start(script)
    file_id = await upload(home, 30)
    batch_id = await order(home, file_id)
    await busy(home, script, answered=3)
    cancelled = await home.batches.cancel(home.mine, batch_id)
    assert cancelled.status is BatchStatus.CANCELLING
    batch = await ended(home, batch_id)
    assert batch.status is BatchStatus.CANCELLED
    assert batch.cancelling_at is not None
    assert batch.cancelled_at is not None
    rows = await rows_of(home, batch.output_file_id)
    assert len({row["custom_id"] for row in rows}) == len(rows) == batch.completed == 3
    with pytest.raises(Conflict, match="cancelled"):
        await home.batches.cancel(home.mine, batch_id)


async def test_cancelling_before_it_has_begun(home: BackgroundHome) -> None:
    """Nothing of it runs."""
    script = Script()
    await home.start(script)
    batch_id = await order(home, await upload(home, 3))
    await home.batches.cancel(home.mine, batch_id)
    batch = await ended(home, batch_id)
    assert (batch.status, batch.output_file_id) == (BatchStatus.CANCELLED, None)


async def test_a_batch_that_takes_too_long(home: BackgroundHome) -> None:
    """After its window it expires: answers are kept, and every other request has a line that says why there is none."""
    script = Script(stop_after=2)
    await home.start(script)
    batch_id = await order(home, await upload(home, 10))
    await busy(home, script, answered=2)
    home.clock.seconds = WINDOW.total_seconds() - 1
    await home.batches.sweep()
    home.clock.seconds += 1
    await home.batches.sweep()
    batch = await ended(home, batch_id)
    assert batch.status is BatchStatus.EXPIRED
    assert batch.expired_at is not None
    answers, expired = await rows_of(home, batch.output_file_id), await rows_of(home, batch.error_file_id)
    assert counts(batch) == (10, len(answers), len(expired))
    assert len(answers) >= 2
    assert {row["error"]["code"] for row in expired} == {"batch_expired"}
    assert sorted(row["custom_id"] for row in answers + expired) == sorted(f"q{n}" for n in range(10))


async def test_a_full_disk(home: BackgroundHome) -> None:
    """The batch fails and says so; what was answered before is kept."""
    script = Script(stop_after=2)
    await home.start(script)
    file_id = await upload(home, 30)
    batch_id = await order(home, file_id)
    await kept(home, batch_id, 2)
    home.full_disk = True
    script.gate.set()
    batch = await ended(home, batch_id)
    assert batch.status is BatchStatus.FAILED
    (fault,) = batch.faults
    assert fault.code == "disk_full"
    assert "disk_reserve_bytes" in fault.message
    assert len(await rows_of(home, batch.output_file_id)) == batch.completed >= 1


# --- over restarts ---------------------------------------------------------------------------------------------------


async def test_a_crash_in_the_middle(home: BackgroundHome) -> None:
    """After the start only what has no answer on the disk is asked again, and nothing is in the output twice."""
    before = Script(stop_after=5)
    await home.start(before)
    batch_id = await order(home, await upload(home, 30))
    await kept(home, batch_id, 5)
    await home.crash()
    output = (home.home / "files" / "parts" / f"{batch_id}.output").read_bytes()
    after = Script()
    await home.start(after)
    batch = await ended(home, batch_id)
    assert (batch.status, counts(batch)) == (BatchStatus.COMPLETED, (30, 30, 0))
    rows = await rows_of(home, batch.output_file_id)
    assert sorted(row["custom_id"] for row in rows) == sorted(f"q{n}" for n in range(30))
    assert len(after.asked) == 30 - output.count(b"\n") == 25


@pytest.mark.parametrize("adopted", ["none", "output", "both"])
@pytest.mark.parametrize("outcome", [BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED])
async def test_a_crash_at_the_end(home: BackgroundHome, outcome: BatchStatus, adopted: str) -> None:
    """However far the end had come, it comes once: every answer stands in one file, once."""
    await home.start(Script([InvalidRequest("no")]))
    done = await ended(home, await order(home, await upload(home, 4)))
    wanted = [await rows_of(home, done.output_file_id), await rows_of(home, done.error_file_id)]
    await undo_end(home, done, outcome, adopted)

    home.restart()
    await home.start(Script())
    batch = await ended(home, done.id)

    assert (batch.status, counts(batch)) == (outcome, (4, 3, 1))
    assert [await rows_of(home, batch.output_file_id), await rows_of(home, batch.error_file_id)] == wanted


async def undo_end(home: BackgroundHome, done: Batch, outcome: BatchStatus, adopted: str) -> None:
    """The home as a crash would have left it between two steps of the end."""
    assert done.output_file_id
    assert done.error_file_id
    status = BatchStatus.CANCELLING if outcome is BatchStatus.CANCELLED else BatchStatus.FINALIZING
    undone = structs.replace(done, status=status, outcome=outcome, completed=0, failed=0, completed_at=None)
    await home.database.run(lambda db: batches.update(db, undone))
    for name, file_id in (("output", done.output_file_id), ("errors", done.error_file_id)):
        await home.database.run(lambda db, file_id=file_id: stored_files.drop(db, file_id))  # type: ignore[misc]
        if adopted == "none" or (adopted == "output" and name == "errors"):
            (home.home / "files" / file_id).rename(home.home / "files" / "parts" / f"{done.id}.{name}")


async def test_a_batch_that_takes_the_server_down_is_given_up(home: BackgroundHome) -> None:
    """After so many crashes without one more answer it fails with what it has; an orderly stop does not count."""
    batch_id = ""
    for start in range(MOST_INTERRUPTIONS + 1):
        script = Script()
        script.gate.clear()
        await home.start(script)
        batch_id = batch_id or await order(home, await upload(home, 3))
        await busy(home, script)
        if start == 0:
            await home.batches.close()
            home.restart()
        else:
            await home.crash()
    await home.start(Script())
    batch = await ended(home, batch_id)
    assert (batch.status, [fault.code for fault in batch.faults]) == (BatchStatus.FAILED, ["interrupted"])


async def test_what_nothing_refers_to_is_removed_at_start(home: BackgroundHome) -> None:
    """An upload that the end of the server cut off leaves no bytes behind."""
    known = await upload(home, 1)
    for name in (f"file-{'a' * 32}", f"parts/file-{'b' * 32}.upload", f"parts/batch_{'c' * 32}.output"):
        (home.home / "files" / name).write_bytes(b"left")
    await home.start(Script())
    assert [path.name for path in (home.home / "files").rglob("*") if path.is_file()] == [known]


# --- what is refused, and what is forgotten --------------------------------------------------------------------------


async def test_files_in_use_stay(home: BackgroundHome) -> None:
    """A file is not deleted while a batch reads it, and is after that; its name is another account's business."""
    script = Script()
    script.gate.clear()
    await home.start(script)
    file_id = await upload(home, 3)
    batch_id = await order(home, file_id)
    with pytest.raises(InUse, match=batch_id):
        await home.files.delete(home.mine, file_id)
    with pytest.raises(NotFound):
        await home.files.delete(home.theirs, file_id)
    script.gate.set()
    await ended(home, batch_id)
    await home.files.delete(home.mine, file_id)


async def test_wrong_orders(home: BackgroundHome) -> None:
    """An unknown file, another account's, and one that is no input are refused; so is another purpose."""
    await home.start(Script())
    file_id = await upload(home, 1)
    done = await ended(home, await order(home, file_id))
    body = BatchCreate(input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h")
    with pytest.raises(NotFound):
        await home.batches.create(home.theirs, body)
    with pytest.raises(NotFound):
        await order(home, "file-x")
    assert done.output_file_id
    with pytest.raises(InvalidRequest, match="batch_output"):
        await order(home, done.output_file_id)
    with pytest.raises(InvalidParameter, match="fine-tune"):
        await home.files.create(home.mine, "a", "fine-tune", io.BytesIO(b"a"))


async def test_too_many(home: BackgroundHome) -> None:
    """One more unfinished batch, and one more file, than an account may have are refused."""
    script = Script()
    script.gate.clear()
    await home.start(script)
    file_id = await upload(home, 1)
    made = [await order(home, file_id) for _ in range(BATCH_LIMITS.unfinished)]
    with pytest.raises(Busy, match="batch_limit"):
        await order(home, file_id)
    for _ in range(5):
        await upload(home, 1)
    with pytest.raises(Busy, match="file_limit"):
        await upload(home, 1)
    script.gate.set()
    for batch_id in made:
        await ended(home, batch_id)


async def test_batches_are_kept_for_a_while(home: BackgroundHome) -> None:
    """A batch goes with its output when its time after the end is over; its input stays."""
    await home.start(Script())
    file_id = await upload(home, 1)
    batch = await ended(home, await order(home, file_id))
    home.clock.seconds = BATCH_LIMITS.retention_seconds - 1
    await home.batches.sweep()
    await home.batches.get(home.mine, batch.id)
    home.clock.seconds += SWEEP_SECONDS + 2
    await home.batches.sweep()
    with pytest.raises(NotFound):
        await home.batches.get(home.mine, batch.id)
    assert [path.name for path in (home.home / "files").rglob("*") if path.is_file()] == [file_id]
