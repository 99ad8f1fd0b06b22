"""Memory of work that is no engine, as ``GET /admin/state`` shows it; a real scheduler, its devices are numbers."""

from __future__ import annotations

import asyncio

from appliance.api.ops.state import booking_view
from appliance.engines.base import Need
from appliance.scheduler.demand import Work
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.scheduler import Scheduler
from appliance.wire import admin
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted


async def test_a_booking_through_its_states() -> None:
    """It waits without a place, works in one, and ends when a load needs that."""
    scheduler = Scheduler(FakeClock(), Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    scheduler.want(wanted("a", FakeBackend(20)))

    def shown() -> admin.Booking:
        (booking,) = scheduler.bookings()
        return booking_view(booking)

    lease = await scheduler.acquire("a")
    work = Work(name="training", need=Need(weights_bytes=10))
    booked = asyncio.create_task(scheduler.book(work, lambda reason: None))
    await asyncio.sleep(0)
    assert shown() == admin.Booking(name="training", state="WAITING", placement=[], predicted_bytes=10)
    scheduler.forget("a")
    lease.release()
    booking = await booked
    in_ram = [admin.DeviceShare(device="cpu", layers=1, reserved_bytes=10)]
    assert shown() == admin.Booking(name="training", state="WORKING", placement=in_ram, predicted_bytes=10)
    booking.revoke("its memory is needed")
    assert shown().state == "ENDING"
    booking.release()
    assert scheduler.bookings() == []
    await scheduler.close()
