"""Form for an import: pick a file that the server sees, or type its path, and give the artifact a name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import PurePosixPath

from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.widgets import DataTable, Input

from appliance.wire import admin
from tui.background import in_background
from tui.client import Client
from tui.format import format_bytes
from tui.messages import Failed
from tui.problems import ConsoleError
from tui.screens.modal import FormDialog
from tui.widgets.field_row import FieldRow
from tui.widgets.record_table import Column, RecordTable

COLUMNS = (Column("File on the server"), Column("Kind", 11), Column("Size", 9, right=True))


class ImportForm(FormDialog[admin.Job]):
    """The result is the job that copies and checks the file."""

    heading = "Import weights"
    submit_label = "Import"
    BINDINGS = [Binding("enter", "take", "Take the file", show=False)]  # noqa: RUF012 - Textual declares it

    class Found(Message):
        """Files below the import roots."""

        def __init__(self, files: list[admin.ImportableFile]) -> None:
            super().__init__()
            self.files = files

    def __init__(self, client: Client, name: str = "") -> None:
        super().__init__()
        self.client = client
        self._wanted_name = name

    def compose_fields(self) -> ComposeResult:
        """The files found, a path, a name."""
        table = RecordTable(*COLUMNS, id="importable", empty="none found below the import roots: type a path")
        table.border_title = "Found"
        yield table
        yield FieldRow(
            "Path", Input(id="import-path", compact=True), "file or folder on the server's disk", required=True
        )
        name = Input(self._wanted_name, id="import-name", compact=True)
        yield FieldRow("Name", name, "how models refer to these weights", required=True)

    def on_mount(self) -> None:
        """Ask what can be imported."""
        in_background(self, self._find, group="importable")

    async def _find(self) -> None:
        try:
            files = await self.client.importable()
        except ConsoleError as problem:
            self.post_message(Failed(problem))
        else:
            self.post_message(self.Found(files))

    def on_import_form_found(self, event: Found) -> None:
        """Show the files."""
        rows = {
            file.path: (PurePosixPath(file.path).name, file.kind, format_bytes(file.size_bytes)) for file in event.files
        }
        self.query_one(RecordTable).show(rows)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Fill path and name from the file under the cursor."""
        path = self.query_one(RecordTable).selected_key
        if path is not None:
            self.query_one("#import-path", Input).value = path
            self.query_one("#import-name", Input).value = self._wanted_name or artifact_name(path)

    def action_take(self) -> None:
        """Enter in the table goes on to the name."""
        self.query_one("#import-name", Input).focus()

    def submission(self) -> Callable[[], Awaitable[admin.Job]]:
        """The import to start."""
        path, name = (row.text for row in self.query(FieldRow))
        return partial(self.client.start_import, admin.ImportCreate(paths=[path], name=name))


def artifact_name(path: str) -> str:
    """The file's name without its ending, in small letters."""
    return PurePosixPath(path).stem.lower()
