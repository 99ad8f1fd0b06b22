"""Starts a worker from a function, never from a coroutine.

A worker that is replaced before it began would leave its coroutine unawaited, which Python reports as a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from textual.dom import DOMNode
from textual.worker import Worker

Work = Callable[[], Coroutine[Any, Any, None]]


def in_background(node: DOMNode, work: Work, *, group: str, exclusive: bool = False) -> Worker[None]:
    """Run ``work`` beside the user interface; it ends with its node. Exclusive: instead of others of its group."""
    narrow = cast("Callable[[], Coroutine[None, None, None]]", work)  # Textual's type forbids what its code takes
    return node.run_worker(narrow, group=group, exclusive=exclusive)
