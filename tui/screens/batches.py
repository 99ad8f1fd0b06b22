"""Batches: how far they are, what became of them, cancel one. They are made and fetched with ``appliance batches``."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

from rich.text import Text
from textual.message import Message
from textual.notifications import SeverityLevel

from appliance.wire import admin
from tui.format import bar, format_status, format_time
from tui.keymap import AREAS, bindings
from tui.records import Batch
from tui.screens.confirm import Confirm
from tui.screens.list_screen import ListScreen
from tui.widgets.fact_sheet import Facts, FactSheet
from tui.widgets.record_table import Cell, Column

COLUMNS = (
    Column("Batch", 15),
    Column("Status", 11),
    Column("Progress"),
    Column("Answered", 13, right=True),
    Column("Failed", 6, right=True),
    Column("Endpoint", 20, wide=True),
    Column("Created (UTC)", 16, wide=True),
)
FIRST_STEPS = (
    ("1", 'a file, one request a line: {"custom_id": "1", "method": "POST",'),
    ("", '"url": "/v1/chat/completions", "body": {"model": …, "messages": …}}'),
    ("2", "appliance batches create FILE --endpoint /v1/chat/completions"),
    ("3", "its progress is shown here; appliance batches download ID fetches the answers"),
)
"""What to do before there is a batch."""
BAR_CELLS = 16
SHORT_ID = 14
SHOWN_FAULTS = 20
SEVERITIES: dict[str, SeverityLevel] = {"failed": "error", "expired": "error", "cancelled": "warning"}


class BatchesScreen(ListScreen[Batch]):
    """See the module."""

    area = "batches"
    noun = "batch"
    heading = "Batches of this key's account"
    columns = COLUMNS
    empty = "none yet"
    BINDINGS = bindings(AREAS["batches"].actions)

    class Arrived(Message):
        """The newest batches."""

        def __init__(self, batches: list[Batch]) -> None:
            super().__init__()
            self.batches = batches

    class Cancelled(Message):
        """A batch was asked to stop."""

        def __init__(self, batch: Batch) -> None:
            super().__init__()
            self.batch = batch

    # --- fetching --------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Ask for the batches."""
        self.ask(self.client.batches, self.Arrived, group="batches")

    def show_node(self, node: admin.State) -> None:
        """Follow the batches at the pace of the node's state while one runs here or elsewhere."""
        runs = node.batches_unfinished or any(not batch.is_final for batch in self.records.values())
        if self.is_current and runs:
            self.reload()

    def on_batches_screen_arrived(self, event: Arrived) -> None:
        """Show them, newest first; say which ended since the last look."""
        before, self.records = self.records, {batch.id: batch for batch in event.batches}
        self.table.show({batch.id: batch_cells(batch) for batch in event.batches})
        self.show_selected()
        for batch in event.batches:
            if batch.is_final and batch.id in before and not before[batch.id].is_final:
                self._announce(batch)

    def _announce(self, batch: Batch) -> None:
        counts = batch.request_counts
        self.notify(
            f"{counts.completed} of {counts.total} requests answered, {counts.failed} failed",
            title=f"{short(batch)} is {batch.status}",
            severity=SEVERITIES.get(batch.status, "information"),
            markup=False,
        )

    def show_selected(self) -> None:
        """The batch, or how to run the first one."""
        sheet = self.query_one(FactSheet)
        if batch := self.selected:
            sheet.show(batch.id, batch_facts(batch))
        else:
            sheet.show("How to run one", FIRST_STEPS)

    # --- keys ------------------------------------------------------------------------------------------------

    def action_copy(self) -> None:
        """Hand the ID to the terminal's clipboard (OSC 52; not every terminal takes it)."""
        if batch := self.selected:
            self.app.copy_to_clipboard(batch.id)
            self.notify(batch.id, title="Copied, if your terminal allows it", markup=False)

    def action_cancel(self) -> None:
        """Ask, then cancel the selected batch."""
        batch = self.selected
        if batch is None:
            return
        if batch.is_final:
            self.notify(f"it is {batch.status} already", title="Nothing to cancel", severity="warning")
            return
        left = batch.request_counts.total - batch.request_counts.completed - batch.request_counts.failed
        question = (
            f"Cancel {batch.id}? {left} of its {batch.request_counts.total} requests have no answer yet and get none. "
            "The answers so far can be downloaded."
        )
        self.app.push_screen(Confirm("Cancel batch", question, "Cancel it"), partial(self._cancel, batch.id))

    def _cancel(self, batch_id: str, agreed: bool | None) -> None:
        if agreed:
            self.ask(partial(self.client.cancel_batch, batch_id), self.Cancelled, group="cancel")

    def on_batches_screen_cancelled(self, event: Cancelled) -> None:
        """Show the new state."""
        self.reload()


def short(batch: Batch) -> str:
    """Enough of an ID to tell it from others."""
    return f"{batch.id[:SHORT_ID]}…"


def batch_cells(batch: Batch) -> tuple[Cell, ...]:
    """A row of the batches' table."""
    counts = batch.request_counts
    share = (counts.completed + counts.failed) / max(1, counts.total)
    return (
        short(batch),
        format_status(batch.status),
        Text.assemble(bar(share, BAR_CELLS, "green"), f" {share:4.0%}"),
        f"{counts.completed}/{counts.total}",
        Text(str(counts.failed), style="red" if counts.failed else "dim"),
        batch.endpoint,
        format_time(_moment(batch.created_at)),
    )


def batch_facts(batch: Batch) -> Facts:
    """A batch in a few lines: what is wrong with it first, then where its answers are."""
    counts = batch.request_counts
    for number, fault in enumerate(batch.faults[:SHOWN_FAULTS]):
        where = f"line {fault.line}: " if fault.line is not None else ""
        yield "" if number else "Fault", Text(f"{where}{fault.message}", style="red")
    if len(batch.faults) > SHOWN_FAULTS:
        yield "", f"and {len(batch.faults) - SHOWN_FAULTS} more: appliance batches show {batch.id}"
    yield "Status", format_status(batch.status)
    yield "Requests", f"{counts.total}: {counts.completed} answered, {counts.failed} failed"
    yield "Endpoint", batch.endpoint
    begun, ended = format_time(_moment(batch.in_progress_at)), format_time(_moment(batch.ended_at))
    yield "Times (UTC)", f"created {format_time(_moment(batch.created_at))}, begun {begun}, ended {ended}"
    if batch.is_final and (batch.output_file_id or batch.error_file_id):
        yield "Answers", f"appliance batches download {batch.id}"
    elif not batch.is_final:
        yield "Expires (UTC)", format_time(_moment(batch.expires_at))
    yield "Input file", batch.input_file_id
    yield from sorted((batch.metadata or {}).items())


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
