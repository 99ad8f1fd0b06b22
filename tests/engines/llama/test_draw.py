"""Draws from a row of logits: the cuts keep what the textbook keeps, the frequencies are the probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.domain.errors import Internal
from appliance.domain.inference import Sampling
from appliance.engines.llama import draw as draw_module
from appliance.engines.llama.draw import Draw, best_places, draw_each

Floats = npt.NDArray[np.float32]


def row(size: int, seed: int, spread: float = 4.0) -> Floats:
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32) * np.float32(spread)


def by_the_book(logits: Floats, sampling: Sampling) -> set[int]:
    order = np.argsort(-logits, kind="stable")
    if sampling.top_k > 0:
        order = order[: sampling.top_k]
    if sampling.top_p < 1:
        weights = np.exp(logits[order].astype(np.float64))
        order = order[: int(np.searchsorted(weights.cumsum() / weights.sum(), sampling.top_p)) + 1]
    if sampling.min_p > 0:
        order = order[logits[order] >= logits.max() + np.float32(np.log(sampling.min_p))]
    return set(order.tolist())


@given(st.integers(1, 5000), st.integers(0, 99), st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_the_best_places_are_those_of_a_full_sort(size: int, seed: int, count: int) -> None:
    """For any row and count, largest first, ties by place."""
    logits = np.round(row(size, seed), 1)
    assert best_places(logits, count).tolist() == np.argsort(-logits, kind="stable")[:count].tolist()


@given(
    st.integers(1, 9000),
    st.integers(0, 99),
    st.sampled_from([0, 1, 7, 300]),
    st.sampled_from([0.1, 0.9, 0.999, 1.0]),
    st.sampled_from([0.0, 0.05, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_cuts_keep_what_the_textbook_keeps(size: int, seed: int, top_k: int, top_p: float, min_p: float) -> None:
    """Every draw is one of the places that a full sort with the same cuts leaves."""
    logits = row(size, seed)
    sampling = Sampling(temperature=3.0, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    draw = Draw(sampling)
    allowed = by_the_book(logits, sampling)
    assert {draw.choose(logits) for _ in range(20)} <= allowed


@pytest.mark.parametrize("cuts", [{}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_frequencies_are_the_probabilities(cuts: dict[str, float], temperature: float) -> None:
    """Eight thousand draws come within what chance explains."""
    logits = row(200, 3, 2.0)
    sampling = Sampling(temperature=temperature, seed=5, **cuts)
    kept = sorted(by_the_book(logits, sampling))
    expected = np.zeros(200)
    expected[kept] = np.exp(logits[kept] / temperature)
    expected /= expected.sum()
    draw, draws = Draw(sampling), 8_000
    counts = np.bincount([draw.choose(logits) for _ in range(draws)], minlength=200)
    assert not counts[expected == 0].any()
    tolerance = 5 * np.sqrt(draws * expected * (1 - expected)) + 1
    assert (np.abs(counts - draws * expected) <= tolerance).all()


ROWS = {
    "flat": row(20_011, 3, 0.1),
    "ordinary": row(20_011, 3, 2.0),
    "sure": np.where(np.arange(20_011) % 5000 == 17, np.float32(14), row(20_011, 3, 1.0)),
    "lonely peaks": np.where(np.arange(20_011) % 401 == 3, np.float32(30), row(20_011, 3, 1.0)),
    "flat, and more at the end": np.where(np.arange(20_011) >= 20_000, np.float32(2), row(20_011, 3, 0.1)),
    "best at the end": np.where(np.arange(20_011) >= 20_008, np.float32(9), row(20_011, 3, 1.0)),
}


@pytest.mark.parametrize("temperature", [0.4, 1.3])
@pytest.mark.parametrize("logits", ROWS.values(), ids=ROWS)
def test_frequencies_of_a_large_row_are_the_probabilities(logits: Floats, temperature: float) -> None:
    """Whatever its shape: each of the likeliest places, and a hundred slices of all places by their probability."""
    true = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    true /= true.sum()
    order = np.argsort(-true, kind="stable")
    slices = np.empty(len(logits), dtype=np.intp)
    slices[order] = np.minimum((true[order].cumsum() * 100).astype(np.intp), 99)
    draw, draws = Draw(Sampling(temperature=temperature, seed=5)), 3_000
    drawn = np.array([draw.choose(logits) for _ in range(draws)])
    for places, parts in ((order[:20], np.arange(len(logits))), (np.unique(slices), slices)):
        expected = np.bincount(parts, true)[places]
        counts = np.bincount(parts[drawn], minlength=len(logits))[places]
        tolerance = 5 * np.sqrt(draws * expected * (1 - expected)) + 1
        assert (np.abs(counts - draws * expected) <= tolerance).all()


def test_rows_together_have_the_places_that_each_has_alone() -> None:
    """Whatever company a row is in: sure and flat ones, of all temperatures, also a view of every other row."""
    kinds = list(ROWS.values())
    logits = np.array([each for each in kinds for _ in range(2)])[::2]
    sampling = [Sampling(temperature=0.2 + 0.4 * number, seed=number) for number in range(len(kinds))]
    together, alone = ([Draw(each) for each in sampling] for _ in range(2))
    for _ in range(40):
        assert draw_each(together, logits) == [
            draw.choose(each.copy()) for draw, each in zip(alone, logits, strict=True)
        ]


def test_a_row_without_a_number_fails_alone() -> None:
    """The others of its step have their tokens."""
    logits = np.array([row(10_000, seed) for seed in range(3)])
    logits[1, 7] = np.nan
    draws = [Draw(Sampling(temperature=1.0, seed=seed)) for seed in range(3)]
    first, broken, last = draw_each(draws, logits)
    assert isinstance(broken, Internal)
    assert [first, last] == [Draw(Sampling(temperature=1.0, seed=seed)).choose(logits[seed]) for seed in (0, 2)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [100, 10_000])
def test_a_row_without_a_number_is_an_error(value: float, size: int) -> None:
    """Damaged weights end a request with a reason, not with a token."""
    logits = row(size, 1) if value != -np.inf else np.zeros(size, dtype=np.float32)
    logits[5 if value != -np.inf else slice(None)] = value
    with pytest.raises(Internal, match="no number"):
        Draw(Sampling(temperature=1.0)).choose(logits)


@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0, 5.0])
@pytest.mark.parametrize("lift", [-80.0, 0.0, 80.0])
def test_quick_weights_are_never_too_small(temperature: float, lift: float) -> None:
    """They bound the true ones from above by at most 6.2 %, wherever the row lies: rejection relies on it."""
    logits = row(20_000, 4) + np.float32(lift)
    true = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    held = true > 1e-37
    ratios = draw_module._large_weights(logits, logits.max(), temperature)[held] / true[held]
    assert ratios.min() >= 1.0
    assert ratios.max() <= 1.062


@pytest.mark.parametrize("temperature", [1e-6, 1e-9, 1e-20, 1e-36, 1e-44, 1e-50, 5e-324])
def test_the_least_temperatures_are_greedy(temperature: float) -> None:
    """However small a positive number a request brings, it draws the best place and harms nobody."""
    logits = row(1000, 2)
    logits[7] = -np.inf
    draw = Draw(Sampling(temperature=temperature, seed=1))
    assert {draw.choose(logits) for _ in range(20)} == {int(logits.argmax())}


def test_the_weight_of_a_row_lies_between_its_bounds() -> None:
    """With most of it far below the best they are within a ten-thousandth of each other."""
    logits = row(20_000, 4, 2.0)
    logits[5] = 22.0
    exact = np.exp(logits.astype(np.float64) - logits.max()).sum()
    least, most = draw_module._total_bounds(logits, logits.max())
    assert least <= exact <= most
    assert most == pytest.approx(least, rel=1e-4)


@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999])
def test_a_nucleus_is_exactly_that_of_the_textbook(top_p: float) -> None:
    """Not one place more or less, on hundreds of rows."""
    for size in range(60, 9001, 149):
        for seed in range(6):
            sampling, logits = Sampling(temperature=3.0, top_p=top_p, seed=seed), row(size, seed)
            kept = Draw(sampling)._kept(draw_module.Row(logits))
            assert set(kept.tolist()) == by_the_book(logits, sampling)


def test_forbidden_places_are_never_drawn() -> None:
    """A logit of minus infinity has no chance, at the end of the row neither."""
    logits = np.full(130, -np.inf, dtype=np.float32)
    logits[[3, 64]] = 1.0
    draw = Draw(Sampling(temperature=1.0, seed=1))
    assert {draw.choose(logits) for _ in range(200)} == {3, 64}


def test_a_seed_repeats_its_draws() -> None:
    """Same seed, same places; negative seeds are seeds too; without one, every draw is fresh."""
    logits = row(1000, 1)
    once, again, other = (Draw(Sampling(temperature=1.0, seed=seed)) for seed in (-7, -7, 8))
    first, second, third = ([draw.choose(logits) for _ in range(30)] for draw in (once, again, other))
    assert first == second != third
