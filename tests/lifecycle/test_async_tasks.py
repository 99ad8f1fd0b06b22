"""Async tasks: accepted at once, run by slots, survive the server, are kept for a while. Real registry; a scripted
dialect, a clock to turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.domain.background import AsyncTask, TaskStatus
from appliance.domain.errors import Busy, InvalidRequest, NotFound, QueueFull, TooLarge
from appliance.lifecycle.async_tasks import SWEEP_SECONDS
from appliance.lifecycle.background import MOST_INTERRUPTIONS, Reply
from tests.support.background_home import SLOTS, TASK_LIMITS, BackgroundHome, until
from tests.support.stored_requests import Script


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[BackgroundHome]:
    made = BackgroundHome(tmp_path)
    yield made
    await made.close()


async def ended(home: BackgroundHome, task_id: str) -> AsyncTask:
    async def look() -> bool:
        return (await home.tasks.get(home.mine, task_id)).is_final

    await until(look)
    return await home.tasks.get(home.mine, task_id)


async def accept(home: BackgroundHome, **args: Any) -> str:
    return (await home.tasks.create(home.mine, "d", args)).id


async def test_a_task_is_answered(home: BackgroundHome) -> None:
    """It is PENDING when its id is given out, and ends with the answer to its args, asked by its own key."""
    await home.start(Script())
    made = await home.tasks.create(home.mine, "d", {"n": 1})
    assert made.status is TaskStatus.PENDING
    task = await ended(home, made.id)
    assert (task.status, task.status_code, task.traceback) == (TaskStatus.SUCCESS, 200, None)
    assert task.result == {"echo": {"n": 1}, "by": "k", "where": "d"}


async def test_a_refusal_is_a_failure(home: BackgroundHome) -> None:
    """What running it raises is the task's status and words."""
    await home.start(Script([InvalidRequest("too long")]))
    task = await ended(home, await accept(home))
    assert (task.status, task.status_code, task.traceback, task.result) == (TaskStatus.FAILURE, 400, "too long", None)


async def test_what_passes_by_itself_is_waited_for(home: BackgroundHome) -> None:
    """A full queue fails no task."""
    await home.start(Script([QueueFull("full", retry_after_seconds=1)]))
    assert (await ended(home, await accept(home))).status is TaskStatus.SUCCESS


async def test_as_many_run_as_there_are_slots(home: BackgroundHome) -> None:
    """The others wait here, in order, and not in the engine's queue."""
    script = Script()
    script.gate.clear()
    await home.start(script)
    ids = [await accept(home, n=n) for n in range(5)]

    async def full() -> bool:
        return script.running == SLOTS

    await until(full)
    assert (home.tasks.running, home.tasks.waiting) == (SLOTS, 5 - SLOTS)
    script.gate.set()
    for task_id in ids:
        await ended(home, task_id)
    assert script.most_at_once == SLOTS
    assert [asked["n"] for asked in script.asked] == [0, 1, 2, 3, 4]


async def test_what_is_wrong_is_refused_at_once(home: BackgroundHome) -> None:
    """Nothing of it is kept."""
    await home.start(Script())
    with pytest.raises(InvalidRequest, match="wrong"):
        await accept(home, wrong=True)
    with pytest.raises(TooLarge, match="200"):
        await accept(home, text="x" * 200)
    for _ in range(TASK_LIMITS.kept):
        await accept(home)


async def test_a_result_above_the_limit(home: BackgroundHome) -> None:
    """It is a failure that says how large it would have been."""
    script = Script()
    script.reply = Reply(200, {"text": "x" * 500})
    await home.start(script)
    task = await ended(home, await accept(home))
    assert (task.status, task.status_code) == (TaskStatus.FAILURE, 413)
    assert "async_task_bytes" in str(task.traceback)


