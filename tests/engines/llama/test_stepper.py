"""The batching loop over real weights, one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from appliance.domain.errors import Internal, InvalidParameter
from appliance.domain.inference import FinishReason, Sampling
from tests.engines.llama.by_hand import GREEDY, Harness, reference
from tests.support.fake_engine import FakeClock

Make = Callable[..., Harness]

LONG = "it was the best of times it was the worst of times it was the age of wisdom " * 2
PROMPTS = [f"{number} {LONG[: 20 * number]}" for number in range(1, 9)]


def test_eight_in_one_batch_say_what_each_says_alone(make_harness: Make, weights: Path) -> None:
    """Chunked prefill and sharing steps change nothing: the output is that of a plain loop over one sequence."""
    harness = make_harness(slots=8, batch=32)
    readers = [harness.start(prompt, 24, scope=prompt) for prompt in PROMPTS]
    harness.finish()
    for prompt, reader in zip(PROMPTS, readers, strict=True):
        assert reference(weights, prompt, 24).agrees(reader.text)
        assert reader.usage.response_tokens == 24
        assert reader.reason is FinishReason.LENGTH


def test_a_running_stream_gets_a_token_in_every_step_of_a_long_prefill(make_harness: Make) -> None:
    """A long prompt beside a stream is taken in chunks, and the stream does not wait for it."""
    harness = make_harness(batch=32)
    stream = harness.start("hello", 30)
    harness.step()
    late = harness.start(LONG, 4)
    before = stream.usage.response_tokens
    harness.step(3)
    assert harness.stepper.stats.active == 2
    assert stream.usage.response_tokens + len(stream.deltas) >= before + 3
    assert not late.deltas


def test_cancel_during_prefill_frees_the_slot_at_once(make_harness: Make) -> None:
    """A reader that leaves while its prompt is computed costs not one more step."""
    harness = make_harness(slots=1, batch=32)
    leaving = harness.start(LONG, 8)
    waiting = harness.start("hello", 2)
    harness.step()
    assert (harness.stepper.stats.active, harness.stepper.stats.waiting) == (1, 1)
    harness.cancel(leaving)
    assert leaving.reason is FinishReason.CANCELLED
    assert harness.stepper.stats.active == 0
    harness.step()
    assert (harness.stepper.stats.active, harness.stepper.stats.waiting) == (1, 0)
    harness.finish()
    assert waiting.reason is FinishReason.LENGTH


def test_cancel_during_decode_frees_the_slot_at_once(make_harness: Make) -> None:
    """A reader that leaves in the middle of its answer costs not one more step, and its count stays right."""
    harness = make_harness(slots=1)
    leaving = harness.start("hello", 50)
    harness.step(5)
    harness.cancel(leaving)
    assert (leaving.reason, leaving.usage.response_tokens) == (FinishReason.CANCELLED, 5)
    assert harness.stepper.step() is False


def test_cancel_while_waiting_leaves_the_others_alone(make_harness: Make) -> None:
    """A reader that leaves the line is gone; those behind it move up."""
    harness = make_harness(slots=1)
    first, second, third = (harness.start(text, 3) for text in ("one", "two", "three"))
    harness.step()
    harness.cancel(second)
    harness.finish()
    assert second.usage.response_tokens == 0
    assert (first.reason, third.reason) == (FinishReason.LENGTH, FinishReason.LENGTH)


def test_those_without_a_slot_wait_in_arrival_order(make_harness: Make) -> None:
    """More requests than slots: first come, first served, and the line can be seen."""
    harness = make_harness(slots=2)
    readers = [harness.start(f"{n} hello", 4) for n in range(5)]
    harness.step()
    assert (harness.stepper.stats.active, harness.stepper.stats.waiting) == (2, 3)
    order: list[int] = []
    while harness.stepper.step():
        harness.outbox.flush()
        order += [i for i, reader in enumerate(readers) if reader.ended and i not in order]
    harness.outbox.flush()
    order += [i for i, reader in enumerate(readers) if reader.ended and i not in order]
    assert order == [0, 1, 2, 3, 4]


def test_a_repeated_prompt_is_not_computed_again_and_says_the_same(make_harness: Make) -> None:
    """The second time all but the last token comes from the cache, and the output is identical."""
    harness = make_harness()
    first = harness.start(LONG, 12)
    harness.finish()
    second = harness.start(LONG, 12)
    harness.finish()
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, second.usage.prompt_tokens - 1)
    assert first.text == second.text


def test_the_next_turn_continues_the_last_one(make_harness: Make, weights: Path) -> None:
    """A prompt that begins with an earlier prompt and its answer shares what was computed of both."""
    harness = make_harness()
    first = harness.start(LONG, 6)
    harness.finish()
    following = harness.start(LONG + " and more", 6)
    harness.finish()
    assert following.usage.cached_tokens >= len(harness.tokens(LONG)) - 1
    assert reference(weights, LONG + " and more", 6).agrees(following.text)
    assert first.reason is FinishReason.LENGTH


def test_another_scope_shares_nothing(make_harness: Make) -> None:
    """The same prompt from another account is computed anew, so that its timing tells nothing."""
    harness = make_harness()
    harness.start(LONG, 4, scope="a")
    harness.finish()
    other = harness.start(LONG, 4, scope="b")
    harness.finish()
    assert other.usage.cached_tokens == 0


def test_a_common_prefix_of_concurrent_requests_is_computed_once(make_harness: Make, weights: Path) -> None:
    """Those who arrive together with one beginning wait for the first to compute it, then share it."""
    harness = make_harness(slots=4, batch=32)
    prompts = [LONG + tail for tail in ("one", "two", "three", "four")]
    readers = [harness.start(prompt, 8) for prompt in prompts]
    harness.step()
    assert harness.stepper.stats.cache_used_tokens == 32
    harness.finish()
    common = len(harness.tokens(LONG)) - 1
    assert readers[0].usage.cached_tokens == 0
    assert all(reader.usage.cached_tokens >= common for reader in readers[1:])
    for prompt, reader in zip(prompts, readers, strict=True):
        assert reference(weights, prompt, 8).agrees(reader.text)


def test_the_one_who_computes_a_prefix_may_leave(make_harness: Make) -> None:
    """When the first reader goes away, those who waited for its prefix go on with what there is."""
    harness = make_harness(slots=2, batch=32)
    first = harness.start(LONG + "one", 8)
    second = harness.start(LONG + "two", 8)
    harness.step()
    harness.cancel(first)
    harness.finish()
    assert second.reason is FinishReason.LENGTH
    assert second.usage.cached_tokens == 32


def test_a_full_cache_preempts_the_youngest_and_all_finish_right(make_harness: Make, weights: Path) -> None:
    """With room for two and a half, everybody still says what it says alone, and the counts are right."""
    harness = make_harness(cells=256, slots=4, batch=64)
    prompts = [f"{name} {LONG[:40]}" for name in ("ann", "ben", "eve", "tom")]
    readers = [harness.start(prompt, 60, scope=prompt) for prompt in prompts]
    harness.finish()
    assert harness.stepper.preemptions > 0
    for prompt, reader in zip(prompts, readers, strict=True):
        assert reference(weights, prompt, 60).agrees(reader.text)
        assert reader.usage.response_tokens == 60


def test_kept_prefixes_take_no_cells(make_harness: Make) -> None:
    """What is kept for later is in RAM: the cache is for those who run, and every number is free again."""
    harness = make_harness(cells=256, slots=1)
    for name in ("ann", "ben", "eve"):
        reader = harness.start(f"{name} {LONG[:120]}", 30, scope=name)
        harness.finish()
        assert reader.reason is FinishReason.LENGTH
        assert harness.stepper.stats.cache_used_tokens == 0
    assert harness.stepper.preemptions == 0
    assert len(harness.prefixes) == 3


def test_a_kept_prefix_survives_many_others(make_harness: Make, weights: Path) -> None:
    """More conversations than slots or cells: each goes on where it was."""
    harness = make_harness(cells=256, slots=1)
    prompts = [f"{name} {LONG[:100]}" for name in "abcdefg"]
    for prompt in prompts:
        harness.start(prompt, 4)
        harness.finish()
    for prompt in prompts:
        reader = harness.start(prompt + " and more", 6)
        harness.finish()
        assert reader.usage.cached_tokens >= len(harness.tokens(prompt)) - 1
        assert reference(weights, prompt + " and more", 6).agrees(reader.text)


def test_a_common_beginning_is_copied_once(make_harness: Make, weights: Path) -> None:
    """Conversations after the same instructions add their own tokens only, and each goes on from all of its own."""
    harness = make_harness(slots=1)
    names = ("ann", "ben", "eve", "tom")
    grown = []
    for name in names:
        before = harness.prefixes.used_bytes
        harness.start(f"{LONG}{name} said", 6)
        harness.finish()
        grown.append(harness.prefixes.used_bytes - before)
    own = len(harness.tokens("ann said")) + 7
    assert max(grown[1:]) < grown[0] * 2 * own / len(harness.tokens(LONG))
    for name in reversed(names):
        prompt = f"{LONG}{name} said more"
        reader = harness.start(prompt, 8)
        harness.finish()
        assert reader.usage.cached_tokens >= len(harness.tokens(f"{LONG}{name} sai"))
        assert reference(weights, prompt, 8).agrees(reader.text)


def test_the_beginning_of_what_is_kept_is_shared_with_who_runs(make_harness: Make, weights: Path) -> None:
    """A conversation goes on beside another one with the same instructions: these are in the cache once."""
    harness = make_harness(slots=2)
    kept = f"{LONG}ben said that it was the age of foolishness and went"
    harness.start(kept, 4)
    harness.finish()
    other = harness.start(LONG + "ann", 40)
    harness.step(3)
    before = harness.stepper.stats.cache_used_tokens
    reader = harness.start(kept + " on", 6)
    harness.step()
    shared, whole = len(harness.tokens(LONG)) - 1, len(harness.tokens(kept))
    assert harness.stepper.stats.cache_used_tokens <= before + whole - shared + 4
    harness.finish()
    assert reader.usage.cached_tokens >= whole - 1
    assert reference(weights, kept + " on", 6).agrees(reader.text)
    assert reference(weights, LONG + "ann", 40).agrees(other.text)


def test_a_closed_engine_keeps_nothing(make_harness: Make) -> None:
    """Its RAM is free for others, whoever still holds the engine."""
    harness = make_harness()
    harness.start(LONG, 4)
    harness.finish()
    assert harness.prefixes.used_bytes > 0
    harness.stepper.close()
    assert (len(harness.prefixes), harness.prefixes.used_bytes) == (0, 0)


def test_without_room_in_ram_nothing_is_kept(make_harness: Make) -> None:
    """prefix_tokens 0: every prompt is computed."""
    harness = make_harness(prefix_bytes=0)
    for _ in range(2):
        reader = harness.start(LONG, 4)
        harness.finish()
        assert reader.usage.cached_tokens == 0


def test_who_was_preempted_goes_on_from_what_is_kept(make_harness: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells are copied before they are given up, so that little is computed twice."""
    harness = make_harness(cells=256, slots=4, batch=64)
    computed, decode = [0], harness.context.decode

    def counting() -> bool:
        computed[0] += harness.context.batch.count
        return decode()

    monkeypatch.setattr(harness.context, "decode", counting)
    prompts = [f"{name} {LONG[:40]}" for name in ("ann", "ben", "eve", "tom")]
    readers = [harness.start(prompt, 60, scope=prompt) for prompt in prompts]
    harness.finish()
    needed = sum(reader.usage.prompt_tokens + reader.usage.response_tokens for reader in readers)
    assert harness.stepper.preemptions > 0
    assert computed[0] <= needed + harness.stepper.preemptions


