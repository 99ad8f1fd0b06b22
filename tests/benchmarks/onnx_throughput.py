"""How much of ONNX Runtime's speed is left behind HTTP: tokens a second as ratios to the best raw ``session.run`` loop.

    .venv/bin/python -m tests.benchmarks.onnx_throughput [--turns 3] [--quick] [--part embeddings ...] [--write]

A real server with the starters, real HTTP clients, against a child process that runs texts of the same kind, tokenized
and sorted before, through the same weights with the same threads, with the best batch size and way of waiting that was
found for it. Both sides take turns, A B A B; the ratio of each turn is kept and the median reported. The clients run on
the cores that both sides compute on. With ``--write`` the tables go into ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import msgspec
from msgspec import Struct

from tests.benchmarks import onnx_engine
from tests.benchmarks.onnx_clients import Clients, Request
from tests.benchmarks.onnx_raw import RawLoop, Way
from tests.benchmarks.onnx_texts import KINDS, query, texts
from tests.benchmarks.report import table, where_and_when, write_section
from tests.support.server import Server, running_server
from tests.support.starter_embed import STARTER_EMBED

CLIENTS: Final = (1, 8, 32)
LIST_TEXTS: Final = 32
RAW_TEXTS: Final = {"short": 128, "mixed": 32, "long": 4}
LISTED_TEXTS: Final = {"short": 512, "mixed": 128, "long": 32}
"""Texts in all lists of one measurement: where many clients send few of them, the lists are shorter."""
ROUNDS: Final = {"short": 1.0, "mixed": 2.5, "long": 1.0}
"""How much longer a kind is measured, so that all its lengths have had their turn."""
BUDGETS: Final = (64, 256, 512, 1_024)
THREADS: Final = len(os.sched_getaffinity(0))


class Timing(Struct, frozen=True):
    """How long to measure."""

    turns: int
    seconds: float


class Task(Struct, frozen=True):
    """What is asked of the server: requests, and the texts that the raw loop runs in their place."""

    model: str
    request: Callable[[Sequence[str], int], Request]
    raw: Callable[[Sequence[str]], list[str]]
    """What is computed for these texts in one request."""


def embeddings(model: str = "starter-embed", **options: str) -> Task:
    """Vectors of the texts."""

    def request(batch: Sequence[str], _: int) -> Request:
        return Request("/v1/embeddings", msgspec.json.encode({"model": model, "input": batch, **options}))

    return Task(model, request, list)


def rerankings(model: str = "starter-rerank") -> Task:
    """Scores of the texts for a query of eight tokens."""

    def request(batch: Sequence[str], seed: int) -> Request:
        body = {"model": model, "query": query(seed), "documents": batch}
        return Request("/v1/rerank", msgspec.json.encode(body))

    return Task(model, request, lambda batch: [query(0), *batch])


class Bench:
    """A server and the raw loop beside it, of which one computes at a time."""

    def __init__(self, server: Server, raw: RawLoop, timing: Timing) -> None:
        self.server = server
        self.raw = raw
        self.timing = timing
        self._ways: dict[str, Way] = {}

    def serve(self, task: Task, kind: str, list_texts: int, clients: int) -> float:
        """Tokens a second that the server gives: while all clients are busy, or until the last list is answered."""
        crowd = Clients(self.server.url, self.server.member_key, clients)
        if list_texts == 1:
            asked = [task.request(texts(kind, 1, seed), seed) for seed in range(max(clients * 2, 16))]
            return crowd.tokens_a_second(asked, self.timing.seconds * ROUNDS[kind])
        in_each = max(2, min(list_texts, LISTED_TEXTS[kind] // clients))
        lists = max(clients, LISTED_TEXTS[kind] // in_each)
        return crowd.makespan([task.request(texts(kind, in_each, seed), seed) for seed in range(lists)])

    def best_way(self, kind: str) -> Way:
        """The batch size and the way of waiting with which the raw loop is fastest on these texts."""
        if kind not in self._ways:
            ways = [Way(budget, spinning) for budget in BUDGETS for spinning in (False, True)]
            rates = self.raw.rates(texts(kind, RAW_TEXTS[kind], 0), ways, self.timing.seconds / 3)
            self._ways[kind] = max(zip(rates, ways, strict=True), key=lambda each: each[0])[1]
        return self._ways[kind]

    def row(self, task: Task, kind: str, list_texts: int) -> list[object]:
        """A line of the table: the raw loop's figures, and for each number of clients the median ratio to it."""
        corpus = _corpus(task, kind, list_texts)
        best, single = self.best_way(kind), Way(0, False)
        ratios: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
        raw_rates, single_ratios = [], []
        for _ in range(self.timing.turns):
            raw, alone = self.raw.rates(corpus, [best, single], self.timing.seconds)
            raw_rates.append(raw)
            single_ratios.append(alone / raw)
            for clients in CLIENTS:
                ratios[clients].append(self.serve(task, kind, list_texts, clients) / raw)
        found = {count: [f"{ratio:.2f}" for ratio in each] for count, each in ratios.items()}
        print(task.model, kind, list_texts, best, found, flush=True)
        return [
            f"{kind}, {'one text' if list_texts == 1 else f'{list_texts} texts'} a request",
            f"{statistics.median(raw_rates):,.0f}",
            f"{best.budget:,}",
            f"{statistics.median(single_ratios):.2f}",
            *(f"{statistics.median(ratios[clients]):.2f}" for clients in CLIENTS),
        ]


