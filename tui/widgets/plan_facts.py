"""What a call of a deployment would do to memory: what would be loaded where, who leaves, who stays, and why."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from appliance.wire import admin
from tui.format import format_bytes
from tui.widgets.fact_sheet import Facts

OUTCOMES = {
    "serves": ("served by what is in memory: nothing changes", "green"),
    "loads": ("loaded into free memory: nobody leaves", "green"),
    "evicts": ("loaded once others have left", "yellow"),
    "waits": ("waits: those who would have to leave stay for now", "yellow"),
    "never": ("refused: it does not fit, whoever leaves", "bold red"),
    "fails": ("refused: it failed a moment ago", "bold red"),
}


def plan_facts(plan: admin.Plan) -> Facts:
    """The outcome first, then its numbers, then the server's own sentence."""
    words, style = OUTCOMES[plan.outcome]
    yield "A call now is", Text(words, style=style)
    if plan.outcome != "serves":
        yield from _movements(plan)
    yield "Runs on", plan.device
    for share in plan.placement:
        yield f"On {share.device}", _share(share)
    yield "Needs", f"{format_bytes(plan.total_bytes)}, {'as its last load took' if plan.learned else 'by its header'}"
    for name, size_bytes in _parts(plan):
        if size_bytes:
            yield f"  {name}", format_bytes(size_bytes)
    yield "", ""
    yield "In words", plan.reason


def _movements(plan: admin.Plan) -> Iterator[tuple[str, str | Text]]:
    if plan.ahead:
        yield "In the line", f"behind {plan.ahead} other {'load' if plan.ahead == 1 else 'loads'}"
    yield "Leaves", ", ".join(plan.evicts) or "nobody"
    for number, stay in enumerate(plan.stays):
        yield "" if number else "Stays", f"{stay.deployment_name} ({format_bytes(stay.reserved_bytes)}): {stay.reason}"


def _share(share: admin.PlannedShare) -> str:
    layers = f" for {share.layers} {'layer' if share.layers == 1 else 'layers'}" if share.layers else ""
    room = f"{format_bytes(max(0, share.free_bytes))} free of {format_bytes(share.budget_bytes)}"
    return f"{format_bytes(share.reserved_bytes)}{layers}; {room}"


def _parts(plan: admin.Plan) -> Iterator[tuple[str, int]]:
    yield "weights (shared)" if plan.shares_weights else "weights", plan.weights_bytes
    yield "adapter", plan.adapter_bytes
    yield "cache", plan.cache_bytes
    yield "prefixes", plan.prefix_bytes
    yield "buffers", plan.compute_bytes
