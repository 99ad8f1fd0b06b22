"""Loads an OpenAI-compatible server with streams and measures what their readers feel.

Needs aiohttp, which is no dependency of the product: ``pip install aiohttp``.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    import aiohttp

COMMON_WORDS = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you
were her all she there would their we him been has when who will more no if out so said what up its about into than them
can only other new some could time these two may then do first any my now such like our over man me even most made after
"""
WORDS = COMMON_WORDS.split()

TOTAL_SECONDS = 1800


class Endpoint(Struct, frozen=True, kw_only=True):
    """A server, and the name and key under which it serves the model."""

    url: str
    model: str
    key: str = ""


class Scenario(Struct, frozen=True, kw_only=True):
    """What is asked: so many streams at a time, so many altogether."""

    clients: int
    requests: int
    prompt_words: int = 100
    shared_words: int = 0
    """Words that all prompts begin with."""
    answer_tokens: int = 64
    intruder_words: int = 0
    """Above 0: a prompt of so many words arrives while the others stream, and asks for one token."""
    intruder_delay_seconds: float = 2.0
    schema: dict[str, Any] | None = None
    """Answers are JSON under this schema, asked for in a chat."""
    turns: int = 0
    """Above 0: each client holds a conversation of so many turns and sends all of it each time."""


class Stream(Struct, kw_only=True):
    """One answer as its reader saw it."""

    first_seconds: float = 0.0
    gaps_seconds: list[float] = []
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    text: str = ""
    error: str | None = None


class Figures(Struct, kw_only=True):
    """One run of a scenario."""

    answer_tokens_per_second: float
    first_p50_seconds: float
    first_p95_seconds: float
    gap_p50_seconds: float
    gap_max_seconds: float
    prompt_tokens: int
    cached_tokens: int
    failed: int
    error: str | None
    intruder_first_seconds: float | None = None


def run(scenario: Scenario, endpoint: Endpoint, seed: str) -> Figures:
    """Run it to its end. The same seed asks the same, in the same order."""
    return asyncio.run(_run(scenario, endpoint, random.Random(seed)))


async def _run(scenario: Scenario, endpoint: Endpoint, rng: random.Random) -> Figures:
    import aiohttp  # here only: what makes tables of figures works without it

    shared = _words(rng, scenario.shared_words)
    prompts = [f"{shared} {_words(rng, scenario.prompt_words)}".strip() for _ in range(scenario.requests)]
    intruder = _words(rng, scenario.intruder_words)
    queue, done = list(reversed(prompts)), list[Stream]()
    arrived: list[Stream] = []

    async def client(http: aiohttp.ClientSession) -> None:
        while queue:
            prompt = queue.pop()
            if scenario.turns:
                done.extend(await _converse(http, endpoint, scenario, prompt, random.Random(prompt)))
            else:
                done.append(await _ask(http, endpoint, _body(endpoint, scenario, prompt)))

    async def intrude(http: aiohttp.ClientSession) -> None:
        await asyncio.sleep(scenario.intruder_delay_seconds)
        single = msgspec.structs.replace(scenario, answer_tokens=1)
        arrived.append(await _ask(http, endpoint, _body(endpoint, single, intruder)))

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=TOTAL_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        started = time.perf_counter()
        work = [client(http) for _ in range(scenario.clients)]
        await asyncio.gather(*work, *([intrude(http)] if intruder else []))
        seconds = time.perf_counter() - started
    return _figures(done, arrived, seconds)


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def _body(endpoint: Endpoint, scenario: Scenario, prompt: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": scenario.answer_tokens,
        "temperature": 0.2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if scenario.schema is None:
        return body | {"prompt": prompt, "ignore_eos": True}
    answer = {"type": "json_schema", "json_schema": {"name": "answer", "schema": scenario.schema, "strict": True}}
    return body | {"messages": [{"role": "user", "content": prompt}], "response_format": answer}


async def _converse(
    http: aiohttp.ClientSession, endpoint: Endpoint, scenario: Scenario, prompt: str, rng: random.Random
) -> list[Stream]:
    """A conversation as raw text: every turn appends the answer and a new question."""
    turns: list[Stream] = []
    text = prompt
    for _ in range(scenario.turns):
        turns.append(await _ask(http, endpoint, _body(endpoint, scenario, text)))
        text += turns[-1].text + "\n" + _words(rng, 20)
    return turns


async def _ask(http: aiohttp.ClientSession, endpoint: Endpoint, body: dict[str, Any]) -> Stream:
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    seen = Stream()
    started = last = time.perf_counter()
    async with http.post(endpoint.url + path, json=body, headers=headers) as response:
        if response.status != 200:
            seen.error = f"{response.status} {(await response.text())[:200]}"
            return seen
        async for line in response.content:
            data = line[6:].strip() if line.startswith(b"data: ") else b""
            if not data or data == b"[DONE]":
                continue
            event = msgspec.json.decode(data)
            _note_usage(seen, event.get("usage"))
            if text := _text_of(event):
                now = time.perf_counter()
                if seen.text:
                    seen.gaps_seconds.append(now - last)
                else:
                    seen.first_seconds = now - started
                seen.text += text
                last = now
    if not seen.text:
        seen.error = "an answer without text"
    return seen


def _text_of(event: dict[str, Any]) -> str:
    choices = event.get("choices")
    if not choices:
        return ""
    return str(choices[0].get("text") or choices[0].get("delta", {}).get("content") or "")


def _note_usage(seen: Stream, usage: dict[str, Any] | None) -> None:
    if usage:
        seen.prompt_tokens, seen.answer_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        seen.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)


def _figures(done: list[Stream], arrived: list[Stream], seconds: float) -> Figures:
    good = [stream for stream in done if stream.error is None]
    first = [stream.first_seconds for stream in good]
    gaps = [gap for stream in good for gap in stream.gaps_seconds]
    errors = [stream.error for stream in done + arrived if stream.error]
    return Figures(
        answer_tokens_per_second=sum(stream.answer_tokens for stream in good) / seconds,
        first_p50_seconds=_percentile(first, 0.5),
        first_p95_seconds=_percentile(first, 0.95),
        gap_p50_seconds=_percentile(gaps, 0.5),
        gap_max_seconds=_percentile(gaps, 1.0),
        prompt_tokens=sum(stream.prompt_tokens for stream in good),
        cached_tokens=sum(stream.cached_tokens for stream in good),
        failed=len(errors),
        error=errors[0] if errors else None,
        intruder_first_seconds=arrived[0].first_seconds if arrived and not arrived[0].error else None,
    )


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
