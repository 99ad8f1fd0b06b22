"""How the cost of a step and the memory of an engine grow, and how far a step is from what the memory allows.

    .venv/bin/python -m tests.benchmarks.cost --weights PEER/tiny.gguf PEER/half.gguf [--write]

Drives the engine's own door to llama.cpp without a server. A step gives one token to each of so many sequences, each of
which has so many tokens in the cache. The floor is the time to read the weights once: no step of one sequence can be
quicker, as every weight is needed and nothing of the size stays in a processor's caches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_uint8
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as c
import numpy as np
import psutil
from msgspec import Struct

from appliance.engines.llama.runtime import Context, ContextOptions, Model
from tests.benchmarks.report import table, where_and_when, write_section

GRID = ((1, 512), (4, 512), (16, 512), (64, 512), (1, 2048), (4, 2048), (16, 2048), (1, 8192), (4, 8192))
"""Sequences, and tokens in the cache of each."""
MEMORY_GRID = ((1, 2048), (16, 2048), (1, 32_768), (16, 32_768), (64, 32_768))
"""Slots, and cells of the cache."""
STEPS = 12
BATCH_TOKENS = 512
SPARE_CELLS = 1024
READ_BYTES = 1 << 30


class Cost(Struct, frozen=True):
    """A step's median time."""

    sequences: int
    context_tokens: int
    seconds: float


def main() -> None:
    """Measure each file and print, or write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    bandwidth = read_bandwidth()
    lines = [
        where_and_when("llama-cpp-python"),
        "",
        f"{options.threads} threads. One core reads memory at {bandwidth / 1e9:.1f} GB/s; the floor of a step is "
        "the weights' bytes over that.",
    ]
    for weights in options.weights:
        lines += ["", *_section(weights, options.threads, bandwidth)]
    if options.write:
        write_section("cost", lines)
    print("\n".join(lines))


def read_bandwidth() -> float:
    """Bytes a second at which one core reads memory in order: the best of five."""
    values = np.ones(READ_BYTES // 8, dtype=np.int64)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        values.max()
        seconds.append(time.perf_counter() - started)
    return READ_BYTES / min(seconds)


def _section(weights: Path, threads: int, bandwidth: float) -> list[str]:
    size_bytes = weights.stat().st_size
    floor_seconds = size_bytes / bandwidth
    rows = []
    for cost in _steps(weights, threads):
        rate = cost.sequences / cost.seconds
        milliseconds = f"{cost.seconds * 1000:.1f}"
        rows.append(
            (
                f"{cost.sequences} x {cost.context_tokens:,}",
                milliseconds,
                f"{rate:.0f}",
                f"{cost.seconds / floor_seconds:.1f}",
            )
        )
    head = f"`{weights.name}`, {size_bytes / 1e6:.0f} MB: reading it once takes {floor_seconds * 1000:.1f} ms."
    memory = [
        (f"{slots} slots, {cells:,} cells", f"{used / 2**20:.0f}") for slots, cells, used in _memory(weights, threads)
    ]
    return [
        head,
        "",
        *table(("Sequences x tokens of each", "Step, ms", "Tokens/s", "Times the floor"), rows),
        "",
        *table(("Engine", "Memory beside the weights, MiB"), memory),
    ]


@contextmanager
def _context(model: Model, sequences: int, cells: int, threads: int) -> Iterator[Context]:
    options = ContextOptions(
        cells_tokens=-(-cells // 256) * 256, sequences=sequences, batch_tokens=BATCH_TOKENS, threads=threads
    )
    context = Context(model, options)
    try:
        yield context
    finally:
        context.close()


def _steps(weights: Path, threads: int) -> Iterator[Cost]:
    model = Model(weights)
    filled = _filled(model, sorted({context_tokens for _, context_tokens in GRID}), threads)
    for sequences, context_tokens in GRID:
        with _context(model, sequences, sequences * context_tokens + SPARE_CELLS, threads) as context:
            yield Cost(sequences, context_tokens, _step_seconds(context, sequences, context_tokens, filled))
    model.close()


def _filled(model: Model, lengths: list[int], threads: int) -> dict[int, Any]:
    """What is in the cache for one sequence of each length: computed once, copied from then on."""
    rng = np.random.default_rng(0)
    states: dict[int, Any] = {}
    with _context(model, 1, lengths[-1] + SPARE_CELLS, threads) as context:
        done = 0
        for length in lengths:
            for start in range(done, length, BATCH_TOKENS):
                tokens = rng.integers(0, model.vocabulary.size, BATCH_TOKENS, dtype=np.int32)
                context.batch.clear()
                context.batch.add(0, start, tokens)
                assert context.decode(), "the cache is too small for the benchmark"
            done = length
            size = c.llama_state_seq_get_size(context._context, 0)
            states[length] = (c_uint8 * size)()
            assert c.llama_state_seq_get_data(context._context, states[length], size, 0) == size
    return states


def _step_seconds(context: Context, sequences: int, context_tokens: int, filled: dict[int, Any]) -> float:
    """Fill every sequence's own cells, then time steps of one token each."""
    state = filled[context_tokens]
    for sequence in range(sequences):
        assert c.llama_state_seq_set_data(context._context, state, len(state), sequence), "the cache is too small"
    rng = np.random.default_rng(1)
    seconds = []
    for step in range(STEPS):
        context.batch.clear()
        for sequence in range(sequences):
            token = rng.integers(0, context.model.vocabulary.size, 1, dtype=np.int32)
            context.batch.add(sequence, context_tokens + step, token, want_last=True)
        started = time.perf_counter()
        assert context.decode(), "the cache is too small for the benchmark"
        context.logits(sequences)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _memory(weights: Path, threads: int) -> Iterator[tuple[int, int, int]]:
    """Growth of the process by a context, after one full batch, beside the weights."""
    process = psutil.Process()
    model = Model(weights)
    for slots, cells in MEMORY_GRID:
        before = process.memory_info().rss
        with _context(model, slots, cells, threads) as context:
            context.batch.clear()
            context.batch.add(0, 0, np.ones(BATCH_TOKENS, dtype=np.int32), want_last=True)
            assert context.decode(), "the cache is too small for the benchmark"
            yield slots, cells, process.memory_info().rss - before
    model.close()


if __name__ == "__main__":
    main()
