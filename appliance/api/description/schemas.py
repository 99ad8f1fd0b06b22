"""JSON Schema of the wire types, as msgspec reads and writes them: what it refuses does not fit the schema either."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from appliance.wire.limits import PRINTABLE

Json = dict[str, Any]

REFERENCE = "#/components/schemas/"
_END = "$(?!\\n)"
_PLAIN_PRINTABLE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
"""``limits.PRINTABLE`` without looking ahead, which not every reader of schemas can."""


class Schemas:
    """The schemas of a set of types, each named once in the document's components."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        self._kinds = list(dict.fromkeys(kinds))
        found, components = msgspec.json.schema_components(self._kinds, ref_template=REFERENCE + "{name}")
        self._schemas, self.components = _readable((list(found), components))

    def of(self, kinds: tuple[Any, ...]) -> Json:
        """The schema of whatever is one of these types."""
        found = [self._schemas[self._kinds.index(kind)] for kind in kinds]
        return found[0] if len(found) == 1 else {"anyOf": found}


def _readable(value: Any) -> Any:
    """Short names in place of those that carry their module, and patterns that every reader knows."""
    text = json.dumps(value)
    for module in ("appliance.wire.", "appliance_wire_", "appliance.domain.", "appliance_domain_"):
        text = text.replace(module, "")
    return _with_plain_patterns(json.loads(text))


def _with_plain_patterns(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_plain_patterns(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _with_plain_patterns(each) for key, each in value.items()}
    pattern = found.get("pattern")
    if isinstance(pattern, str):
        # a Python `$` also stands before a last line break; that of JSON Schema does not
        found["pattern"] = _PLAIN_PRINTABLE if pattern == PRINTABLE else pattern.replace(_END, "$")
    return found
