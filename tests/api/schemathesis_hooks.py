"""What schemathesis must not do to the server that it talks to: take away its own key."""

from __future__ import annotations

import os
from typing import Any

import schemathesis

NOBODY = "00000000-0000-0000-0000-000000000000"


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ids come from answers too, and lists of keys and accounts name those of the run: revoked, or with a limit on
    them, they would end every request after that with the same 401 or 429."""
    own = {os.environ.get("OWN_KEY"), os.environ.get("OWN_ACCOUNT")}
    if not path_parameters:
        return path_parameters
    return {name: NOBODY if value in own else value for name, value in path_parameters.items()}
