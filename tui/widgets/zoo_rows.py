"""Rows and facts of catalogue entries, artifacts and jobs: pure functions from values to cells."""

from __future__ import annotations

from rich.text import Text

from appliance.wire import admin
from tui.format import bar, format_bytes, format_count, format_share, format_status, format_time
from tui.widgets.fact_sheet import Facts
from tui.widgets.record_table import Cell

BAR_WIDTH = 12


def matches(entry: admin.ZooEntry, words: list[str]) -> bool:
    """Whether every word occurs in the entry's name, title, publisher, types, licence or size."""
    text = " ".join((entry.name, entry.title, entry.publisher, *entry.model_types, entry.licence, entry.size)).lower()
    return all(word in text for word in words)


def catalogue_cells(entry: admin.ZooEntry) -> tuple[Cell, ...]:
    """A row of the catalogue."""
    installed = Text("yes", style="green") if entry.installed else Text("–", style="dim")
    return entry.name, entry.size, entry.licence, installed


def entry_facts(entry: admin.ZooEntry | None) -> Facts:
    """All about a catalogue entry, and the way to its file."""
    if entry is None:
        return
    yield "Publisher", entry.publisher
    yield "Serves", ", ".join(entry.model_types)
    yield "Size", entry.size
    yield "Licence", entry.licence
    yield "Get it from", entry.source
    yield "File", "\n".join(entry.file_names)
    yield "Installed", "yes: the name can be called" if entry.installed else "no: copy the file over, then press i"


def artifact_cells(artifact: admin.Artifact) -> tuple[Cell, ...]:
    """A row of the artifacts' table."""
    return (
        artifact.name,
        artifact.format,
        artifact.architecture,
        artifact.quantization or "–",
        format_count(artifact.parameter_count) if artifact.parameter_count is not None else "–",
        format_bytes(artifact.size_bytes),
    )


def artifact_facts(artifact: admin.Artifact | None) -> Facts:
    """The card: what the file's own header says."""
    if artifact is None:
        return
    context = artifact.context_length_tokens
    yield "Serves", ", ".join(artifact.model_types) or "nothing by itself"
    if artifact.modalities != ["text"]:
        yield "Takes", ", ".join(artifact.modalities)
    yield "Used by", ", ".join(artifact.used_by) or "no model"
    yield "Zoo", artifact.zoo_name or "not in the catalogue"
    yield "Context", f"{context} tokens" if context is not None else "not stated"
    yield "Licence", artifact.licence or "not stated"
    yield "Chat template", f"{len(artifact.chat_template)} characters: press t" if artifact.chat_template else "none"
    yield "Imported (UTC)", format_time(artifact.created_at)
    yield "SHA-256", artifact.digest


def job_cells(job: admin.Job) -> tuple[Cell, ...]:
    """A row of the jobs' table."""
    share = job.done_bytes / job.total_bytes if job.total_bytes else float(job.state == "COMPLETED")
    style = {"FAILED": "red", "CANCELED": "dim"}.get(job.state, "green")
    progress = Text.assemble(bar(share, BAR_WIDTH, style), f" {share:4.0%}")
    total = format_share(job.done_bytes, job.total_bytes) if job.total_bytes else "–"
    return f"{job.kind} {job.title}", format_status(job.state), progress, total, format_time(job.created_at)
