"""What a short process that reads files of others may take of the machine. It says so itself, before it reads any."""

from __future__ import annotations

import resource


def bound_process(memory_bytes: int) -> None:
    """No core dumps, and no more memory of its own than that, in bytes; what it maps of files is not counted."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_DATA, memory_bytes)


def _lower(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (lower, lower))
