"""Measures deployments of a running server over HTTP: one after the other, with growing numbers of clients.

A measurement is made of rounds. In a round every client sends one request at the same moment; rounds follow each other
until there is enough to divide by, or the time is over. Text is measured in two halves with the same prompts: one asks
for a single token, which times the prompts; one asks for an answer, which finds the prompts in the cache and times the
tokens. What is divided is what the server counted: answers may end on their own, and prompts are made of words and come
out about as long as asked for.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import Struct, field

from appliance.domain.clock import Clock
from appliance.wire import admin
from tui.client import Client
from tui.problems import ConsoleError
from tui.records import TokenCount

T = TypeVar("T")

TEXTS_PER_REQUEST = 8
TEXT_TOKENS = 128
"""Of one text to embed or to rank."""
SAMPLE_WORDS = 64
PROMPT_HEADROOM = 1.1
"""A prompt may come out this much longer than asked for."""
GENERATES = frozenset({"COMPLETION", "CHAT_COMPLETION", "AGENT"})
_WORDS = ("the", "old", "house", "by", "a", "river", "had", "many", "small", "windows", "and", "one", "red", "door")


class Sizes(Struct, frozen=True, kw_only=True):
    """What is measured, and how long at most."""

    clients: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    response_tokens: int
    limit_seconds: float
    """For one measurement."""
    enough_seconds: float = 1.0
    """Rounds follow each other for so long; a slow engine's single one may take longer, up to the limit."""

    def most_measurements(self, model_type: str) -> int:
        """How many one deployment takes at most."""
        return len(self.clients) * (len(self.prompt_tokens) if model_type in GENERATES else 1)


