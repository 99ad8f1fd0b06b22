"""What an example is."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Example(Struct, kw_only=True, frozen=True):
    """A request with its answer, as people read them."""

    body: Any
    answer: Any = None
    """None: it is not shown, because it is long, a stream, or the same as another one's."""
    name: str = "simple"
    summary: str = "The least that is needed."
    runs: bool = False
    """It can be sent to a fresh appliance as it stands."""
    path: dict[str, str] = field(default_factory=dict)
    """What its path parameters name, where a fresh appliance has it: ``chat`` is the id of the starter's deployment."""
    query: dict[str, str] = field(default_factory=dict)
