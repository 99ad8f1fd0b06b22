"""Texts in, results out, and what happens to requests that leave, fail or come too late.

``Gate`` stands in for the session: it runs a batch only when the test lets it, so that nothing depends on time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from appliance.domain.errors import Internal, NotReady
from appliance.engines.onnx.collector import Collector, Work
from appliance.engines.onnx.line import Line
from appliance.engines.onnx.tasks import EncodedText, Floats


class Gate:
    """Runs batches one by one, as allowed; a text's output is its first id. Id 13 is what native code dies of."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self._allowed = threading.Semaphore(0)

    def run(self, texts: Sequence[EncodedText]) -> list[Floats]:
        self.batches.append([int(text.ids[0]) for text in texts])
        self.entered.release()
        self._allowed.acquire()
        if 13 in self.batches[-1]:
            raise RuntimeError("broken")
        return [np.array([text.ids[0]], np.float32) for text in texts]

    def allow(self, batches: int = 1) -> None:
        self._allowed.release(batches)

    async def running(self) -> None:
        """Wait until a batch is inside."""
        await asyncio.to_thread(self.entered.acquire)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def collector(gate: Gate) -> Iterator[Collector]:
    made = Collector(gate.run, Line(batch_tokens=100, pass_tokens=20), name="test-collector")
    yield made
    gate.allow(100)
    made.close()


def work(first_id: int, length: int = 10) -> Work[float]:
    ids = np.full(length, first_id)
    return Work(EncodedText(ids, np.zeros_like(ids), np.zeros(length, np.bool_)), lambda output: float(output[0]))


async def submitted(collector: Collector, *works: Work[float]) -> asyncio.Task[list[float]]:
    """A request in the queue."""
    task = asyncio.create_task(collector.submit(works))
    await asyncio.sleep(0)
    return task


class TestSubmit:
    """Texts in, results out."""

    async def test_results_keep_the_order_of_the_works(self, collector: Collector, gate: Gate) -> None:
        """Whatever batches the texts ran in, each result stands at its text's place."""
        gate.allow(100)

        assert await collector.submit([work(i, 10 + 37 * i % 50) for i in range(12)]) == list(range(12))

    async def test_no_works_no_batch(self, collector: Collector, gate: Gate) -> None:
        """An empty request is answered without the engine."""
        assert await collector.submit([]) == []
        assert gate.batches == []

    async def test_requests_that_wait_share_a_batch(self, collector: Collector, gate: Gate) -> None:
        """What arrives while one batch runs goes into the next together."""
        first = await submitted(collector, work(1))
        await gate.running()
        others = [await submitted(collector, work(i)) for i in (2, 3, 4)]
        gate.allow(2)

        assert await asyncio.gather(first, *others) == [[1], [2], [3], [4]]
        assert [sorted(batch) for batch in gate.batches] == [[1], [2, 3, 4]]

    async def test_a_text_larger_than_the_budget_runs_alone(self, collector: Collector, gate: Gate) -> None:
        """The budget bounds batches, not texts."""
        gate.allow(2)

        assert await collector.submit([work(1, 501), work(2, 500)]) == [1, 2]
        assert gate.batches == [[1], [2]]

    async def test_a_short_text_does_not_stand_behind_a_long_list(self, collector: Collector, gate: Gate) -> None:
        """While thousands of another's long texts wait, it is answered by the very next batch."""
        long = await submitted(collector, *(work(1, 90) for _ in range(2_000)))
        await gate.running()
        short = await submitted(collector, work(2, 8))
        gate.allow(2)

        assert await short == [2]
        assert gate.batches[:2] == [[1], [2]]
        assert not long.done()

    async def test_an_opening_work_is_finished_before_the_others(self, collector: Collector, gate: Gate) -> None:
        """What the others' results are made from is there when they are made, in one batch or in several."""
        finished: list[int] = []

        def noted(first_id: int, length: int) -> Work[None]:
            return Work(work(first_id, length).text, lambda output: finished.append(int(output[0])))

        gate.allow(3)
        await collector.submit([noted(1, 10), noted(2, 10), noted(3, 90), noted(4, 60)], opening=0)

        assert finished == [1, 2, 3, 4]