class Found(Struct, kw_only=True):
    """What came of one deployment. It grows while it is measured, so that an interruption loses nothing."""

    deployment_name: str
    points: list[admin.BenchmarkPoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""
    kept: admin.Benchmark | None = None
    """As the server keeps it."""


class _Answer(Struct, frozen=True, kw_only=True):
    started: float
    first: float
    ended: float
    usage: TokenCount


class _TextRound(Struct, frozen=True, kw_only=True):
    prompts: list[_Answer]
    """Each of a single token."""
    answers: list[_Answer]


class _PooledRound(Struct, frozen=True, kw_only=True):
    seconds: float
    tokens: int


class Bench:
    """One run over some deployments. ``found`` has what there is at any moment, ``tell`` hears what comes next."""

    def __init__(
        self, client: Client, sizes: Sizes, clock: Clock, tell: Callable[[str], None], found: list[Found]
    ) -> None:
        self._client = client
        self._sizes = sizes
        self._clock = clock
        self._tell = tell
        self._random = random.Random()  # noqa: S311  # prompts that differ, no secrets
        self._tokens_per_word = 1.0
        self.found = found

    async def run(self, deployments: Sequence[admin.DeploymentState]) -> None:
        """Measure them in turn. The server keeps what was measured, also when this is cancelled in the middle."""
        for deployment in deployments:
            found = Found(deployment_name=deployment.name)
            self.found.append(found)
            try:
                await self._measure(deployment, found)
            except ConsoleError as error:
                found.notes.append(f"{error.title}: {error.detail}")

    async def _measure(self, deployment: admin.DeploymentState, found: Found) -> None:
        plan = await self._client.plan(admin.PlanCreate(deployment=deployment.id))
        if plan.outcome in {"never", "fails"}:
            found.notes.append(plan.reason)
            return
        self._tell(f"{deployment.name}: the first request")
        await self._first_request(deployment)
        resident = await self._resident(deployment)
        if resident is None or resident.loaded_at is None:
            found.notes.append("its engine left memory before it could be measured")
            return
        measure = self._measure_text if deployment.model_type in GENERATES else self._measure_pooled
        try:
            await measure(deployment, resident, found)
        finally:
            if found.points:
                await self._keep(deployment, resident.loaded_at, found)

    async def _first_request(self, deployment: admin.DeploymentState) -> None:
        """Loads the engine if need be, and shows how many tokens a word has."""
        text = self._text(SAMPLE_WORDS)
        if deployment.model_type in GENERATES:
            tokens = (await self._complete(deployment, text, 1)).usage.prompt_tokens
        else:
            tokens = await self._pool(deployment, [text])
        self._tokens_per_word = max(1, tokens) / SAMPLE_WORDS

    async def _resident(self, deployment: admin.DeploymentState) -> admin.Resident | None:
        residents = (await self._client.state()).residents
        return next((r for r in residents if r.deployment_id == deployment.id and r.state == "READY"), None)

    async def _keep(self, deployment: admin.DeploymentState, loaded_at: datetime, found: Found) -> None:
        body = admin.BenchmarkCreate(deployment_id=deployment.id, loaded_at=loaded_at, points=found.points)
        try:
            found.kept = await self._client.keep_benchmark(body)
        except ConsoleError as error:
            found.notes.append(f"not kept: {error.detail}")

    # --- text ----------------------------------------------------------------------------------------------------

    async def _measure_text(self, deployment: admin.DeploymentState, resident: admin.Resident, found: Found) -> None:
        for prompt_tokens in self._fitting_prompts(resident, found):
            for clients in self._fitting_clients(resident, found):
                what = f"{clients} {'client' if clients == 1 else 'clients'}, {prompt_tokens} prompt tokens"
                self._tell(f"{deployment.name}: {what}")
                rounds = await self._rounds(lambda c=clients, t=prompt_tokens: self._text_round(deployment, c, t))  # type: ignore[misc]
                if not rounds:
                    found.notes.append(self._too_slow(what))
                    break
                found.points.append(_text_point(clients, rounds))

    def _fitting_prompts(self, resident: admin.Resident, found: Found) -> list[int]:
        context = resident.context_length_tokens
        most = max(self._sizes.prompt_tokens) if context is None else context - self._sizes.response_tokens
        fitting = [tokens for tokens in self._sizes.prompt_tokens if tokens * PROMPT_HEADROOM <= most]
        for tokens in self._sizes.prompt_tokens:
            note = f"{tokens} prompt tokens: too long for its context of {context} tokens"
            if tokens not in fitting and note not in found.notes:
                found.notes.append(note)
        return fitting

    async def _text_round(self, deployment: admin.DeploymentState, clients: int, prompt_tokens: int) -> _TextRound:
        prompts = [self._text(self._words_for(prompt_tokens)) for _ in range(clients)]
        alone = await _together(self._complete(deployment, prompt, 1) for prompt in prompts)
        whole = await _together(self._complete(deployment, prompt, self._sizes.response_tokens) for prompt in prompts)
        return _TextRound(prompts=alone, answers=whole)

    async def _complete(self, deployment: admin.DeploymentState, prompt: str, tokens: int) -> _Answer:
        body: dict[str, Any] = {"model": deployment.id, "prompt": prompt, "max_tokens": tokens, "temperature": 1.0}
        started = self._clock.monotonic_seconds()
        first, usage = None, TokenCount()
        async for chunk in self._client.stream("/v1/completions", body):
            if first is None and chunk.choices:
                first = self._clock.monotonic_seconds()
            usage = chunk.usage or usage
        ended = self._clock.monotonic_seconds()
        return _Answer(started=started, first=ended if first is None else first, ended=ended, usage=usage)

    # --- texts to embed or to rank -------------------------------------------------------------------------------

    async def _measure_pooled(self, deployment: admin.DeploymentState, resident: admin.Resident, found: Found) -> None:
        for clients in self._fitting_clients(resident, found):
            what = f"{clients} {'client' if clients == 1 else 'clients'}, {TEXTS_PER_REQUEST} texts each"
            self._tell(f"{deployment.name}: {what}")
            rounds = await self._rounds(lambda c=clients: self._pooled_round(deployment, c))  # type: ignore[misc]
            if not rounds:
                found.notes.append(self._too_slow(what))
                break
            found.points.append(_pooled_point(clients, rounds))

    async def _pooled_round(self, deployment: admin.DeploymentState, clients: int) -> _PooledRound:
        words = self._words_for(TEXT_TOKENS)
        requests = [[self._text(words) for _ in range(TEXTS_PER_REQUEST)] for _ in range(clients)]
        started = self._clock.monotonic_seconds()
        tokens = await _together(self._pool(deployment, texts) for texts in requests)
        return _PooledRound(seconds=self._clock.monotonic_seconds() - started, tokens=sum(tokens))

    async def _pool(self, deployment: admin.DeploymentState, texts: list[str]) -> int:
        """Tokens of one request."""
        if deployment.model_type == "EMBEDDING":
            usage = (await self._client.embed(deployment.id, texts)).usage
        else:
            usage = (await self._client.rerank(deployment.id, _WORDS[0], texts)).usage
        return usage.prompt_tokens if usage is not None else 0

    # --- rounds --------------------------------------------------------------------------------------------------

    async def _rounds(self, once: Callable[[], Awaitable[T]]) -> list[T]:
        """Rounds for long enough; none if the first one does not end within the limit."""
        done: list[T] = []
        started = self._clock.monotonic_seconds()
        try:
            async with asyncio.timeout(self._sizes.limit_seconds):
                while not done or self._clock.monotonic_seconds() - started < self._sizes.enough_seconds:
                    done.append(await once())
        except TimeoutError:
            pass  # the rounds that ended count
        return done

    def _too_slow(self, what: str) -> str:
        limit_seconds = self._sizes.limit_seconds
        return f"{what}: no round ended within {limit_seconds:g} s, so no more clients were tried; raise --seconds"

    def _fitting_clients(self, resident: admin.Resident, found: Found) -> list[int]:
        """As many as there are slots at most: more would measure the queue."""
        for clients in self._sizes.clients:
            note = f"{clients} clients: it has {resident.slots} slots, measured with as many"
            if clients > resident.slots and note not in found.notes:
                found.notes.append(note)
        return sorted({min(clients, resident.slots) for clients in self._sizes.clients})

    def _words_for(self, tokens: int) -> int:
        return max(1, round(tokens / self._tokens_per_word))

    def _text(self, words: int) -> str:
        """A text that begins like none before it, so that no cached prefix shortens the work."""
        return " ".join(self._random.choices(_WORDS, k=words))


async def _together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Results of all, begun at once. The first failure ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _text_point(clients: int, rounds: Sequence[_TextRound]) -> admin.BenchmarkPoint:
    prompts = [answer for each in rounds for answer in each.prompts]
    answers = [answer for each in rounds for answer in each.answers]
    computed_tokens = sum(answer.usage.prompt_tokens - answer.usage.cached_tokens for answer in prompts)
    prompt_seconds = sum(max(a.ended for a in r.prompts) - min(a.started for a in r.prompts) for r in rounds)
    # an answer's first token belongs to its prompt
    further_tokens = sum(max(0, answer.usage.completion_tokens - 1) for answer in answers)
    answer_seconds = sum(max(a.ended for a in r.answers) - min(a.first for a in r.answers) for r in rounds)
    return admin.BenchmarkPoint(
        clients=clients,
        requests=len(answers),
        prompt_tokens=round(statistics.mean(answer.usage.prompt_tokens for answer in prompts)),
        response_tokens=round(statistics.mean(answer.usage.completion_tokens for answer in answers)),
        first_token_seconds=statistics.median(answer.first - answer.started for answer in prompts),
        prompt_tokens_per_second=_rate(computed_tokens, prompt_seconds),
        response_tokens_per_second=_rate(further_tokens, answer_seconds),
    )


def _pooled_point(clients: int, rounds: Sequence[_PooledRound]) -> admin.BenchmarkPoint:
    seconds = sum(each.seconds for each in rounds)
    tokens = sum(each.tokens for each in rounds)
    texts = clients * TEXTS_PER_REQUEST * len(rounds)
    return admin.BenchmarkPoint(
        clients=clients,
        requests=clients * len(rounds),
        prompt_tokens=round(tokens / texts),
        prompt_tokens_per_second=_rate(tokens, seconds),
        texts_per_second=_rate(texts, seconds),
    )


def _rate(count: int, seconds: float) -> float | None:
    """None where there was nothing to divide."""
    return count / seconds if count and seconds > 0 else None
