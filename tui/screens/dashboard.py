"""The dashboard: devices, residents and deployments as the node reports them every second."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import DataTable

from appliance.wire import admin
from tui.format import format_bytes, format_count, format_seconds, format_status
from tui.keymap import AREAS, bindings
from tui.messages import TryDeployment
from tui.screens.base import ConsoleScreen
from tui.screens.details import Details
from tui.widgets.machine_panel import MachinePanel
from tui.widgets.record_table import Cell, Column, RecordTable

RESIDENT_COLUMNS = (
    Column("Resident"),
    Column("State", 8),
    Column("On", 5),
    Column("Busy", 7, right=True),
    Column("Queue", 5, right=True),
    Column("Cache tokens", 13, right=True),
    Column("Memory", 9, right=True),
    Column("Predicted", 9, right=True, wide=True),
    Column("Idle", 11, right=True, wide=True),
    Column("Stays", 9, wide=True),
)
DEPLOYMENT_COLUMNS = (
    Column("Deployment"),
    Column("Type", 15),
    Column("Status", 7),
    Column("Calls", 6, right=True),
    Column("Tokens in/out", 13, right=True),
    Column("Errors", 6, right=True),
    Column("Model", 24, wide=True),
)


class DashboardScreen(ConsoleScreen):
    """See the module."""

    area = "dashboard"
    BINDINGS = bindings(AREAS["dashboard"].actions)

    def compose_body(self) -> ComposeResult:
        """Machine, residents, deployments."""
        yield MachinePanel()
        residents = RecordTable(
            *RESIDENT_COLUMNS, id="residents", empty="none in memory: they load on their first call"
        )
        residents.border_title = "Residents"
        yield residents
        deployments = RecordTable(*DEPLOYMENT_COLUMNS, id="deployments", empty="none")
        deployments.border_title = "Deployments"
        yield deployments

    def on_mount(self) -> None:
        """Begin in the list of deployments."""
        self._deployments.focus()

    def show_node(self, node: admin.State) -> None:
        """Refresh all three parts."""
        self.query_one(MachinePanel).show_node(node)
        self._residents.show(resident_rows(node.residents) | booking_rows(node.bookings))
        if node.residents:
            self._residents.border_subtitle = self._note(node)
        self._deployments.show({deployment.id: deployment_cells(deployment) for deployment in node.deployments})
        self._deployments.border_subtitle = self._reason(node)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Say why the selected deployment is not ready, or what its engine waits for."""
        node: admin.State | None = getattr(self.app, "node", None)
        if node is not None:
            if node.residents:
                self._residents.border_subtitle = self._note(node)
            self._deployments.border_subtitle = self._reason(node)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """A second click is Enter."""
        self.action_details()

    def action_details(self) -> None:
        """Open the details of the selected deployment."""
        if deployment := self._selected():
            self.app.push_screen(Details(self.client, deployment.name, deployment.model_id, deployment.id))

    def action_playground(self) -> None:
        """Try the selected deployment."""
        if deployment := self._selected():
            self.post_message(TryDeployment(deployment.id))

    def _selected(self) -> admin.DeploymentState | None:
        table = self._residents if self._residents.has_focus else self._deployments
        node: admin.State | None = getattr(self.app, "node", None)
        known = node.deployments if node else []
        selected = (table.selected_key or "").partition(" ")[0]
        return next((deployment for deployment in known if deployment.id == selected), None)

    def _note(self, node: admin.State) -> Text:
        """Why the selected resident waits or hangs, else why another one hangs, else the rules for all."""
        selected = self._residents.selected_key
        keyed = list(zip(resident_rows(node.residents), node.residents, strict=True))
        noted = [resident for key, resident in keyed if key == selected and self._residents.has_focus]
        noted += [resident for resident in node.residents if resident.state == "HUNG"]
        for resident in noted:
            if resident.note:
                text = Text.assemble((f"{resident.deployment_name} ", "bold"), resident.note, style="red")
                break
        else:
            text = Text(rules(node))
        text.no_wrap, text.overflow = True, "ellipsis"
        return text

    def _reason(self, node: admin.State) -> Text:
        key = self._deployments.selected_key
        reason = next((d.status_reason for d in node.deployments if d.id == key and d.status_reason), "")
        return Text(reason or "", no_wrap=True, overflow="ellipsis")

    @property
    def _residents(self) -> RecordTable:
        return self.query_one("#residents", RecordTable)

    @property
    def _deployments(self) -> RecordTable:
        return self.query_one("#deployments", RecordTable)


