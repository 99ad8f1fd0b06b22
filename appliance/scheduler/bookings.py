"""Room for work that is no engine: who asks for it, has it, and gives it back."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError
from appliance.scheduler.booking import Booking
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.demand import Work
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.line import Line
from appliance.scheduler.placer import Placer
from appliance.scheduler.roster import Roster

log = logging.getLogger(__name__)


class Bookings:
    """Takes bookings through the line and back."""

    def __init__(
        self, clock: Clock, ledger: Ledger, gpus: GpuBudgets, placer: Placer, roster: Roster, line: Line
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._gpus = gpus
        self._placer = placer
        self._roster = roster
        self._line = line
        self._numbers = itertools.count(1)

    async def book(self, work: Work, revoke: Callable[[str], None], stay_seconds: float) -> Booking:
        """Wait in the line. Raises CannotFit, NotReady. Cancelling gives up the place."""
        self._placer.check_possible(work)
        if work.resources.gpus:
            self._gpus.refresh()
        booking = Booking(
            f"work {next(self._numbers)}",
            work,
            self._clock.monotonic_seconds(),
            revoke=revoke,
            release=self._release,
            stay_seconds=stay_seconds,
        )
        self._line.join(booking)
        try:
            await booking.granted
        except BaseException:
            booking.release()
            raise
        return booking

    def all(self) -> list[Booking]:
        """Those that have their room, then those that wait for it."""
        return [*self._roster.bookings.values(), *(each for each in self._line if isinstance(each, Booking))]

    def grant(self, booking: Booking) -> None:
        """Its bytes are booked."""
        self._roster.bookings[booking.holder] = booking
        booking.granted_seconds = self._clock.monotonic_seconds()
        if not booking.granted.done():
            booking.granted.set_result(None)

    def _release(self, booking: Booking) -> None:
        if booking in self._line:
            self._line.leave(booking)
        elif self._roster.bookings.pop(booking.holder, None) is not None:
            self._ledger.release(booking.holder)
            log.info("'%s' has given its memory back", booking.demand.name)
            self._line.advance()

    def close(self, error: ApplianceError) -> None:
        """Tell those who have their room to end, and refuse those who wait."""
        for booking in self.all():
            if booking in self._line:
                self._line.leave(booking)
                booking.refuse(error)
            else:
                booking.revoke(error.message)
