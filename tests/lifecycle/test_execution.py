"""One call under way: whatever way it ends, its lease is released and its record written, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from appliance.domain.errors import ApplianceError, Internal, PromptTooLong
from appliance.domain.inference import CompletionRequest, Delta, FinishReason, Usage
from appliance.domain.models import Call, ModelType
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.execution import CallContext, Record, TextExecution, settle
from appliance.lifecycle.inference import Inference
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.resident import Lease
from appliance.scheduler.scheduler import Scheduler
from appliance.scheduler.turns import RequestLeases, Turns
from tests.lifecycle.things import NOW, caller, deployment, model
from tests.support.fake_engine import FakeBackend, FakeClock, FakeEngine, wanted

END = Delta(finish_reason=FinishReason.STOP)


class Sink:
    """Keeps the calls that were committed."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def append(self, call: Call) -> None:
        await asyncio.sleep(0)
        self.calls.append(call)


class Script:
    """A stream that gives these deltas, raises these errors, and waits for ever at an Ellipsis."""

    marks_thoughts = False

    def __init__(self, *steps: object) -> None:
        self.usage = Usage(prompt_tokens=3)
        self.closed = False
        self._deltas = self._play(steps)

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self._deltas

    async def _play(self, steps: tuple[object, ...]) -> AsyncIterator[Delta]:
        for step in steps:
            if step is ...:
                await asyncio.Event().wait()
            if isinstance(step, BaseException):
                raise step
            assert isinstance(step, Delta)
            self.usage.response_tokens += 1
            yield step

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def released() -> list[bool]:
    """One entry per release of the lease."""
    return []


@pytest.fixture
def execute(sink: Sink, released: list[bool]) -> Callable[..., TextExecution]:
    """Makes an execution over scripts."""

    def make(*scripts: Script) -> TextExecution:
        context = CallContext(
            caller=caller(),
            deployment=deployment(),
            model_type=ModelType.COMPLETION,
            dialect="openai",
            started_at=NOW,
        )
        lease = Lease(FakeEngine(1), lambda: released.append(True), 5.0)
        return TextExecution(lease, scripts, Record(context, sink))  # type: ignore[arg-type]

    return make


Execute = Callable[..., TextExecution]


async def test_an_answer(execute: Execute, sink: Sink, released: list[bool]) -> None:
    """The texts are whole, and the call is committed before they are given out."""
    execution = execute(Script(Delta(text="hel"), Delta(text="lo"), END))
    await execution.prime()

    (text,) = await execution.texts()

    assert (text.text, text.finish_reason) == ("hello", FinishReason.STOP)
    assert [(c.finish_reason, c.error_code, c.prompt_tokens, c.response_tokens) for c in sink.calls] == [
        ("stop", None, 3, 3)
    ]
    assert released == [True]


async def test_the_commit_comes_before_the_last_delta(execute: Execute, sink: Sink) -> None:
    """A client that has seen the end finds the call in the log."""
    execution = execute(Script(Delta(text="a"), END))
    seen: list[int] = []

    async for _, _ in execution.deltas():
        seen.append(len(sink.calls))

    assert seen == [0, 1]


async def test_a_failure_before_the_first_delta(execute: Execute, sink: Sink, released: list[bool]) -> None:
    """It is raised while a real status can still be sent, and logged with its code."""
    execution = execute(Script(PromptTooLong(9, 5)))

    with pytest.raises(PromptTooLong):
        await execution.prime()

    assert [c.error_code for c in sink.calls] == ["prompt_too_long"]
    assert released == [True]


@pytest.mark.parametrize("fault", [Internal("the engine died"), ValueError("a bug")], ids=["ours", "a bug"])
async def test_a_failure_in_the_middle(fault: Exception, execute: Execute, sink: Sink, released: list[bool]) -> None:
    """What came before it was given out; the call is logged as failed, a bug as an internal fault."""
    execution = execute(Script(Delta(text="a"), fault))

    with pytest.raises(type(fault)):
        await execution.texts()

    assert [(c.finish_reason, c.error_code) for c in sink.calls] == [(None, "internal")]
    assert released == [True]


async def test_a_stream_that_ends_without_a_reason(execute: Execute, sink: Sink) -> None:
    """An engine that just stops is a fault, not an answer."""
    with pytest.raises(Internal):
        await execute(Script(Delta(text="a"))).texts()

    assert [c.error_code for c in sink.calls] == ["internal"]