class TestCancel:
    """A caller that leaves."""

    async def test_takes_its_texts_out_of_the_queue(self, collector: Collector, gate: Gate) -> None:
        """Texts that nobody waits for are never computed."""
        running = await submitted(collector, work(1))
        await gate.running()
        leaving = await submitted(collector, work(2), work(3))
        staying = await submitted(collector, work(4))
        leaving.cancel()
        await asyncio.wait([leaving])
        gate.allow(2)

        assert await running == [1]
        assert await staying == [4]
        assert gate.batches == [[1], [4]]

    async def test_during_its_batch_harms_nobody(self, collector: Collector, gate: Gate) -> None:
        """The batch ends, the other requests in it get their results."""
        leaving = await submitted(collector, work(1))
        await gate.running()
        leaving.cancel()
        await asyncio.wait([leaving])
        staying = await submitted(collector, work(2))
        gate.allow(2)

        assert await staying == [2]


class TestFailure:
    """A session that breaks."""

    async def test_refuses_everyone_and_says_why(self, collector: Collector, gate: Gate) -> None:
        """Those in the batch, those behind it and those who come later all get the reason."""
        first = await submitted(collector, work(13))
        await gate.running()
        behind = await submitted(collector, work(1))
        gate.allow()

        results = await asyncio.gather(first, behind, return_exceptions=True)

        assert [type(result) for result in results] == [Internal, Internal]
        assert collector.failure is not None
        assert "broken" in collector.failure
        with pytest.raises(Internal, match="broken"):
            await collector.submit([work(2)])


class TestHang:
    """A batch that does not end."""

    async def test_the_pulse_counts_batches_while_there_is_work(self, collector: Collector, gate: Gate) -> None:
        """None while nobody waits; else the number of completed batches, which stays the same while one runs."""
        assert collector.pulse is None
        first = await submitted(collector, work(1))
        await gate.running()
        assert collector.pulse == 0
        second = await submitted(collector, work(2))
        gate.allow()
        await first
        await gate.running()
        assert collector.pulse == 1
        gate.allow()
        await second

    async def test_it_is_given_up(self, collector: Collector, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those in the batch, those behind it and those who come later are told at once; closing says that it hangs."""
        first = await submitted(collector, work(1))
        await gate.running()
        behind = await submitted(collector, work(2))

        collector.give_up(NotReady("it hangs"))

        results = await asyncio.gather(first, behind, return_exceptions=True)
        assert [str(result) for result in results] == ["it hangs", "it hangs"]
        with pytest.raises(NotReady, match="it hangs"):
            await collector.submit([work(3)])
        assert collector.failure == "it hangs"
        with monkeypatch.context() as patched:
            patched.setattr("appliance.engines.thread.CLOSE_SECONDS", 0.01)
            with pytest.raises(Internal, match="did not end"):
                await asyncio.to_thread(collector.close)
        assert collector.pulse == 0
        gate.allow()
        await asyncio.to_thread(collector.close)
        assert collector.pulse is None


class TestClose:
    """Unloading."""

    async def test_refuses_what_waits_and_ends_what_runs(self, collector: Collector, gate: Gate) -> None:
        """The running batch is answered; the queue is told to come again."""
        running = await submitted(collector, work(1))
        await gate.running()
        waiting = await submitted(collector, work(2))
        closing = asyncio.create_task(asyncio.to_thread(collector.close))
        with pytest.raises(NotReady):
            await waiting
        gate.allow()
        await closing

        assert await running == [1]
        assert gate.batches == [[1]]

    async def test_twice_is_fine_and_later_requests_are_refused(self, collector: Collector) -> None:
        """Nothing hangs on a closed collector."""
        collector.close()
        collector.close()

        with pytest.raises(NotReady):
            await collector.submit([work(1)])


class TestStats:
    """The dashboard's numbers."""

    async def test_count_requests(self, collector: Collector, gate: Gate) -> None:
        """A request with a text in the running batch is active, others wait; at the end there are none."""
        first = await submitted(collector, work(1), work(2))
        await gate.running()
        second = await submitted(collector, work(3))
        during = collector.stats()
        gate.allow(2)
        await asyncio.gather(first, second)
        await asyncio.to_thread(collector.close)

        assert (during.active, during.waiting) == (1, 1)
        assert (collector.stats().active, collector.stats().waiting) == (0, 0)
