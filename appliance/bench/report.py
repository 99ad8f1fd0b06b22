"""What a benchmark found, as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from appliance.bench.measure import Found
from appliance.wire import admin

COLUMNS = (
    "deployment",
    "load s",
    "clients",
    "prompt tokens",
    "answer tokens",
    "first token ms",
    "prompt tokens/s",
    "answer tokens/s",
    "texts/s",
)


def table_of(found: Iterable[Found]) -> Table:
    """A row per measurement; the name and the load stand in a deployment's first."""
    table = Table(*COLUMNS[:1], box=None, pad_edge=False)
    for column in COLUMNS[1:]:
        table.add_column(column, justify="right")
    for each in found:
        load = f"{each.kept.load_seconds:.2f}" if each.kept is not None else ""
        for number, point in enumerate(each.points):
            table.add_row(*((each.deployment_name, load) if number == 0 else ("", "")), *_cells(point))
    return table


def _cells(point: admin.BenchmarkPoint) -> Sequence[str]:
    first = point.first_token_seconds
    return (
        str(point.clients),
        str(point.prompt_tokens),
        str(point.response_tokens or ""),
        "" if first is None else f"{first * 1000:.0f}",
        _figure(point.prompt_tokens_per_second),
        _figure(point.response_tokens_per_second),
        _figure(point.texts_per_second),
    )


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def headline(kept: admin.Benchmark) -> str:
    """Day, machine and versions: figures mean nothing without them."""
    return (
        f"{kept.measured_at.date()}: {kept.machine}; on {kept.device}, "
        f"appliance {kept.appliance_version}, engine {kept.engine_version}"
    )


def of_kept(kept: admin.Benchmark) -> Found:
    """A result that the server keeps, with what has changed since as its note."""
    notes = [] if kept.stale is None else [f"no longer holds: {kept.stale}"]
    return Found(deployment_name=kept.deployment_name, points=kept.points, notes=notes, kept=kept)
