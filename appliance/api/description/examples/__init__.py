"""Examples by operation id: requests, and what they are answered with.

A test holds them against the schemas beside which they stand, and sends those that can be sent to a real server, in the
order in which they stand here.
"""

from __future__ import annotations

from appliance.api.description.examples import admin, ollama, openai, registry, sgp, sgp_v5, training
from appliance.api.description.examples.base import Example

__all__ = ["EXAMPLES", "Example"]

EXAMPLES: dict[str, tuple[Example, ...]] = {
    **openai.EXAMPLES,
    **ollama.EXAMPLES,
    **sgp.EXAMPLES,
    **registry.EXAMPLES,
    **sgp_v5.EXAMPLES,
    **training.EXAMPLES,
    **admin.EXAMPLES,
}
