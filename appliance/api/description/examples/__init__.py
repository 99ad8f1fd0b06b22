"""Examples by operation id: a request, and what it is answered with."""

from __future__ import annotations

from appliance.api.description.examples.base import Example

__all__ = ["EXAMPLES", "Example"]

EXAMPLES: dict[str, tuple[Example, ...]] = {}
