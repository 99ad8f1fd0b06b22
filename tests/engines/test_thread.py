"""The thread around a stepper: commands in, steps while there is work, one orderly end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from appliance.domain.errors import ApplianceError, Internal
from appliance.engines.stream import Outbox, Reply
from appliance.engines.thread import EngineThread


class Doubler:
    """Answers each number with its double, one a step; 13 breaks it, 0 is never answered."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.open: list[tuple[Reply[int], int]] = []
        self.threads: set[str] = set()
        self.closed = 0
        self.error: ApplianceError | None = None

    def take(self, command: tuple[Reply[int], int]) -> None:
        self.threads.add(threading.current_thread().name)
        self.open.append(command)

    def step(self) -> bool:
        self.threads.add(threading.current_thread().name)
        self.outbox.flush()
        workable = [command for command in self.open if command[1]]
        if workable:
            reply, number = workable[0]
            if number == 13:
                raise OSError("thirteen")
            self.open.remove(workable[0])
            self.outbox.put(reply, 2 * number)
        return len(workable) > 1

    def abandon(self, error: ApplianceError | None) -> None:
        self.error = error
        for reply, _ in self.open:
            self.outbox.put(reply, error or Internal("closed"))
        self.open.clear()

    def close(self) -> None:
        self.closed += 1


def started() -> tuple[Doubler, EngineThread[tuple[Reply[int], int]]]:
    outbox = Outbox()
    stepper = Doubler(outbox)
    return stepper, EngineThread("doubler", stepper, outbox)


async def asked(thread: EngineThread[tuple[Reply[int], int]], number: int) -> int:
    reply: Reply[int] = Reply()
    thread.submit((reply, number))
    return await reply.wait()


async def test_commands_are_worked_off_on_one_thread() -> None:
    """Everything that the stepper does happens on its own thread, and every asker is answered."""
    stepper, thread = started()
    assert await asyncio.gather(*(asked(thread, n) for n in range(1, 10))) == [2 * n for n in range(1, 10)]
    assert stepper.threads == {"doubler"}
    assert thread.unread == 0
    thread.close()


async def test_close_ends_open_work_and_frees_once() -> None:
    """What waits is told, memory is freed once, closing twice is fine, later commands are refused or dropped."""
    stepper, thread = started()
    waiting = asyncio.create_task(asked(thread, 0))
    await asyncio.sleep(0)
    await asyncio.to_thread(thread.close)
    thread.close()
    with pytest.raises(Internal, match="closed"):
        await waiting
    assert (stepper.closed, stepper.error, thread.failure) == (1, None, None)
    with pytest.raises(Internal, match="closed"):
        await asked(thread, 1)
    thread.post((Reply(), 1))
    assert thread.unread == 0


async def test_a_fault_ends_everything_with_its_reason() -> None:
    """A step that raises: all open work fails with Internal, the reason stays readable, nothing is left hanging."""
    stepper, thread = started()
    waiting = [asyncio.create_task(asked(thread, n)) for n in (0, 13, 5)]
    for task in waiting:
        with pytest.raises(Internal, match="thirteen"):
            await task
    assert thread.failure is not None
    with pytest.raises(Internal, match="no longer runs"):
        await asked(thread, 1)
    thread.close()
    assert stepper.closed == 1