def rules(node: admin.State) -> str:
    """How long engines stay, and how long somebody waits for a busy one."""
    stay, wait = format_seconds(node.min_stay_seconds), format_seconds(node.max_wait_seconds)
    return f"each stays {stay} at least, a busy one makes room after {wait}"


def resident_rows(residents: Iterable[admin.Resident]) -> dict[str, tuple[Cell, ...]]:
    """A row per engine. A deployment may have several: one that serves, and others that leave or hang."""
    rows: dict[str, tuple[Cell, ...]] = {}
    for resident in residents:
        key = resident.deployment_id
        rows[key if key not in rows else f"{key} {len(rows)}"] = resident_cells(resident)
    return rows


def booking_rows(bookings: Iterable[admin.Booking]) -> dict[str, tuple[Cell, ...]]:
    """A row for each work that has memory or waits for it and is no engine."""
    return {f"booking {number}": booking_cells(booking) for number, booking in enumerate(bookings)}


def booking_cells(booking: admin.Booking) -> tuple[Cell, ...]:
    """A row of the residents' table; what only engines have stays empty."""
    nothing = Text("–", style="dim")
    booked = format_bytes(booking.predicted_bytes)
    devices = "+".join(share.device for share in booking.placement) or "–"
    return (
        Text(booking.name, style="italic"),
        format_status(booking.state),
        devices,
        *(nothing,) * 3,
        Text(booked, style="dim"),
        booked,
        nothing,
        "work",
    )


def resident_cells(resident: admin.Resident) -> tuple[Cell, ...]:
    """A row of the residents' table."""
    return (
        resident.deployment_name,
        format_status(resident.state),
        resident.device or "–",
        f"{resident.leases}/{resident.slots}",
        str(resident.waiting),
        _cache(resident),
        _measured(resident),
        _predicted(resident),
        "busy" if resident.leases else format_seconds(resident.idle_seconds),
        "pinned" if resident.pinned else "on demand",
    )


def _measured(resident: admin.Resident) -> str | Text:
    """What its load took; nothing where others came or went beside it."""
    if resident.measured_bytes is not None:
        return format_bytes(resident.measured_bytes)
    return Text("loading" if resident.state == "LOADING" else "–", style="dim")


def _predicted(resident: admin.Resident) -> Text:
    """What it takes; weights that others in memory stand on too are set apart."""
    if resident.weights_holders < 2:
        return Text(format_bytes(resident.predicted_bytes))
    shared = Text(f" + {format_bytes(resident.shared_weights_bytes)}", style="dim")
    return Text(format_bytes(resident.own_bytes)).append(shared)


def _cache(resident: admin.Resident) -> str:
    if not resident.cache_total_tokens:
        return "–"
    return f"{format_count(resident.cache_used_tokens)}/{format_count(resident.cache_total_tokens)}"


def deployment_cells(deployment: admin.DeploymentState) -> tuple[Cell, ...]:
    """A row of the deployments' table."""
    return (
        deployment.name,
        deployment.model_type,
        format_status(deployment.status),
        format_count(deployment.calls),
        f"{format_count(deployment.prompt_tokens)}/{format_count(deployment.response_tokens)}",
        Text(format_count(deployment.errors), style="red" if deployment.errors else "dim"),
        "built-in" if deployment.built_in else deployment.model_name,
    )
