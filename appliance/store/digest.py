"""The only place where text that came from outside becomes a path below the store.

Decides what a digest is and what a plain file name is. Called by everything in this package that builds a path.
CVE-2024-37032 and its successors turned an unchecked digest into a path of the attacker's choice, so a digest is
64 lower-case hex digits or it is refused, and a member's name never holds a separator.
"""

from __future__ import annotations

import re
from pathlib import Path

from appliance.domain.errors import BadWeights, InvalidParameter

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME_LIMIT_BYTES = 255
_SEPARATORS = frozenset('/\\:*?"<>|')


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 in lower-case hex."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """``text`` itself if it is a SHA-256 in lower-case hex. Raises InvalidParameter."""
    if not is_digest(text):
        shown = text[:80].encode("unicode_escape").decode("ascii")
        raise InvalidParameter(f"'{shown}' is not a digest: 64 lower-case hexadecimal digits are needed")
    return text


def digest_path(root: Path, digest: str) -> Path:
    """``<root>/<first two digits>/<digest>``. Raises InvalidParameter for anything that is no digest."""
    check_digest(digest)
    return root / digest[:2] / digest


def check_plain_name(name: str) -> str:
    """``name`` itself if it can only ever mean a file directly inside a folder. Raises BadWeights."""
    fault = _name_fault(name)
    if fault:
        shown = name[:80].encode("unicode_escape").decode("ascii")
        raise BadWeights(f"'{shown}' is not a plain file name: {fault}; rename the file and import it again")
    return name


def _name_fault(name: str) -> str | None:
    if not name:
        return "it is empty"
    if name.startswith("."):
        return "it starts with a dot"
    if not name.isprintable() or name != name.strip():
        return "it has control characters or outer spaces"
    if not _SEPARATORS.isdisjoint(name):
        return 'it has one of / \\ : * ? " < > |'
    if len(name.encode()) > _NAME_LIMIT_BYTES:
        return f"it is longer than {_NAME_LIMIT_BYTES} bytes"
    return None
