"""The appliance beside llama-server: same weights, threads, slots and cache, taking turns in one run.

    .venv/bin/python -m tests.benchmarks.versus --peer PEER [--only 'half*'] [--turns 3] [--write]

``tests.benchmarks.peer`` makes PEER. Prints a table of medians and ratios for each shape of weights;
``--write`` puts them into ``docs/performance.md``. All of it takes an hour or two on two cores. Not a test: machines
differ.
"""

from __future__ import annotations

import argparse
import fnmatch
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from tests.benchmarks import peer, shapes
from tests.benchmarks.load import Endpoint, Figures, Scenario, run
from tests.benchmarks.report import table, where_and_when, write_section
from tests.support import chain
from tests.support.server import Server, running_server

SLOTS, CONTEXT_TOKENS, PEER_PORT = 16, 32_768, 18_080
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 40},
        "count": {"type": "integer"},
        "kind": {"enum": ["small", "large", "unknown"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 4},
    },
    "required": ["city", "count", "kind", "tags"],
    "additionalProperties": False,
}


class Case(Struct, frozen=True, kw_only=True):
    """A row of the table."""

    name: str
    shape: str
    scenario: Scenario
    aim: str


def _steady(shape: str, clients: int, requests: int, tokens: int) -> Case:
    return Case(
        name=f"{shape}: steady, {clients} client{'s' if clients > 1 else ''}",
        shape=shape,
        scenario=Scenario(clients=clients, requests=requests, answer_tokens=tokens),
        aim="tokens/s ≥ 1, first ≤ 1",
    )


CASES = (
    _steady("tiny", 1, 6, 100),
    _steady("tiny", 4, 16, 100),
    _steady("tiny", 16, 48, 100),
    _steady("tiny", 64, 128, 100),
    Case(
        name="tiny: 16 clients, 700 shared words",
        shape="tiny",
        scenario=Scenario(clients=16, requests=48, prompt_words=30, shared_words=700, answer_tokens=32),
        aim="tokens/s ≥ 2",
    ),
    Case(
        name="tiny: 8 clients, JSON under a schema",
        shape="tiny",
        scenario=Scenario(clients=8, requests=24, prompt_words=30, answer_tokens=100, schema=SCHEMA),
        aim="tokens/s ≥ 1",
    ),
    _steady("half", 1, 3, 64),
    _steady("half", 4, 8, 64),
    _steady("half", 16, 32, 64),
    Case(
        name="half: 16 clients, 400 shared words",
        shape="half",
        scenario=Scenario(clients=16, requests=32, prompt_words=30, shared_words=400, answer_tokens=16),
        aim="tokens/s ≥ 3.5, first ≤ 0.3",
    ),
    Case(
        name="half: 4 streams, a prompt of 2,000 words arrives",
        shape="half",
        scenario=Scenario(clients=4, requests=4, answer_tokens=250, intruder_words=2000),
        aim="longest gap ≤ 0.1, intruder ≤ 1.3",
    ),
    Case(
        name="tiny: 4 conversations of 5 turns",
        shape="tiny",
        scenario=Scenario(clients=4, requests=4, prompt_words=200, answer_tokens=32, turns=5),
        aim="only new tokens computed",
    ),
)


class Sides(Struct, frozen=True):
    """Figures of a case, turn by turn: the appliance's and llama-server's."""

    ours: list[Figures]
    theirs: list[Figures]

    def median(self, of: Callable[[Figures], float | None]) -> tuple[float, float]:
        """Of both sides."""
        ours, theirs = (statistics.median(of(turn) or 0.0 for turn in side) for side in (self.ours, self.theirs))
        return ours, theirs


