"""What can go wrong between the console and a server, each with a human title.

``tui.client`` raises these and nothing else; screens show ``title`` and ``detail`` and need not know the cause::

    ConsoleError
    ├── Unreachable   no answer: refused, timed out, name not found, connection lost half way
    ├── Refused       an error body; ``detail`` is the server's own text
    └── Unexpected    an answer that no appliance gives: another service listens there
"""

from __future__ import annotations

TITLES = {
    400: "Invalid request",
    401: "Key refused",
    403: "Not allowed",
    404: "Not found",
    409: "Conflict",
    413: "Too large",
    422: "Invalid request",
    429: "Busy",
    501: "Not installed",
    503: "Not ready",
}
TITLES_OF_CODE = {"disk_full": "Disk full"}
"""Where the code says more than the status does."""


class ConsoleError(Exception):
    """Base of the tree. ``detail`` is for people."""

    title: str = "Error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Unreachable(ConsoleError):
    """The server did not answer. Asking again later may help."""

    title = "Server not reachable"


class Unexpected(ConsoleError):
    """Something answered that is no appliance, or one of another version."""

    title = "Unexpected answer"


class Refused(ConsoleError):
    """The server answered with an error; nothing was changed."""

    def __init__(self, detail: str, *, status: int, code: str, incident_id: str | None = None) -> None:
        super().__init__(f"{detail} (incident {incident_id})" if incident_id else detail)
        self.status = status
        self.code = code
        plain = f"Server error {status}" if status >= 500 else f"Refused ({status})"
        self.title = TITLES_OF_CODE.get(code) or TITLES.get(status, plain)
