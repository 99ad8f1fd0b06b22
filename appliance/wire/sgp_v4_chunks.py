"""Ranking chunks of text, in the bodies of dialect v4, which v2's client can send too."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from appliance.wire.limits import MAX_CHUNKS, Name, Text
from appliance.wire.sgp import FreeObject


class Chunk(Struct, kw_only=True, forbid_unknown_fields=True):
    """A piece of text with what its owner keeps beside it; all but ``score`` comes back as it was sent."""

    chunk_id: str
    text: Text
    score: float | None = None
    embedding: Annotated[list[float], Meta(max_length=65_536)] | None = None
    metadata: FreeObject | None = None
    title: str | None = None
    attachment_url: str | None = None
    user_supplied_metadata: FreeObject | None = None


class RankParameters(Struct, kw_only=True, forbid_unknown_fields=True):
    """Parameters of all methods; each method takes its own."""

    cross_encoder_model: Name | None = None
    metric: Annotated[str, Meta(pattern=r"^rouge([1-9]|L|Lsum)$(?!\n)")] | None = None
    score: Literal["precision", "recall", "fmeasure"] | None = None
    model_deployment_id: Name | None = None
    model_id: Name | None = None
    """What v2's client calls ``model_deployment_id``."""
    base_model_name: Name | None = None
    model_params: FreeObject | None = None
    endpoint_url: str | None = None
    endpoint_api_key: str | None = None


Method: TypeAlias = Literal["cross_encoder", "rouge", "model", "azure_ai_foundry"]


class RankStrategy(Struct, kw_only=True, forbid_unknown_fields=True):
    """How chunks are ranked. The client may leave the method out: the parameters tell which it is."""

    method: Method | None = None
    params: RankParameters | None = None


class ChunksRank(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/chunks/rank``."""

    query: Text
    relevant_chunks: Annotated[list[Chunk], Meta(max_length=MAX_CHUNKS)]
    rank_strategy: RankStrategy
    top_k: Annotated[int, Meta(ge=1)] | None = None
    account_id: str | None = None


class RankedChunks(Struct, kw_only=True):
    """The chunks in descending order of their scores."""

    relevant_chunks: list[Chunk]