async def test_too_many_tasks(home: BackgroundHome) -> None:
    """One more than an account may have is refused with a time to come back; deleting one, or time, makes room."""
    script = Script()
    await home.start(script)
    ids = [await accept(home) for _ in range(TASK_LIMITS.kept)]
    for task_id in ids:
        await ended(home, task_id)
    with pytest.raises(Busy, match="async_task_limit") as caught:
        await accept(home)
    assert caught.value.retry_after_seconds == pytest.approx(TASK_LIMITS.retention_seconds + SWEEP_SECONDS)
    await home.tasks.create(home.theirs, "d", {})

    await home.tasks.delete(home.mine, ids[0])
    await accept(home)


async def test_results_are_kept_for_a_while(home: BackgroundHome) -> None:
    """A task is forgotten when its time after the end is over, and not before."""
    await home.start(Script())
    task_id = await accept(home)
    await ended(home, task_id)
    home.clock.seconds = TASK_LIMITS.retention_seconds - 1
    await home.tasks.sweep()
    await home.tasks.get(home.mine, task_id)
    home.clock.seconds += SWEEP_SECONDS + 2
    await home.tasks.sweep()
    with pytest.raises(NotFound):
        await home.tasks.get(home.mine, task_id)


@pytest.mark.parametrize("running", [True, False])
async def test_deleting_cancels(home: BackgroundHome, running: bool) -> None:
    """A task that is deleted is not answered any more, whether it runs or waits, and leaves its place to the next."""
    script = Script()
    script.gate.clear()
    await home.start(script)
    ids = [await accept(home, n=n) for n in range(4)]

    async def full() -> bool:
        return script.running == SLOTS

    await until(full)
    gone = 0 if running else 3
    await home.tasks.delete(home.mine, ids[gone])
    with pytest.raises(NotFound):
        await home.tasks.get(home.mine, ids[gone])
    script.gate.set()
    for task_id in ids:
        if task_id != ids[gone]:
            await ended(home, task_id)
    assert sorted(asked["n"] for asked in script.answered) == sorted({0, 1, 2, 3} - {gone})
    assert (home.tasks.running, home.tasks.waiting) == (0, 0)


async def test_tasks_belong_to_their_account(home: BackgroundHome) -> None:
    """Another account finds and deletes none of them."""
    await home.start(Script())
    task_id = await accept(home)
    for act in (home.tasks.get, home.tasks.delete):
        with pytest.raises(NotFound, match=task_id):
            await act(home.theirs, task_id)
    await ended(home, task_id)


async def test_tasks_survive_a_crash(home: BackgroundHome) -> None:
    """What ran and what waited is answered after the start, in the order it came."""
    before = Script()
    before.gate.clear()
    await home.start(before)
    ids = [await accept(home, n=n) for n in range(4)]

    async def full() -> bool:
        return before.running == SLOTS

    await until(full)
    await home.crash()
    after = Script()
    await home.start(after)
    for task_id in ids:
        assert (await ended(home, task_id)).status is TaskStatus.SUCCESS
    assert [asked["n"] for asked in after.asked] == [0, 1, 2, 3]


async def test_a_task_that_takes_the_server_down_is_given_up(home: BackgroundHome) -> None:
    """A server must not end again and again for one task; an orderly stop does not count."""
    task_id = ""
    for start in range(MOST_INTERRUPTIONS + 1):
        script = Script()
        script.gate.clear()
        await home.start(script)
        task_id = task_id or await accept(home)

        async def runs(script: Script = script) -> bool:
            return script.running == 1

        await until(runs)
        if start == 0:
            await home.tasks.close()
            home.restart()
        else:
            await home.crash()
    await home.start(Script())
    task = await ended(home, task_id)
    assert (task.status, task.status_code) == (TaskStatus.FAILURE, 500)
    assert str(MOST_INTERRUPTIONS) in str(task.traceback)


async def test_a_revoked_key_runs_nothing(home: BackgroundHome) -> None:
    """Work that waited when its key was revoked fails as a request with that key would."""
    home.revoke_key()
    await home.start(Script())
    task = await ended(home, await accept(home))
    assert (task.status, task.status_code) == (TaskStatus.FAILURE, 401)
