"""Bounds on every number and list that a request may carry.

One place, so that the documentation can print them and no dialect forgets one (compare CVE-2025-48944 and
CVE-2026-21869: unbounded fields handed to an engine).
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from appliance.domain.inference import MAX_IMAGE_BYTES

MAX_NAME_LENGTH = 128
MAX_TEXT_LENGTH = 4_000_000
MAX_IMAGE_LENGTH = MAX_IMAGE_BYTES * 4 // 3 + 256
"""Characters of a data URL."""
MAX_TOKENS = 1_048_576
MAX_STOP_SEQUENCES = 4
MAX_STOP_TEXTS = 64
"""In dialects whose clients send long lists; each is looked for after each token."""
MAX_STOP_LENGTH = 256
MAX_PROMPTS = 256
MAX_TEXTS = 4096
MAX_CHUNKS = 4096
MAX_MESSAGES = 4096
MAX_TOOLS = 128
MAX_CHOICES = 16
MAX_LOGIT_BIAS = 1024
MAX_TOP_LOGPROBS = 20
MAX_WORKERS = 256
MAX_POINTS = 256
MAX_REQUESTS_PER_MINUTE = 100_000
MAX_TOKENS_PER_DAY = 10**15
MAX_ALLOWED_MODELS = 256

PRINTABLE = r"^(?=[\s\S]*\S)(?![\s\S]*[\x00-\x1f\x7f])"
"""A name is shown in logs, tables and terminals: no control characters, and not blanks alone."""

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=PRINTABLE)]
Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]
ImageUrl: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_IMAGE_LENGTH)]
TextOrImage: TypeAlias = Annotated[str, Meta(max_length=MAX_IMAGE_LENGTH)]
"""What begins like the data URL of an image is one; a text has at most ``MAX_TEXT_LENGTH`` characters."""
Description: TypeAlias = Annotated[str, Meta(max_length=65_536)]
StopText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_LENGTH)]
StopSequences: TypeAlias = Annotated[list[StopText], Meta(max_length=MAX_STOP_SEQUENCES)]
StopTexts: TypeAlias = Annotated[list[StopText], Meta(max_length=MAX_STOP_TEXTS)]
UnitTemperature: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=2)]
MaxTokens: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
TopK: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
Seed: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_WORKERS)]
PositiveCount: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_WORKERS)]
