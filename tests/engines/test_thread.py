"""The thread around a stepper: commands in, steps while there is work, one orderly end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from appliance.domain.errors import ApplianceError, Internal, NotReady
from appliance.engines.stream import Outbox, Reply
from appliance.engines.thread import EngineThread


class Hanging:
    """A double of native code that hangs: a step ends when the test lets it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.comes_back = threading.Event()
        self.steps_left = 0
        self.closed = threading.Event()

    def take(self, command: Reply[int]) -> None:
        self.steps_left += 1

    def step(self) -> bool:
        self.entered.set()
        self.comes_back.wait(timeout=60)
        self.steps_left -= 1
        return self.steps_left > 0

    def abandon(self, error: ApplianceError | None) -> None:
        pass

    def close(self) -> None:
        self.closed.set()


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
    thread.submit((reply, number), reply)
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


async def test_the_pulse_counts_steps_while_there_is_work() -> None:
    """None while idle and after the end; else the number of completed steps, which stays the same while one runs."""
    stepper = Hanging()
    thread: EngineThread[Reply[int]] = EngineThread("hanging", stepper, Outbox())
    assert thread.pulse is None
    thread.submit(Reply(), Reply())
    await asyncio.to_thread(stepper.entered.wait)
    assert thread.pulse == 0
    stepper.comes_back.set()
    while thread.pulse is not None:
        await asyncio.sleep(0)
    stepper.comes_back.clear()
    stepper.entered.clear()
    thread.submit(Reply(), Reply())
    await asyncio.to_thread(stepper.entered.wait)
    assert thread.pulse == 1
    stepper.comes_back.set()
    thread.close()
    assert thread.pulse is None


async def test_a_hanging_step_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is told at once, who comes is refused with the same words, closing says that it did not end; and when
    the step ends after all, so does the thread, and frees what it has.
    """
    monkeypatch.setattr("appliance.engines.thread.CLOSE_SECONDS", 0.01)
    stepper = Hanging()
    thread: EngineThread[Reply[int]] = EngineThread("hanging", stepper, Outbox())
    running, waiting = Reply[int](), Reply[int]()
    thread.submit(running, running)
    await asyncio.to_thread(stepper.entered.wait)
    thread.submit(waiting, waiting)

    thread.give_up(NotReady("it hangs"))

    for reply in (running, waiting):
        with pytest.raises(NotReady, match="it hangs"):
            await reply.wait()
    with pytest.raises(NotReady, match="it hangs"):
        thread.submit(Reply(), Reply())
    assert thread.failure == "it hangs"
    with pytest.raises(Internal, match="did not end"):
        await asyncio.to_thread(thread.close)
    assert thread.pulse == 0

    stepper.comes_back.set()
    await asyncio.to_thread(stepper.closed.wait)
    monkeypatch.undo()
    await asyncio.to_thread(thread.close)
    assert thread.pulse is None
