"""The thread that owns an engine's C objects, and the inbox through which work enters it.

A ``Stepper`` is single-threaded: it takes commands and makes steps. This file gives it a thread, an inbox and an end:
whatever way the thread ends (closed, or a step raised), the stepper ends every open request and frees its memory.

A step in native code may also never end. The thread's pulse shows that, and ``give_up`` then ends the open requests
from outside; the memory stays where it is, for only the thread itself could free it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from appliance.domain.errors import ApplianceError, Internal
from appliance.engines.stream import Outbox, Receiver

log = logging.getLogger(__name__)

CLOSE_SECONDS = 60.0
"""A step takes a fraction of a second; who has not ended after this long will not."""

Command = TypeVar("Command", contravariant=True)
AnyCommand = TypeVar("AnyCommand")


def join(thread: threading.Thread) -> None:
    """Wait for the end of an engine's thread. Raises Internal when it does not end: it hangs in native code."""
    thread.join(CLOSE_SECONDS)
    if thread.is_alive():
        raise Internal(
            f"the engine thread '{thread.name}' did not end within {CLOSE_SECONDS:.0f} s; what it holds is free again "
            "when it ends, at the latest when the appliance restarts"
        )


class Stepper(Protocol[Command]):
    """Single-threaded work in steps."""

    def take(self, command: Command) -> None:
        """Accept one command; quick. Results go to the outbox it was made with."""

    def step(self) -> bool:
        """Advance everything by one step. False when there is nothing left to do.

        Before its long part it flushes what the step before put into the outbox; after the last one the thread does.
        """

    def abandon(self, error: ApplianceError | None) -> None:
        """End every open request: cancelled, or with the error."""

    def close(self) -> None:
        """Free what it owns."""


class EngineThread(Generic[AnyCommand]):
    """Runs a stepper until it is closed or fails."""

    def __init__(self, name: str, stepper: Stepper[AnyCommand], outbox: Outbox) -> None:
        self._stepper = stepper
        self._outbox = outbox
        self._inbox: deque[AnyCommand] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._resting = True
        self._steps = 0
        self._open: WeakSet[Receiver] = WeakSet()
        """Whom to tell when the thread cannot; those that were answered take no second answer."""
        self._given_up: ApplianceError | None = None
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def unread(self) -> int:
        """Commands that the stepper has not taken yet."""
        return len(self._inbox)

    @property
    def pulse(self) -> int | None:
        """Steps completed so far, while there is something to do; None when not, and after the thread's end."""
        return None if self._resting and not self._inbox else self._steps

    def submit(self, command: AnyCommand, receiver: Receiver) -> None:
        """Put a command into the inbox; ``receiver`` gets what comes of it. Called on the loop.

        Raises Internal when the thread has failed or was closed, and what it was given up with.
        """
        with self._news:
            if self._given_up is not None:
                raise self._given_up
            if self.failure is not None or self._closing:
                raise Internal(f"the engine no longer runs: {self.failure or 'it was closed'}")
            self._inbox.append(command)
            self._news.notify()
        self._open.add(receiver)

    def post(self, command: AnyCommand) -> None:
        """Like submit, for commands that an ended thread has no use for."""
        with self._news:
            if self.failure is None and not self._closing:
                self._inbox.append(command)
                self._news.notify()

    def close(self) -> None:
        """Cancel what runs, free everything, wait for the thread's end. Twice is fine.

        Raises Internal when the thread does not end: it hangs in native code, and its memory with it.
        """
        with self._news:
            self._closing = True
            self._news.notify()
        join(self._thread)

    def give_up(self, error: ApplianceError) -> None:
        """It does not come back from a step: tell every open receiver the error, and take no more commands.

        Called on the loop; never waits. Should the step end after all, so does the thread, and it frees everything.
        """
        with self._news:
            self._given_up = error
            self.failure = error.message
            self._closing = True
            self._news.notify()
        for receiver in list(self._open):
            receiver.receive(error)

    def _run(self) -> None:
        error: Internal | None = None
        try:
            busy = False
            while self._receive(wait=not busy):
                busy = self._stepper.step()
                self._steps += 1
                if not busy:
                    self._outbox.flush()
        except BaseException as fault:  # a C library's thread has nobody above it who could handle anything
            log.exception("the engine thread '%s' died", self._thread.name)
            error = fault if isinstance(fault, Internal) else Internal(f"the engine died: {fault!r}")
        self._end(error)

    def _receive(self, *, wait: bool) -> bool:
        """Pass the inbox on to the stepper; False when it is time to end."""
        with self._news:
            while wait and not self._inbox and not self._closing:
                self._resting = True
                self._news.wait()
            self._resting = False
            if self._closing:
                return False
            commands = list(self._inbox)
            self._inbox.clear()
        for command in commands:
            self._stepper.take(command)
        return True

    def _end(self, error: Internal | None) -> None:
        with self._news:
            if error is not None and self._given_up is None:
                self.failure = error.message
            self._closing = True
            commands = list(self._inbox)
            self._inbox.clear()
        for command in commands:
            self._stepper.take(command)
        self._stepper.abandon(error)
        self._outbox.flush()
        self._stepper.close()
        self._resting = True