async def test_several_streams(execute: Execute, sink: Sink, released: list[bool]) -> None:
    """Their texts come in order, their tokens are added up, and one call is logged for all."""
    execution = execute(Script(Delta(text="a"), END), Script(Delta(text="b"), END))

    texts = await execution.texts()

    assert [text.text for text in texts] == ["a", "b"]
    assert [(c.prompt_tokens, c.response_tokens) for c in sink.calls] == [(6, 4)]
    assert released == [True]


async def test_one_of_several_fails(execute: Execute, sink: Sink, released: list[bool]) -> None:
    """The others are cancelled with it."""
    scripts = (Script(Delta(text="a"), ...), Script(Internal("died")))
    execution = execute(*scripts)

    with pytest.raises(Internal):
        await execution.texts()

    assert all(script.closed for script in scripts)
    assert [c.error_code for c in sink.calls] == ["internal"]
    assert released == [True]


async def cancelled(work: object) -> None:
    """Start the work, let it come to where it waits, and cancel it."""
    task = asyncio.ensure_future(work)  # type: ignore[arg-type]
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()


async def test_cancelled_while_primed(execute: Execute, sink: Sink, released: list[bool]) -> None:
    """A client that leaves before the first delta: cancelled, released, logged as such."""
    script = Script(...)
    await cancelled(execute(script).prime())

    assert script.closed
    assert [c.finish_reason for c in sink.calls] == ["cancelled"]
    assert released == [True]


@pytest.mark.parametrize("count", [1, 3])
async def test_cancelled_in_the_middle(count: int, execute: Execute, sink: Sink, released: list[bool]) -> None:
    """A client that leaves between deltas, of one stream or several."""
    scripts = [Script(Delta(text="a"), ...) for _ in range(count)]
    await cancelled(execute(*scripts).texts())

    assert all(script.closed for script in scripts)
    assert [c.finish_reason for c in sink.calls] == ["cancelled"]
    assert released == [True]


async def test_deltas_that_nobody_asked_for(execute: Execute, sink: Sink, released: list[bool]) -> None:
    """Deltas that were never iterated end with ``close``, which may be called twice."""
    execution = execute(Script(Delta(text="a"), END))
    await execution.prime()
    execution.deltas()

    execution.close()
    execution.close()
    await settle()

    assert [c.finish_reason for c in sink.calls] == ["cancelled"]
    assert released == [True]


async def test_deltas_left_in_the_middle(execute: Execute, sink: Sink, released: list[bool]) -> None:
    """A reader that stops early is a client that left."""
    execution = execute(Script(Delta(text="a"), Delta(text="b"), END))
    async with aclosing(execution.deltas()) as deltas:  # type: ignore[type-var]
        await anext(deltas)
    await settle()

    assert [c.finish_reason for c in sink.calls] == ["cancelled"]
    assert released == [True]


# --- before there is a lease ---------------------------------------------------------------------------------------


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    made = Scheduler(FakeClock(), Ledger("cpu", 100), idle_seconds=60, queue_limit=2)
    yield made
    await made.close()


@pytest.fixture
def inference(scheduler: Scheduler, sink: Sink) -> Inference:
    """Calls of one deployment, ``d``."""
    directory = Directory()
    directory.models = {"m": model("m")}
    directory.put_deployment(deployment("d", model_id="m"))
    return Inference(directory, RequestLeases(Turns(scheduler, FakeClock()), 60), sink, FakeClock())


def generate(inference: Inference) -> object:
    return inference.generate(
        caller(),
        inference.by_name(caller(), "d"),
        [CompletionRequest(prompt="x")],
        model_type=ModelType.COMPLETION,
        dialect="openai",
    )


async def test_leaving_while_the_model_loads(inference: Inference, scheduler: Scheduler, sink: Sink) -> None:
    """A client that leaves while it waits for a load is logged as cancelled; no lease is left on what was loaded."""
    backend = FakeBackend()
    backend.gate.clear()
    scheduler.want(wanted("d", backend))

    await cancelled(generate(inference))
    backend.gate.set()
    while not scheduler.is_resident("d"):
        await asyncio.sleep(0)

    assert [(c.finish_reason, c.error_code) for c in sink.calls] == [("cancelled", None)]
    assert [r.leases for r in scheduler.residents()] == [0]


async def test_a_load_that_fails(inference: Inference, scheduler: Scheduler, sink: Sink) -> None:
    """The caller gets the load's error, and the call is logged with its code."""
    backend = FakeBackend()
    backend.error = Internal("no such luck")
    scheduler.want(wanted("d", backend))

    with pytest.raises(ApplianceError, match="no such luck"):
        await generate(inference)  # type: ignore[misc]

    assert [c.error_code for c in sink.calls] == ["internal"]
