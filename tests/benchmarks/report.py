"""Writes what a benchmark found into ``docs/performance.md``, between the marks of its section, and nowhere else."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

REPORT = Path(__file__).parents[2] / "docs" / "performance.md"


def write_section(name: str, lines: Iterable[str], report: Path = REPORT) -> None:
    """Put the lines between ``<!-- begin: name -->`` and ``<!-- end: name -->``. Raises ValueError without them."""
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    text = report.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{report.name} has no single section '{name}': add the lines '{begin}' and '{end}'")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    report.write_text("\n".join([before + begin, *lines, end]) + after)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table; all columns but the first are numbers."""
    head = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    return head + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]


def where_and_when(*packages: str) -> str:
    """One line: the day, the machine, and the versions that a figure depends on."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    memory_gib = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{datetime.now(UTC).date()}: {_processor()}, {cores} cores, {memory_gib:.0f} GiB, no GPU used, "
        f"Python {platform.python_version()}, {versions}."
    )


def _processor() -> str:
    """The model's name and its widest vector instructions, which decide most of the speed."""
    info = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = named.get("flags", "").split()
    widest = next((name for name in ("avx512_bf16", "avx512f", "avx2") if name in flags), "no AVX2")
    return f"{named.get('model name', platform.machine())} ({widest.replace('_', ' ')})"
