"""How the cost of a step and the memory of an engine grow, and how far a step is from what the memory allows.

    .venv/bin/python -m tests.benchmarks.cost --weights PEER/tiny.gguf PEER/half.gguf [--write]

Drives the engine's own door to llama.cpp without a server. A step gives one token to each of so many sequences, each of
which has so many tokens in the cache. The floor is the time to read the weights once: no step of one sequence can be
quicker, as every weight is needed and nothing of the size stays in a processor's caches. Where the appliance's kernels
take part, the same steps are timed with llama.cpp's too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import c_uint8
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as c
import numpy as np
import psutil
from msgspec import Struct

from appliance.engines.llama import kernels
from appliance.engines.llama.runtime import Context, ContextOptions, Model
from tests.benchmarks.report import table, where_and_when, write_section

GRID = ((1, 512), (4, 512), (16, 512), (64, 512), (1, 2048), (4, 2048), (16, 2048), (1, 8192), (4, 8192))
"""Sequences, and tokens in the cache of each."""
MEMORY_GRID = ((1, 2048), (16, 2048), (1, 32_768), (16, 32_768), (64, 32_768))
"""Slots, and cells of the cache."""
STEP_COLUMNS = ("Sequences x tokens of each", "Step, ms", "with llama.cpp's kernels", "Tokens/s", "Times the floor")
STEPS = 12
BATCH_TOKENS = 512
SPARE_CELLS = 2048
READ_BYTES = 1 << 30


class Cost(Struct, frozen=True):
    """A step's median time, and that with llama.cpp's kernels; None where these are the only ones."""

    sequences: int
    context_tokens: int
    seconds: float
    with_llama_cpp_seconds: float | None


def main() -> None:
    """Measure each file and print, or write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    bandwidth = read_bandwidth(options.threads)
    lines = [
        where_and_when("llama-cpp-python"),
        "",
        f"{options.threads} threads. So many cores read memory at {bandwidth / 1e9:.1f} GB/s; the floor of a step is "
        "the weights' bytes over that.",
    ]
    for weights in options.weights:
        lines += ["", *_section(weights, options.threads, bandwidth)]
    if options.write:
        write_section("cost", lines)
    print("\n".join(lines))


def read_bandwidth(threads: int) -> float:
    """Bytes a second at which so many cores read memory in order, together: the best of five."""
    parts = np.split(np.ones(READ_BYTES // 8 // threads * threads, dtype=np.int64), threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            started = time.perf_counter()
            list(pool.map(np.max, parts))
            seconds.append(time.perf_counter() - started)
    return READ_BYTES / min(seconds)


def _section(weights: Path, threads: int, bandwidth: float) -> list[str]:
    size_bytes = weights.stat().st_size
    floor_seconds = size_bytes / bandwidth
    rows = []
    for cost in _steps(weights, threads):
        theirs = cost.with_llama_cpp_seconds
        rows.append(
            (
                f"{cost.sequences} x {cost.context_tokens:,}",
                f"{cost.seconds * 1000:.1f}",
                "-" if theirs is None else f"{theirs * 1000:.1f}",
                f"{cost.sequences / cost.seconds:.0f}",
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
        *table(STEP_COLUMNS, rows),
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
            _fill(context, sequences, filled[context_tokens])
            ours = _step_seconds(context, sequences, context_tokens)
            theirs = None
            if kernels.computed() is not None:
                kernels.use(False)
                theirs = _step_seconds(context, sequences, context_tokens + STEPS)
                kernels.use(True)
            yield Cost(sequences, context_tokens, ours, theirs)
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


def _fill(context: Context, sequences: int, state: Any) -> None:
    """Give every sequence cells of its own."""
    for sequence in range(sequences):
        assert c.llama_state_seq_set_data(context._context, state, len(state), sequence), "the cache is too small"


def _step_seconds(context: Context, sequences: int, position: int) -> float:
    """Time steps of one token for each sequence, from a position on."""
    rng = np.random.default_rng(1)
    seconds = []
    for step in range(STEPS):
        context.batch.clear()
        for sequence in range(sequences):
            token = rng.integers(0, context.model.vocabulary.size, 1, dtype=np.int32)
            context.batch.add(sequence, position + step, token, want_last=True)
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