def _corpus(task: Task, kind: str, list_texts: int) -> list[str]:
    """Texts for the raw loop, as the server computes them for requests of that form."""
    count = RAW_TEXTS[kind]
    lists = [texts(kind, list_texts, seed) for seed in range(max(1, count // list_texts))]
    return [text for batch in lists for text in task.raw(batch)]


def throughput(bench: Bench, task: Task) -> list[str]:
    """The table of one task."""
    columns = ["texts", "raw loop, tokens/s", "its batch, tokens", "raw, one text a run"]
    columns += [f"{count} client{'s' * (count > 1)}" for count in CLIENTS]
    return table(columns, [bench.row(task, kind, count) for count in (1, LIST_TEXTS) for kind in KINDS])


def variants(bench: Bench) -> list[str]:
    """What else decides: the weights' precision, the answer's encoding, the order of the texts."""
    rates: dict[str, list[float]] = {}
    for _ in range(bench.timing.turns):
        for name, task in _VARIANTS.items():
            rates.setdefault(name, []).append(bench.serve(task, "mixed", LIST_TEXTS, 8))
        for name, rate in onnx_engine.orders().items():
            rates.setdefault(name, []).append(rate)
    pairs = {
        "8-bit weights against float32": ("int8", "floats"),
        "vectors in base64 against JSON numbers": ("base64", "floats"),
        "batches of near lengths against arrival order (engine alone)": ("sorted", "arrival"),
    }
    rows = [
        (name, f"{statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True)):.2f}")
        for name, (one, other) in pairs.items()
    ]
    return [
        *table(["lists of mixed texts, 8 clients", "tokens/s, ratio"], rows),
        "",
        *table(["cosine of the 8-bit vectors", "mean", "least"], onnx_engine.cosines()),
    ]


_VARIANTS: Final = {
    "floats": embeddings(),
    "base64": embeddings(encoding_format="base64"),
    "int8": embeddings("starter-embed-int8"),
}


def fairness(bench: Bench) -> list[str]:
    """How long a short text waits while another client's list of long ones is computed."""
    rows = [
        (name, f"{statistics.median(found) * 1000:.0f}", f"{max(found) * 1000:.0f}")
        for name, found in onnx_engine.waits(bench.server, bench.timing.turns * 10).items()
    ]
    return table(["one short text", "median, ms", "longest, ms"], rows)


PARTS: Final[dict[str, Callable[[Bench], list[str]]]] = {
    "embeddings": lambda bench: throughput(bench, embeddings()),
    "rerankings": lambda bench: throughput(bench, rerankings()),
    "variants": variants,
    "fairness": fairness,
}


@contextmanager
def prepared(timing: Timing) -> Iterator[Bench]:
    """A warm server: the starters are loaded and have answered."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder) / "home") as server,
        RawLoop(STARTER_EMBED, THREADS) as raw,
        server.client(server.member_key) as client,
    ):
        for task in (*_VARIANTS.values(), rerankings()):
            _warm(client, task)
        yield Bench(server, raw, timing)


def _warm(client: httpx.Client, task: Task) -> None:
    request = task.request(texts("mixed", LIST_TEXTS, 0), 0)
    client.post(request.path, content=request.body).raise_for_status()


def main() -> None:
    """Run the parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="short measurements, to see that all of it runs")
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args()
    with prepared(Timing(options.turns, 0.2 if options.quick else 1.0)) as bench:
        for part in options.part:
            lines = PARTS[part](bench)
            print("\n".join(["", f"## {part}", *lines]), flush=True)
            if options.write:
                when = where_and_when("onnxruntime-gpu", "litestar", "uvicorn")
                write_section(f"onnx-{part}", ["", *lines, "", f"{when} Median of {options.turns} turns.", ""])


if __name__ == "__main__":
    main()
