"""Arguments of tool calls for dialects that send them as objects, not as text."""

from __future__ import annotations

import json
from typing import Any


def arguments_of(text: str) -> dict[str, Any] | None:
    """The object that a call's arguments are; None when a model that nothing constrained wrote something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def as_words(name: str, arguments: str) -> str:
    """Such a call as text, so that nothing that was said is lost."""
    return f"{name}({arguments})"
