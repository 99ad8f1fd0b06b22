"""Identifiers: random UUIDs as text."""

from __future__ import annotations

from uuid import uuid4


def new_id() -> str:
    """A fresh identifier."""
    return str(uuid4())
