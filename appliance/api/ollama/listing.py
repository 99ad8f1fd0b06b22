"""Deployments as Ollama lists models: what can be called, what is in memory, what one of them is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from appliance.api.ollama.render import Json, moment
from appliance.domain.errors import NotFound
from appliance.domain.models import IMAGE, Artifact, Caller, Card, Deployment, ModelType
from appliance.engines.llama.backend import DEFAULT_CONTEXT_TOKENS
from appliance.engines.parts import THOUGHT_CLOSING, THOUGHT_OPENING
from appliance.lifecycle.benchmarks import context_length_tokens
from appliance.lifecycle.inference import TEXT_TYPES, Target
from appliance.lifecycle.node import Node
from appliance.scheduler.resident import Resident

TAG = ":latest"
"""A name without a tag has this one."""
LISTED = TEXT_TYPES | {ModelType.EMBEDDING}
"""What the dialect's routes can call."""
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
_THINKING = (THOUGHT_OPENING, THOUGHT_CLOSING, "enable_thinking", "reasoning_effort")


def target_of(node: Node, caller: Caller, name: str) -> Target:
    """By name, with the tag ``latest`` or without. Raises NotFound."""
    for spelling in dict.fromkeys((name, name.removesuffix(TAG))):
        try:
            return node.inference.by_name(caller, spelling)
        except NotFound:
            continue
    raise NotFound(
        f"model '{name[:128]}' not found; GET /api/tags lists those that this key can call, an administrator imports "
        "more (appliance zoo list)"
    )


def tags(node: Node, caller: Caller) -> list[Json]:
    """Everything that this key can call through this dialect."""
    targets = (node.inference.by_name(caller, deployment.id) for deployment in node.callable_deployments(caller))
    return [_entry(node, target) for target in targets if target.model.model_type in LISTED]


def running(node: Node, caller: Caller) -> list[Json]:
    """Those of them that are in memory."""
    found = []
    for deployment in node.callable_deployments(caller):
        resident = node.scheduler.serving(deployment.id)
        target = node.inference.by_name(caller, deployment.id)
        if resident is None or target.model.model_type not in LISTED:
            continue
        entry = _entry(node, target)
        found.append(
            {
                **{name: entry[name] for name in ("name", "model", "digest", "details")},
                "size": resident.placement.total_bytes,
                "size_vram": sum(share.need.total_bytes for share in resident.placement.gpus),
                "expires_at": moment(_leaves_at(node, resident)),
                "context_length": _context_length(node, target, _artifact(node, target)) or 0,
            }
        )
    return found


def _leaves_at(node: Node, resident: Resident) -> datetime:
    """When it leaves if nobody calls it, and nobody needs its room before."""
    if resident.wanted.pinned:
        return NEVER
    idle = 0.0 if resident.leases else node.clock.monotonic_seconds() - resident.last_used_seconds
    return node.clock.now() + timedelta(seconds=max(0.0, node.config.idle_seconds - idle))


def shown(node: Node, target: Target) -> Json:
    """What there is to know about one: its header, its chat template, what it can do."""
    artifact = _artifact(node, target)
    context = _context_length(node, target, artifact)
    parameters = f"num_ctx                        {context}" if context else ""
    entry = _entry(node, target)
    card = artifact.card if artifact is not None else None
    return {
        "modelfile": f"FROM {target.deployment.name}\n" + (f"PARAMETER num_ctx {context}\n" if context else ""),
        "parameters": parameters,
        "template": (card.chat_template if card is not None else None) or "",
        "license": (card.licence if card is not None else None) or "",
        "details": entry["details"],
        "model_info": _model_info(card, context) if card is not None else {},
        "capabilities": _capabilities(target, card),
        "modified_at": entry["modified_at"],
    }


def may_think(node: Node, target: Target) -> bool:
    """Whether the model thinks when it is told to, as far as its chat template says; True where that is not known."""
    artifact = _artifact(node, target)
    return artifact is None or _thinks(artifact.card)


