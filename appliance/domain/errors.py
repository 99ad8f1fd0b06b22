"""Every error the appliance raises on purpose.

The tree; a leaf knows its ``code``, never an HTTP status (``appliance.api.errors`` holds the one table)::

    ApplianceError
    ├── InvalidRequest            the caller sent something wrong
    │   ├── InvalidParameter        a value of the wrong type, out of range, unknown or missing
    │   │   └── Unsupported             a documented field or keyword that is not served here
    │   ├── PromptTooLong           more tokens than one request may use
    │   ├── CannotFit               no placement exists on this machine, whatever is evicted
    │   ├── WrongWeights            weights that this template or task cannot serve
    │   └── BadWeights              a truncated, corrupt, renamed or hostile weights file
    ├── Unauthenticated           no key, an unknown or a revoked key
    ├── Forbidden                 a known key without the right
    ├── NotFound                  no such model, deployment, key, ... for this account
    ├── Conflict                  the state of things forbids it
    │   ├── NameTaken
    │   ├── InUse                   others stand on what should be removed
    │   └── Immutable               built-in things cannot be changed
    ├── TooLarge                  a body or file over a limit
    │   └── DiskFull                not enough free space for an import
    ├── Busy                      try again later; carries ``retry_after_seconds``
    │   ├── QueueFull
    │   ├── RateLimited             more requests a minute than the key or the account may send
    │   ├── TokensSpent             as many tokens as the key or the account may use in a day
    │   └── NotReady                a deployment that is loading or failed, or an upstream that does not answer
    ├── NotInstalled              an optional part of the appliance that this installation lacks
    └── Internal                  our fault: an engine died, a file we own is damaged

A message says what happened, the numbers, and the next step.
"""

from __future__ import annotations

from typing import ClassVar


class ApplianceError(Exception):
    """Base of the tree. ``message`` is for people; ``errors`` lists the single faults, each with its location."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, errors: list[tuple[tuple[str | int, ...], str]] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.errors = errors or []


class InvalidRequest(ApplianceError):
    """The request cannot be carried out as it was written."""

    code = "invalid_request"


class InvalidParameter(InvalidRequest):
    """A value is missing, unknown, of the wrong type or out of range; the message names it."""

    code = "invalid_parameter"


class Unsupported(InvalidParameter):
    """A field, value or schema keyword that is sound and not served here; the message names it and its place."""

    code = "unsupported"


class PromptTooLong(InvalidRequest):
    """The prompt needs more tokens than one request may use; nothing was cut."""

    code = "prompt_too_long"

    def __init__(
        self,
        prompt_tokens: int,
        context_length_tokens: int,
        hint: str = "shorten the prompt",
        *,
        subject: str | None = None,
        limit: str | None = None,
    ) -> None:
        """``subject`` names one text of several that are embedded or compared, where no answer needs room.

        ``limit`` says it in words where the deployment does not set it.
        """
        limit = limit or f"this deployment takes {context_length_tokens} per request"
        message = (
            f"{subject} has {prompt_tokens} tokens, this deployment takes {context_length_tokens} per text; {hint}"
            if subject
            else f"the prompt has {prompt_tokens} tokens, {limit} with at least one for the answer; {hint}"
        )
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.context_length_tokens = context_length_tokens


class CannotFit(InvalidRequest):
    """What was asked for is larger than the machine, whatever else is evicted."""

    code = "cannot_fit"


class WrongWeights(InvalidRequest):
    """Sound weights, but not of the kind that the template or task needs."""

    code = "wrong_weights"


class BadWeights(InvalidRequest):
    """A weights file that is truncated, corrupt, mislabelled or hostile; refused before native code saw it."""

    code = "bad_weights"


class Unauthenticated(ApplianceError):
    """No key was sent, or the key is unknown, expired or revoked."""

    code = "unauthenticated"


class Forbidden(ApplianceError):
    """The key is known and lacks the right."""

    code = "forbidden"


class NotFound(ApplianceError):
    """No such thing in the caller's account."""

    code = "not_found"


class Conflict(ApplianceError):
    """The present state forbids the change."""

    code = "conflict"


class NameTaken(Conflict):
    """A name that must be unique is in use."""

    code = "name_taken"


class InUse(Conflict):
    """Others stand on the thing that should be removed; the message names them."""

    code = "in_use"


class Immutable(Conflict):
    """Built-in models and their deployments are made by the system and cannot be changed."""

    code = "immutable"


class TooLarge(ApplianceError):
    """A body or file above a configured limit."""

    code = "too_large"


class DiskFull(TooLarge):
    """The import needs more bytes than the disk has free."""

    code = "disk_full"


class Busy(ApplianceError):
    """Not now. ``retry_after_seconds`` says when it is worth asking again; None when waiting does not help."""

    code = "busy"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QueueFull(Busy):
    """As many requests wait for this deployment as its queue holds."""

    code = "queue_full"


class RateLimited(Busy):
    """More requests a minute than the key or the account may send; the next may come after ``retry_after_seconds``."""

    code = "rate_limited"


class TokensSpent(Busy):
    """The tokens that the key or the account may use in a day are used; it goes on at midnight UTC."""

    code = "tokens_spent"


class NotReady(Busy):
    """The deployment is loading, or failed, or its upstream does not answer; the message has the reason."""

    code = "not_ready"


class NotInstalled(ApplianceError):
    """An optional part that this installation lacks; the message says what installs it."""

    code = "not_installed"


class Internal(ApplianceError):
    """A fault of the appliance itself; the log explains it under the incident id that the answer carries."""

    code = "internal"
