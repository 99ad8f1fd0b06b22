"""All about one dataset: how it begins, and how long its examples are to a base model."""

from __future__ import annotations

from functools import partial
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Select, Static, TabbedContent, TabPane

from appliance.wire import sgp_training as wire
from appliance.wire import sgp_v3
from tui.background import in_background
from tui.messages import Failed
from tui.problems import ConsoleError
from tui.screens.modal import Dialog
from tui.training import TrainingClient
from tui.widgets.fact_sheet import FactSheet
from tui.widgets.field_row import FieldRow
from tui.widgets.training_rows import dataset_facts, example_text, token_facts

SHOWN_EXAMPLES = 20
TOO_LONG = "the first example is longer than what is shown here: GET /v4/training-datasets/{id}/contents has it"


class DatasetDetails(Dialog[None]):
    """See the module."""

    BINDINGS = [Binding("q", "close", "Close", show=False)]  # noqa: RUF012 - Textual declares it
    AUTO_FOCUS = "Tabs"

    class Arrived(Message):
        """The first examples."""

        def __init__(self, examples: list[dict[str, Any]]) -> None:
            super().__init__()
            self.examples = examples

    class Counted(Message):
        """Its tokens, or why nobody counted them."""

        def __init__(self, statistics: wire.TokenStatistics | ConsoleError) -> None:
            super().__init__()
            self.statistics = statistics

    def __init__(self, training: TrainingClient, dataset: wire.TrainingDatasetV4, models: list[sgp_v3.Model]) -> None:
        super().__init__()
        self.add_class("large")
        self.heading = dataset.name
        self._training = training
        self._dataset = dataset
        self._models = [model for model in models if "weights" in (model.model_creation_parameters or {})]

    def compose_content(self) -> ComposeResult:
        """Three panes."""
        with TabbedContent():
            with TabPane("Examples"), VerticalScroll():
                yield Static("", id="examples")
            with TabPane("Tokens", id="tokens"):
                options = [(model.name, model.id) for model in self._models]
                choice = Select(options, prompt="choose the model that counts", id="counts-with", compact=True)
                yield FieldRow("Base model", choice)
                yield FactSheet(id="token-facts")
            with TabPane("Facts"):
                yield FactSheet(id="dataset-facts")
        yield Static("←→ pane   Tab into it   Esc close", classes="keys-hint")

    def on_mount(self) -> None:
        """Ask how it begins."""
        self.query_one("#dataset-facts", FactSheet).show("", dataset_facts(self._dataset))
        in_background(self, self._fetch, group="examples")

    async def _fetch(self) -> None:
        try:
            examples = await self._training.first_examples(self._dataset.id, SHOWN_EXAMPLES)
        except ConsoleError as problem:
            self.post_message(Failed(problem))
        else:
            self.post_message(self.Arrived(examples))

    def on_failed(self, event: Failed) -> None:
        """Say why in place of the examples."""
        event.stop()
        text = Text(f"{event.problem.title}: {event.problem.detail}", style="red")
        self.query_one("#examples", Static).update(text)

    def on_dataset_details_arrived(self, event: Arrived) -> None:
        """Show them, and how many there are beside."""
        shown = example_text(event.examples) if event.examples else Text(TOO_LONG)
        rest = self._dataset.examples - len(event.examples)
        if event.examples and rest > 0:
            shown.append(f"… and {rest:,} more", style="dim")
        self.query_one("#examples", Static).update(shown)

    def on_select_changed(self, event: Select.Changed) -> None:
        """Let the chosen model's tokenizer count."""
        event.stop()
        if not event.select.is_blank():
            self.query_one("#token-facts", FactSheet).show("", [("", "counting …")])
            in_background(self, partial(self._count, str(event.select.value)), group="tokens", exclusive=True)

    async def _count(self, model_id: str) -> None:
        try:
            statistics = await self._training.tokens(self._dataset.id, model_id, None)
        except ConsoleError as problem:
            self.post_message(self.Counted(problem))
        else:
            self.post_message(self.Counted(statistics))

    def on_dataset_details_counted(self, event: Counted) -> None:
        """Show the numbers."""
        found = event.statistics
        facts = (
            [(found.title, Text(found.detail, style="red"))] if isinstance(found, ConsoleError) else token_facts(found)
        )
        self.query_one("#token-facts", FactSheet).show("", facts)
