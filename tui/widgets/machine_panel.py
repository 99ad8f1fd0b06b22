"""Devices, memory budget and disk of the node, as bars with their numbers."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from appliance.wire import admin
from tui.format import bar, format_bytes, format_share

NARROW_BAR = 16
WIDE_BAR = 40
LABEL_WIDTH = 7
SHARE_WIDTH = 19
ALMOST_FULL = 0.75
FULL = 0.9


class MachinePanel(Static):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("waiting for the server …", id="machine")
        self.border_title = "Machine"
        self._node: admin.State | None = None

    def show_node(self, node: admin.State) -> None:
        """Show the node's devices, budget and disk."""
        self._node = node
        self.border_subtitle = f"appliance {node.version}"
        self.update(machine_text(node, WIDE_BAR if self.size.width >= 100 else NARROW_BAR))

    def on_resize(self) -> None:
        """Draw longer bars where there is room."""
        if self._node is not None:
            self.show_node(self._node)


def machine_text(node: admin.State, bar_width: int) -> Text:
    """One line per device, then the budget, then the disk."""
    lines = [_device_line(device, bar_width) for device in node.devices]
    lines.append(_budget_line(node, bar_width))
    disk_total = node.store_used_bytes + node.store_free_bytes
    disk = _gauge("disk", node.store_used_bytes, disk_total, bar_width)
    lines.append(Text.assemble(disk, f"  models, {format_bytes(node.store_free_bytes)} free"))
    if node.gpu_note:
        lines.append(Text(node.gpu_note, style="dim", no_wrap=True, overflow="ellipsis"))
    return Text("\n").join(lines)


def _device_line(device: admin.Device, bar_width: int) -> Text:
    used = device.total_bytes - device.free_bytes
    facts = [f"ours {format_bytes(device.used_by_appliance_bytes)}"]
    if device.utilisation_percent is not None:
        facts.append(f"{device.utilisation_percent:.0f} % busy")
    if device.temperature_celsius is not None:
        facts.append(f"{device.temperature_celsius:.0f} °C")
    if device.power_watts is not None:
        facts.append(f"{device.power_watts:.0f} W")
    name = Text(f"  {device.name}", style="dim") if bar_width > NARROW_BAR else ""
    line = Text.assemble(_gauge(device.id, used, device.total_bytes, bar_width), "  " + ", ".join(facts), name)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _budget_line(node: admin.State, bar_width: int) -> Text:
    gauge = _gauge("budget", node.memory_reserved_bytes, node.memory_budget_bytes, bar_width)
    return Text.assemble(gauge, "  reserved for engines")


def _gauge(label: str, used_bytes: int, total_bytes: int, bar_width: int) -> Text:
    share = used_bytes / total_bytes if total_bytes else 0.0
    style = "red" if share >= FULL else "yellow" if share >= ALMOST_FULL else "green"
    numbers = format_share(used_bytes, total_bytes).rjust(SHARE_WIDTH)
    return Text.assemble(label.ljust(LABEL_WIDTH), bar(share, bar_width, style), numbers)
