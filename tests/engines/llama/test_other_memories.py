"""Weights whose memory is no plain cache: recurrent states and sliding windows under sharing and pressure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.domain.inference import FinishReason
from tests.engines.llama.by_hand import Harness, reference
from tests.support.tiny_models import write_mamba, write_windowed

LONG = "it was the best of times it was the worst of times it was the age of wisdom "


@pytest.fixture(scope="module", params=[write_mamba, write_windowed], ids=["recurrent", "windowed"])
def other_weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write: Callable[[Path], Path] = request.param
    return write(tmp_path_factory.mktemp("weights") / "other.gguf")


@pytest.fixture
def make_harness(other_weights: Path) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(**sizes: int) -> Harness:
        made.append(Harness(other_weights, **sizes))
        return made[-1]

    yield make
    for harness in made:
        harness.stepper.close()


def test_concurrent_requests_say_what_they_say_alone(make_harness: Callable[..., Harness], other_weights: Path) -> None:
    """Different lengths, one batch, chunked prefill, common beginnings."""
    harness = make_harness(slots=4, batch=32)
    prompts = [LONG + "one", LONG + "two", "three", LONG * 2]
    readers = [harness.start(prompt, 12) for prompt in prompts]
    harness.finish()
    for prompt, reader in zip(prompts, readers, strict=True):
        assert reference(other_weights, prompt, 12).agrees(reader.text)


def test_a_repeated_and_a_continued_prompt_stay_right(
    make_harness: Callable[..., Harness], other_weights: Path
) -> None:
    """Whatever of it can be reused: the same prompt again, and one that goes on after it."""
    harness = make_harness(slots=2, batch=32)
    for prompt in (LONG, LONG, LONG + "and on", LONG[:40] + "another way"):
        reader = harness.start(prompt, 10)
        harness.finish()
        assert reference(other_weights, prompt, 10).agrees(reader.text)


def test_the_next_turn_of_a_conversation_computes_only_what_is_new(
    make_harness: Callable[..., Harness], other_weights: Path
) -> None:
    """Of a window or a recurrent state only the end is kept: where a prompt goes on from there, that is enough."""
    harness = make_harness(slots=1, batch=32)
    harness.start(LONG, 10)
    harness.finish()
    for turn in range(3):
        kept = next(entry for entry in reversed(harness.prefixes._kept.values()) if not entry.scope)
        following = np.append(kept.tokens, harness.tokens("and on"))
        reader = harness.start(following, 10)
        harness.finish()
        assert reader.usage.cached_tokens == len(kept.tokens) >= len(harness.tokens(LONG))
        again = harness.start(following, 10, scope=f"another, in turn {turn}, who computes all of it")
        harness.finish()
        assert again.usage.cached_tokens == 0
        assert again.text == reader.text


def test_a_small_cache_is_enough(make_harness: Callable[..., Harness], other_weights: Path) -> None:
    """More work than cells: everything still finishes, and right."""
    harness = make_harness(cells=256, slots=4, batch=64)
    prompts = [f"{name} {LONG[:40]}" for name in ("ann", "ben", "eve", "tom")]
    readers = [harness.start(prompt, 60, scope=prompt) for prompt in prompts]
    harness.finish()
    for prompt, reader in zip(prompts, readers, strict=True):
        assert reader.reason is FinishReason.LENGTH
        assert reference(other_weights, prompt, 60).agrees(reader.text)