def has_template(node: Node, target: Target) -> bool:
    """Whether a prompt has to be written as a conversation. Elsewhere that is the upstream's to know."""
    artifact = _artifact(node, target)
    if artifact is None:
        return target.model.model_type is not ModelType.COMPLETION
    return artifact.card.chat_template is not None


def _thinks(card: Card) -> bool:
    return any(mark in (card.chat_template or "") for mark in _THINKING)


def _entry(node: Node, target: Target) -> Json:
    artifact = _artifact(node, target)
    name = _tagged(target.deployment)
    return {
        "name": name,
        "model": name,
        "modified_at": moment(target.deployment.created_at),
        "size": artifact.size_bytes if artifact is not None else 0,
        "digest": artifact.digest if artifact is not None else "",
        "details": _details(target, artifact),
    }


def _tagged(deployment: Deployment) -> str:
    """Clients take names apart at the tag, so each has one."""
    return deployment.name if ":" in deployment.name else deployment.name + TAG


def _details(target: Target, artifact: Artifact | None) -> Json:
    if artifact is None:
        family = (target.model.model_vendor or "").lower()
        return _details_object("remote", family, "", "")
    card = artifact.card
    return _details_object(card.format.value, card.architecture, _short(card.parameter_count), card.quantization or "")


def _details_object(kind: str, family: str, parameters: str, quantization: str) -> Json:
    return {
        "parent_model": "",
        "format": kind,
        "family": family,
        "families": [family] if family else [],
        "parameter_size": parameters,
        "quantization_level": quantization,
    }


def _short(count: int | None) -> str:
    """1234567 as 1.2M."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count is not None and count >= size:
            return f"{count / size:.1f}{unit}"
    return "" if count is None else str(count)


def _model_info(card: Card, context: int | None) -> Json:
    """The header's fields under their names in GGUF, but for the context: there it is what a request may use."""
    of_architecture: dict[str, Any] = {
        "context_length": context or card.context_length_tokens,
        "embedding_length": card.embedding_length,
        "block_count": card.layer_count,
        "attention.head_count": card.head_count,
        "attention.head_count_kv": card.kv_head_count,
        "vocab_size": card.vocabulary_size,
    }
    found = {
        "general.architecture": card.architecture,
        "general.parameter_count": card.parameter_count,
        "general.basename": card.name,
        "tokenizer.ggml.model": card.tokenizer,
        **{f"{card.architecture}.{name}": value for name, value in of_architecture.items()},
    }
    return {name: value for name, value in found.items() if value is not None}


def _capabilities(target: Target, card: Card | None) -> list[str]:
    if target.model.model_type is ModelType.EMBEDDING:
        return ["embedding"]
    if target.model.model_type not in TEXT_TYPES:
        return []
    sees = card is not None and IMAGE in card.modalities
    thinks = card is not None and _thinks(card)
    return ["completion", "tools", *(["vision"] if sees else []), *(["thinking"] if thinks else [])]


def _artifact(node: Node, target: Target) -> Artifact | None:
    given = (target.model.creation_parameters or {}) | (target.deployment.creation_parameters or {})
    return node.directory.artifacts.get(str(given.get("weights", "")))


def _context_length(node: Node, target: Target, artifact: Artifact | None) -> int | None:
    """Tokens that one request may use: the engine's word, or before it is loaded the deployment's."""
    resident = node.scheduler.serving(target.deployment.id)
    loaded = context_length_tokens(resident.engine) if resident is not None else None
    if loaded:
        return loaded
    given = (target.model.creation_parameters or {}) | (target.deployment.creation_parameters or {})
    if isinstance(asked := given.get("context_length"), int):
        return asked
    trained = artifact.card.context_length_tokens if artifact is not None else None
    if trained is not None and target.model.model_type in TEXT_TYPES:
        return min(trained, DEFAULT_CONTEXT_TOKENS)
    return trained
