"""Batches and the arithmetic after a pass, against the same written out plainly."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.onnx.tasks import POOLINGS, EncodedText, max_similarity, pad, relevance, unit, unpad


def text(*ids: int, special: tuple[int, ...] = (), types: tuple[int, ...] = ()) -> EncodedText:
    return EncodedText(
        np.array(ids), np.array(types or [0] * len(ids)), np.array([place in special for place in range(len(ids))])
    )


def vectors(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


class TestPad:
    """Texts of several lengths in one rectangle."""

    def test_fills_on_the_right(self) -> None:
        """Short texts are filled with the padding id and masked there; the longest decides the width."""
        batch = pad([text(5, 6, 7), text(8, types=(1,))], pad_id=9)

        assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 9]]
        assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
        assert batch.type_ids.tolist() == [[0, 0, 0], [1, 0, 0]]

    def test_counts_positions(self) -> None:
        """Positions count up in each text; those of the padding are in range, whatever they are."""
        positions = pad([text(5, 6, 7), text(8)], pad_id=0).positions

        assert positions.tolist() == [[0, 1, 2], [0, 0, 0]]

    def test_unpad_gives_each_text_its_own_rows(self) -> None:
        """The rows that stand for padding are not part of a text's output."""
        output = vectors(2, 3, 4)

        first, second = unpad(output, [text(1, 2, 3), text(1)])

        np.testing.assert_array_equal(first, output[0])
        np.testing.assert_array_equal(second, output[1, :1])

    def test_unpad_splits_rows(self) -> None:
        """A graph that gives one row per text gives each text its row."""
        output = vectors(2, 4)

        assert [row.tolist() for row in unpad(output, [text(1, 2), text(3)])] == output.tolist()


class TestPooling:
    """From token vectors to a text's vector."""

    @pytest.mark.parametrize(
        ("pooling", "row"), [("mean", [2.0, 3.0]), ("cls", [0.0, 1.0]), ("last", [4.0, 5.0])], ids=str
    )
    def test_by_name(self, pooling: str, row: list[float]) -> None:
        """Mean is over all tokens, cls takes the first, last the last."""
        hidden = np.arange(6, dtype=np.float32).reshape(3, 2)

        assert POOLINGS[pooling](hidden).tolist() == row


class TestUnit:
    """Scaling to length 1."""

    def test_scales_each_vector(self) -> None:
        """Every vector comes out with length 1 and its direction."""
        np.testing.assert_allclose(unit(np.array([[3, 4], [0, -2]], np.float32)), [[0.6, 0.8], [0, -1]], atol=1e-7)

    def test_keeps_zero(self) -> None:
        """A zero vector stays zero instead of becoming a fault."""
        assert unit(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]


class TestMaxSimilarity:
    """Late interaction."""

    def test_is_the_mean_of_best_matches(self) -> None:
        """Each query token counts its best chunk token, whatever its place."""
        query, chunk = unit(vectors(3, 5)), unit(vectors(7, 5)[::-1].copy())

        expected = np.mean([max(float(q @ c) for c in chunk) for q in query])

        assert max_similarity(query, chunk) == pytest.approx(expected, abs=1e-6)

    @given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
    def test_stays_between_minus_one_and_one(self, query_tokens: int, chunk_tokens: int, seed: int) -> None:
        """Scores of texts of any length can be compared; a text scores 1 with itself."""
        generator = np.random.default_rng(seed)
        query = unit(generator.normal(size=(query_tokens, 4)).astype(np.float32))
        chunk = unit(generator.normal(size=(chunk_tokens, 4)).astype(np.float32))

        assert -1 <= max_similarity(query, chunk) <= 1
        assert max_similarity(query, query) == pytest.approx(1, abs=1e-5)

    def test_chunk_vectors_have_any_length(self) -> None:
        """Only directions count; a zero vector matches nothing, and is no fault."""
        query, chunk = unit(vectors(2, 5)), vectors(4, 5)
        scaled = np.concatenate([chunk * 7, np.zeros((1, 5), np.float32)])

        assert max_similarity(query, scaled) == pytest.approx(max_similarity(query, unit(chunk)), abs=1e-6)

    def test_runs_in_its_own_thread(self) -> None:
        """Products start no threads, which would wait for each other by spinning beside the engine's."""
        program = (
            "import os, appliance.engines.onnx.tasks as tasks, numpy as np; big = np.ones((600, 600), np.float32);"
            "tasks.max_similarity(tasks.unit(big), big); print(len(os.listdir('/proc/self/task')))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

        assert done.stdout.strip() == "1"


class TestRelevance:
    """From a cross-encoder's logits to a score."""

    def test_one_logit_is_the_score(self) -> None:
        """It is not squashed, so that order and distance stay as the model gives them."""
        assert relevance(np.array([-3.5], np.float32)) == -3.5

    def test_of_two_logits_the_difference(self) -> None:
        """The second class is "relevant"."""
        assert relevance(np.array([1.0, 3.5], np.float32)) == 2.5


class TestContent:
    """Which tokens late interaction compares."""

    def test_leaves_special_tokens_out(self) -> None:
        """[CLS] and [SEP] would match in every text."""
        assert text(2, 7, 8, 3, special=(0, 3)).content.tolist() == [False, True, True, False]

    def test_empty_text_keeps_them(self) -> None:
        """A text with nothing else is still comparable."""
        assert text(2, 3, special=(0, 1)).content.tolist() == [True, True]