def test_no_room_in_llama_cpp_is_met_with_smaller_steps(make_harness: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decode that finds no room halves its pieces, and the request still finishes."""
    harness = make_harness(batch=64)
    decode, sizes = harness.context.decode, []

    def tight() -> bool:
        sizes.append(harness.context.batch.count)
        return harness.context.batch.count <= 16 and decode()

    monkeypatch.setattr(harness.context, "decode", tight)
    reader = harness.start(LONG[:100], 4, scope="new")
    harness.finish()
    assert reader.reason is FinishReason.LENGTH
    assert sizes[:3] == [64, 32, 16]


def test_no_room_for_one_token_ends_the_engine(make_harness: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that refuses a single token is broken: that is our fault, said as such."""
    harness = make_harness()
    monkeypatch.setattr(harness.context, "decode", lambda: False)
    harness.start("hello", 4)
    with pytest.raises(Internal, match="single token"):
        harness.finish()


def test_seeds_reproduce_and_differ(make_harness: Make) -> None:
    """One seed, one text; another seed, another text, also beside other requests."""
    harness = make_harness(slots=4)
    samplings = [Sampling(temperature=1.5, seed=seed) for seed in (1, 1, 2, -1)]
    texts = []
    for sampling in samplings:
        reader = harness.start("hello", 20, sampling=sampling)
        harness.start("somebody else", 20)
        harness.finish()
        texts.append(reader.text)
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_logprobs_are_probabilities_and_greedy_takes_the_likeliest(make_harness: Make) -> None:
    """Over the whole vocabulary they sum to one, come most likely first, and the chosen one leads them."""
    harness = make_harness()
    size = harness.model.vocabulary.size
    reader = harness.start("hello", 6, sampling=Sampling(temperature=0.0, logprobs=size))
    harness.finish()
    logprobs = [each for delta in reader.deltas for each in delta.logprobs]
    assert len(logprobs) == 6
    for each in logprobs:
        values = [top.logprob for top in each.top]
        assert sum(2.718281828459045**value for value in values) == pytest.approx(1.0, abs=1e-4)
        assert values == sorted(values, reverse=True)
        assert each.chosen == each.top[0]
        assert each.chosen.raw.decode("utf-8", "replace") == each.chosen.token


def test_a_biased_token_is_said_or_never_said(make_harness: Make) -> None:
    """A large bias forces a token, a large negative one forbids it."""
    harness = make_harness()
    token = int(harness.tokens("Q")[-1])
    forced = harness.start("hello", 4, sampling=Sampling(temperature=0.0, logit_bias={token: 100.0}))
    harness.finish()
    assert forced.text == "QQQQ"
    first = harness.start("hello", 1, sampling=Sampling(temperature=0.0, logprobs=0))
    harness.finish()
    chosen = harness.tokens("hello")
    assert first.deltas[0].logprobs[0].top == ()
    assert len(chosen) == first.usage.prompt_tokens


def test_penalties_end_a_loop(make_harness: Make) -> None:
    """A forced token that is penalised for having occurred gives way to others."""
    harness = make_harness()
    token = int(harness.tokens("Q")[-1])
    bias = {token: 60.0}
    looping = harness.start("hello", 6, sampling=Sampling(temperature=0.0, logit_bias=bias))
    harness.finish()
    for sampling in (
        Sampling(temperature=0.0, logit_bias=bias, frequency_penalty=100.0),
        Sampling(temperature=0.0, logit_bias=bias, presence_penalty=200.0),
        Sampling(temperature=0.0, logit_bias=bias, repetition_penalty=50.0),
    ):
        reader = harness.start("hello", 6, sampling=sampling)
        harness.finish()
        assert reader.text.startswith("Q")
        assert reader.text.count("Q") < looping.text.count("Q")


def test_a_grammar_holds_the_answer_and_ends_it(make_harness: Make) -> None:
    """Only what the grammar allows is said, greedy or drawn, and its end is the answer's end."""
    harness = make_harness()
    for sampling in (GREEDY, Sampling(temperature=1.0, seed=4), Sampling(temperature=0.7, top_k=5, seed=4)):
        reader = harness.start("hello", 40, sampling=sampling, gbnf='root ::= ("ja" | "nein") [0-9]{3}')
        harness.finish()
        assert reader.reason is FinishReason.STOP
        assert reader.text[:-3] in ("ja", "nein")
        assert reader.text[-3:].isdigit()


def test_a_grammar_that_the_vocabulary_cannot_follow_fails_that_request_only(make_harness: Make) -> None:
    """Where every token is forbidden there is nothing to say; others go on."""
    harness = make_harness()
    everything = {token: float("-inf") for token in range(harness.model.vocabulary.size) if token > 20}
    stuck = harness.start(
        "hello", 5, sampling=Sampling(temperature=0.0, logit_bias=everything), gbnf='root ::= "zebra"'
    )
    fine = harness.start("hello", 5)
    harness.finish()
    assert isinstance(stuck.error, InvalidParameter)
    assert fine.reason is FinishReason.LENGTH


def test_guessing_changes_no_answer(make_harness: Make) -> None:
    """Where all steps take the same time guesses are made; what is wrong of them is never said."""
    said: list[list[str]] = []
    for draft_tokens in (0, 20):
        harness = make_harness(draft_tokens=draft_tokens, clock=FakeClock())
        letters = {int(harness.tokens(letter)[-1]): 60.0 for letter in "QXZ"}
        drawn = Sampling(temperature=1.0, seed=5, logit_bias=letters)
        looping = Sampling(temperature=0.0, logit_bias=dict([*letters.items()][:1]))
        readers = [harness.start(LONG, 60, sampling=sampling) for sampling in (drawn, looping, GREEDY)]
        harness.finish()
        assert [reader.usage.response_tokens for reader in readers] == [60, 60, 60]
        assert harness.stepper.stats.cache_used_tokens == 0
        said.append([reader.text for reader in readers])
    assert said[0] == said[1]
    assert 0 < harness.stepper.accepted_tokens < harness.stepper.drafted_tokens


def test_a_loop_is_said_in_a_fraction_of_the_steps(make_harness: Make) -> None:
    """A guess that is right up to its end brings one token more than it is long; max_tokens holds all the same."""
    harness = make_harness(draft_tokens=8, clock=FakeClock())
    looping = Sampling(temperature=0.0, logit_bias={int(harness.tokens("Q")[-1]): 60.0})
    reader = harness.start("hello", 50, sampling=looping)
    harness.finish()
    assert reader.text == "Q" * 50
    assert harness.stepper.steps < 15


def test_a_guess_ends_where_the_answer_does(make_harness: Make) -> None:
    """A stop text inside a guess ends the answer there, and what is kept of it is what was said."""
    harness = make_harness(draft_tokens=8, clock=FakeClock())
    token = int(harness.tokens("Q")[-1])
    sampling = Sampling(temperature=0.0, logit_bias={token: 60.0}, stop=("Q" * 20,))
    reader = harness.start("hello " * 10, 50, sampling=sampling)
    harness.finish()
    assert (reader.text, reader.reason) == ("", FinishReason.STOP)
    assert reader.usage.response_tokens == 20
    again = harness.start(np.append(harness.tokens("hello " * 10), [token] * 20).astype(np.int32), 5)
    harness.finish()
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