def main() -> None:
    """Run the chosen cases and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--only", default="*", help="a pattern of names, such as 'tiny: steady*'")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cases = [case for case in CASES if fnmatch.fnmatch(case.name, options.only)]
    for shape in shapes.SHAPES:
        chosen = [case for case in cases if case.shape == shape]
        if not chosen:
            continue
        with both(options.peer, shape, options.threads) as (ours, theirs):
            found = [(case, _take_turns(case, ours, theirs, options.turns)) for case in chosen]
        lines = _lines(found, options.turns, options.threads)
        if options.write:
            write_section(f"llama-server-{shape}", lines)
        print("\n".join(lines))


@contextmanager
def both(folder: Path, shape: str, threads: int) -> Iterator[tuple[Endpoint, Endpoint]]:
    """The appliance and llama-server with the same weights, both ready."""
    weights = folder / f"{shape}.gguf"
    if not weights.exists():
        shapes.write(weights, shapes.SHAPES[shape], peer.vocabulary(folder))
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "home"
        server = stack.enter_context(running_server(home, APPLIANCE_IMPORT_ROOTS=str(folder)))
        theirs = stack.enter_context(
            peer.serving(folder, weights, threads=threads, slots=SLOTS, context_tokens=CONTEXT_TOKENS, port=PEER_PORT)
        )
        yield _deployed(server, weights, threads), theirs


def _deployed(server: Server, weights: Path, threads: int) -> Endpoint:
    with server.client() as client:
        chain.import_weights(client, weights, "weights")
        chain.deploy(
            client,
            chain.CHAT,
            "weights",
            "measured",
            vendor_configuration={"min_workers": 1, "per_worker": SLOTS},
            model_creation_parameters={
                "context_length": CONTEXT_TOKENS,
                "cache_tokens": CONTEXT_TOKENS,
                "threads": threads,
            },
        )
    return Endpoint(url=server.url, model="measured", key=server.member_key)


def _take_turns(case: Case, ours: Endpoint, theirs: Endpoint, turns: int) -> Sides:
    sides = Sides([], [])
    for turn in range(turns):
        for side, endpoint in ((sides.ours, ours), (sides.theirs, theirs)):
            side.append(run(case.scenario, endpoint, f"{case.name}-{turn}"))
            figures = side[-1]
            name = "ours" if endpoint is ours else "theirs"
            print(f"{case.name}, turn {turn + 1}, {name}: {figures}", file=sys.stderr, flush=True)
    return sides


def _lines(found: list[tuple[Case, Sides]], turns: int, threads: int) -> list[str]:
    head = [
        where_and_when("llama-cpp-python", "uvicorn", "litestar"),
        "",
        f"{threads} threads, {SLOTS} slots, {CONTEXT_TOKENS:,} cells of cache on both sides, Q8_0 weights with random "
        f"numbers; the clients run on the same cores. Medians of {turns} turns: the appliance's, llama-server's, and "
        "in bold their ratio. Longest gap: between two tokens of a stream.",
        "",
    ]
    columns = ("Case", "Tokens/s", "First token, p50 s", "Longest gap, s", "Aim")
    return head + table(columns, [_row(case, sides) for case, sides in found]) + ["", *_details(found)]


def _row(case: Case, sides: Sides) -> tuple[str, ...]:
    speed = sides.median(lambda figures: figures.answer_tokens_per_second)
    first = sides.median(lambda figures: figures.first_p50_seconds)
    gap = sides.median(lambda figures: figures.gap_max_seconds)
    return case.name, _beside(speed, 1), _beside(first, 3), _beside(gap, 3), case.aim


def _beside(values: tuple[float, float], digits: int) -> str:
    ours, theirs = values
    ratio = f"**{ours / theirs:.2f}**" if theirs else "-"
    return f"{ours:.{digits}f} / {theirs:.{digits}f} = {ratio}"


def _details(found: list[tuple[Case, Sides]]) -> list[str]:
    """What only some cases have to tell, and what went wrong."""
    lines: list[str] = []
    for case, sides in found:
        if case.scenario.intruder_words:
            intruder = sides.median(lambda figures: figures.intruder_first_seconds)
            lines.append(f"- {case.name}: its first token after {_beside(intruder, 2)} s.")
        if case.scenario.turns or case.scenario.shared_words:
            ours, theirs = (_recomputed(side) for side in (sides.ours, sides.theirs))
            lines.append(f"- {case.name}: {ours:.0%} of the prompt tokens were computed, {theirs:.0%} by llama-server.")
        for name, side in (("the appliance", sides.ours), ("llama-server", sides.theirs)):
            if failed := sum(figures.failed for figures in side):
                error = next(figures.error for figures in side if figures.error)
                lines.append(f"- {case.name}: {failed} requests to {name} failed, the first with: {error}")
    return lines


def _recomputed(side: list[Figures]) -> float:
    asked = sum(figures.prompt_tokens for figures in side)
    return 1 - sum(figures.cached_tokens for figures in side) / asked if asked else 0.0


if __name__ == "__main__":
    main()
