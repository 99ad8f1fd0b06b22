"""Answers that the console reads and ``appliance.wire`` has no struct for: only the fields it shows.

The appliance writes the OpenAI dialect and user information from plain objects; unknown fields are ignored here.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field

FINAL_STATUSES = frozenset({"completed", "failed", "cancelled", "expired"})
"""Of batches."""


class LoggedCall(Struct, kw_only=True):
    """One execution: an element of ``GET /admin/deployments/{id}/calls``."""

    id: str
    started_at: datetime
    model_type: str
    dialect: str
    prompt_tokens: int
    cached_tokens: int
    response_tokens: int
    queue_milliseconds: float
    prefill_milliseconds: float
    decode_milliseconds: float
    finish_reason: str | None
    error_code: str | None


class _Account(Struct, kw_only=True):
    id: str
    name: str


class _AccessProfile(Struct, kw_only=True):
    role: str
    account: _Account


class UserInfo(Struct, kw_only=True):
    """Who the key belongs to: ``GET /user-info``."""

    id: str
    email: str
    access_profiles: list[_AccessProfile]

    @property
    def role(self) -> str:
        """The role in the key's own account."""
        return self.access_profiles[0].role if self.access_profiles else "unknown"


class _CachedDetails(Struct, kw_only=True):
    cached_tokens: int = 0


class TokenCount(Struct, kw_only=True):
    """``usage`` of the OpenAI dialect."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: _CachedDetails | None = None

    @property
    def cached_tokens(self) -> int:
        """Of the prompt's tokens, those not computed again."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0


class _ChunkDelta(Struct, kw_only=True):
    content: str | None = None


class _ChunkChoice(Struct, kw_only=True):
    delta: _ChunkDelta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Chunk(Struct, kw_only=True):
    """One server-sent event of a streamed completion, chat or plain."""

    choices: list[_ChunkChoice] = field(default_factory=list)
    usage: TokenCount | None = None

    @property
    def text(self) -> str:
        """What this chunk adds to the answer."""
        if not self.choices:
            return ""
        choice = self.choices[0]
        return (choice.delta.content if choice.delta else choice.text) or ""

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended; None while it runs."""
        return self.choices[0].finish_reason if self.choices else None


class _EmbeddingItem(Struct, kw_only=True):
    embedding: list[float]


class Embeddings(Struct, kw_only=True):
    """Answer to ``POST /v1/embeddings``."""

    data: list[_EmbeddingItem]
    usage: TokenCount | None = None


class _RankedItem(Struct, kw_only=True):
    index: int
    relevance_score: float


class Ranking(Struct, kw_only=True):
    """Answer to ``POST /v1/rerank``, best first."""

    results: list[_RankedItem]
    usage: TokenCount | None = None


class CallableModel(Struct, kw_only=True):
    """A deployment that a key can call: an element of ``GET /v1/models``."""

    deployment_id: str
    input_modalities: list[str] = field(default_factory=lambda: ["text"])


class CallableModels(Struct, kw_only=True):
    """Answer to ``GET /v1/models``."""

    data: list[CallableModel]


class StoredFile(Struct, kw_only=True):
    """Answer to ``POST /v1/files``."""

    id: str
    bytes: int


class RequestCounts(Struct, kw_only=True):
    """How far a batch is."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Fault(Struct, kw_only=True):
    """What is wrong with a batch's file."""

    message: str
    line: int | None = None


class _Faults(Struct, kw_only=True):
    data: list[Fault] = field(default_factory=list)


class Batch(Struct, kw_only=True):
    """A file of requests that run in the background: ``GET /v1/batches/{id}``."""

    id: str
    endpoint: str
    status: str
    input_file_id: str
    created_at: int
    """Seconds since 1970, as all moments of this dialect."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    expires_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = field(default_factory=RequestCounts)
    errors: _Faults | None = None
    metadata: dict[str, str] | None = None

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with its file."""
        return self.errors.data if self.errors is not None else []

    @property
    def is_final(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.status in FINAL_STATUSES

    @property
    def ended_at(self) -> int | None:
        """When it ended."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at


class BatchPage(Struct, kw_only=True):
    """Answer to ``GET /v1/batches``."""

    data: list[Batch]
