"""How to make an ONNX engine: what can be served, what it will take, and the load itself.

Called by the scheduler and by the trial process. Importing this loads no native library; ``load`` does.
"""

from __future__ import annotations

import importlib.metadata
from functools import cached_property
from typing import Final

from msgspec import structs

from appliance.domain.errors import CannotFit, WrongWeights
from appliance.domain.inference import MAX_IMAGE_PIXELS
from appliance.domain.models import IMAGE, ModelType, WeightsFormat
from appliance.engines.base import RAM, Engine, EngineSpec, Need, Placement, Resources
from appliance.engines.onnx.settings import (
    IMAGE_MODEL,
    IMAGES_PER_HOP,
    MODEL,
    TEXT_MODEL,
    Settings,
    read_settings,
    session_key,
)

_DISTRIBUTIONS: Final = ("onnxruntime-gpu", "onnxruntime")
_SERVED: Final = (ModelType.EMBEDDING, ModelType.RERANKING)
_FLOAT_BYTES: Final = 4
_FIXED_BYTES: Final = 32 << 20
"""Tokenizer, threads and what the allocator keeps in reserve, as measured on the starter."""
_DEFAULT_WIDTH, _DEFAULT_HEADS = 1_024, 16
_DECODED_BYTES: Final = 7 * MAX_IMAGE_PIXELS
"""RAM that one image may take while it is decoded: as it comes, with four channels, and as RGB."""
_BUFFERS_PER_TOKEN: Final = 12
"""Activations of the model's width alive at once: queries, keys and values, the widened layer, inputs and outputs."""


class OnnxBackend:
    """ONNX Runtime, on the CPU or one GPU."""

    @cached_property
    def version(self) -> str:
        """Version of the installed ONNX Runtime."""
        for name in _DISTRIBUTIONS:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "unknown"

    def check(self, spec: EngineSpec) -> None:
        """Raise WrongWeights or InvalidParameter if these weights and parameters cannot be served. No native code."""
        _check_weights(spec)
        read_settings(spec)

    def asks(self, spec: EngineSpec) -> Resources:
        """The resources; the parameter ``device: cuda`` asks for one GPU like ``gpus: 1``. Raises InvalidParameter."""
        on_gpu = read_settings(spec).device == "cuda"
        return structs.replace(spec.resources, gpus=1 if on_gpu else 0)

    def estimate(self, spec: EngineSpec) -> Need:
        """Bytes the load will take in one place, from the card and the parameters alone."""
        settings = read_settings(spec)
        compute_bytes = _compute_bytes(spec, settings)
        if settings.device == "cuda":  # a session on a GPU is bounded by its buffers: only equal ones share it
            key = session_key(spec, settings, buffers=compute_bytes)
        else:
            key = session_key(spec, settings)
        return Need(
            weights_bytes=spec.card.weights_bytes,
            compute_bytes=compute_bytes,
            weights_key=key,
            host_compute_bytes=_FIXED_BYTES,
            grows=settings.device == "cuda" or settings.images is not None,
        )

    def trial(self, spec: EngineSpec) -> None:
        """Nothing: the weights were tried when they were imported, and there is nothing beside them."""

    def load(self, spec: EngineSpec, placement: Placement = RAM) -> Engine:
        """Make the engine where it is placed; blocks. Raises InvalidParameter, WrongWeights, BadWeights, CannotFit."""
        from appliance.engines.onnx.engines import load_engine  # here only: brings the native libraries with it

        self.check(spec)
        settings = read_settings(spec)
        if bool(placement.gpus) != (settings.device == "cuda"):
            raise CannotFit(f"asked for device '{settings.device}' and placed on {placement.device}")
        return load_engine(spec, settings, placement, limit_bytes=self.estimate(spec).total_bytes)


def _check_weights(spec: EngineSpec) -> None:
    if spec.model_type not in _SERVED:
        raise WrongWeights(
            f"ONNX weights serve {' and '.join(_SERVED)}, not {spec.model_type}; use llama.cpp templates"
        )
    if spec.card.format is not WeightsFormat.ONNX:
        raise WrongWeights(f"the weights are {spec.card.format}, this template takes onnx")
    if spec.model_type not in spec.card.model_types:
        can = ", ".join(spec.card.model_types) or "neither embedding nor reranking"
        raise WrongWeights(f"these weights cannot serve {spec.model_type}; by their header they can serve: {can}")
    towers = IMAGE in spec.card.modalities and not (spec.weights / MODEL).is_file()
    needed = (TEXT_MODEL, IMAGE_MODEL) if towers else (MODEL,)
    missing = [name for name in (*needed, "tokenizer.json") if not (spec.weights / name).is_file()]
    if missing:
        raise WrongWeights(f"the weights lack {' and '.join(missing)}; import the folder that holds them all")
    if spec.adapter is not None:
        raise WrongWeights("ONNX weights take no adapter; merge it into the weights before the conversion to ONNX")


def _compute_bytes(spec: EngineSpec, settings: Settings) -> int:
    """Beside the weights: vectors for each token of the largest batch, and its attention scores.

    Of weights that read images the same for the image tower, one image that is decoded, and those that wait for it.
    """
    width, heads = spec.card.embedding_length or _DEFAULT_WIDTH, spec.card.head_count or _DEFAULT_HEADS
    of_texts = _FIXED_BYTES + _pass_bytes(settings.batch_tokens, settings.max_tokens, width, heads)
    if settings.images is None:
        return of_texts
    tokens = int(spec.card.extra.get("image_tokens", 1))
    width = int(spec.card.extra.get("image_width", _DEFAULT_WIDTH))
    waiting_bytes = spec.slots * IMAGES_PER_HOP * settings.images.image_bytes
    return of_texts + _pass_bytes(settings.batch_tokens, tokens, width, heads) + _DECODED_BYTES + waiting_bytes


def _pass_bytes(batch_tokens: int, longest_tokens: int, width: int, heads: int) -> int:
    tokens = max(batch_tokens, longest_tokens)
    return tokens * _FLOAT_BYTES * (width * _BUFFERS_PER_TOKEN + heads * longest_tokens)
