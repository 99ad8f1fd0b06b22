"""The table of records: selection survives refreshes, columns fit the width."""

from __future__ import annotations

from textual.app import App, ComposeResult

from tui.widgets.record_table import Column, RecordTable

COLUMNS = (Column("Name"), Column("Size", 6, right=True), Column("Extra", 10, wide=True))


class _Bench(App[None]):
    """An application with nothing but the table."""

    def compose(self) -> ComposeResult:
        yield RecordTable(*COLUMNS, id="table", empty="nothing here")


def _records(*names: str) -> dict[str, tuple[str, str, str]]:
    return {name: (f"name of {name}", "1", "more") for name in names}


async def test_selection_follows_its_record() -> None:
    """The selected record stays selected when others come and go above it."""
    async with _Bench().run_test() as pilot:
        table = pilot.app.query_one(RecordTable)
        table.show(_records("b", "c"))
        table.select("c")
        table.show(_records("a", "b", "c", "d"))
        await pilot.pause()
        assert (table.selected_key, table.cursor_row) == ("c", 2)


async def test_selected_record_gone() -> None:
    """When the selected record is gone, the one in its place is selected."""
    async with _Bench().run_test() as pilot:
        table = pilot.app.query_one(RecordTable)
        table.show(_records("a", "b", "c"))
        table.select("c")
        table.show(_records("a", "b"))
        await pilot.pause()
        assert table.selected_key == "b"


async def test_empty() -> None:
    """An empty table selects nothing and says that it is empty."""
    async with _Bench().run_test() as pilot:
        table = pilot.app.query_one(RecordTable)
        table.show(_records("a"))
        table.show({})
        assert table.selected_key is None
        assert table.border_subtitle == "nothing here"


async def test_cells_change_in_place() -> None:
    """The same records with other values are updated without moving anything."""
    async with _Bench().run_test() as pilot:
        table = pilot.app.query_one(RecordTable)
        table.show(_records("a", "b"))
        await pilot.pause()
        table.show({**_records("a"), "b": ("name of b", "2", "more")})
        assert table.get_cell("b", "1").plain == "2"


async def test_width() -> None:
    """Columns for wide tables appear with the room for them; the first takes what is left."""
    async with _Bench().run_test(size=(80, 10)) as pilot:
        table = pilot.app.query_one(RecordTable)
        table.show(_records("a"))
        await pilot.pause()
        assert [str(column.label) for column in table.ordered_columns] == ["Name", "Size"]
        narrow = table.ordered_columns[0].width
        await pilot.resize_terminal(120, 10)
        await pilot.pause()
        assert [str(column.label) for column in table.ordered_columns] == ["Name", "Size", "Extra"]
        assert table.ordered_columns[0].width > narrow


async def test_markup_is_text() -> None:
    """A name that looks like markup is shown as it is."""
    async with _Bench().run_test() as pilot:
        table = pilot.app.query_one(RecordTable)
        table.show({"a": ("[bold]x[/bold]", "1", "")})
        await pilot.pause()
        assert table.get_cell("a", "0").plain == "[bold]x[/bold]"
