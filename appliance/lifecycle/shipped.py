"""The templates that come with the appliance, one per backend and model type.

In SGP terms each has vendor LAUNCH and a ``bundle_config`` whose registry is ``local``, whose image is the backend
and whose tag is the backend's version.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from appliance.domain.models import BackendName, ModelType, Parameter
from appliance.wire import sgp

UNLIMITED_CPUS, UNLIMITED_MEMORY = 1024, "1024Ti"
"""The most that the wire carries: models of every size run on the shipped templates, as far as the machine goes."""

WEIGHTS = Parameter(name="weights", type="str", description="name of an imported artifact", required=True)

LLAMA_COMMON = (
    WEIGHTS,
    Parameter(
        name="threads",
        type="int",
        description="CPU threads; default: the cores this process may use, at most cpus; one for very small weights",
    ),
    Parameter(
        name="gpu_layers",
        type="str",
        description="with gpus: all (default), auto (what has no room on them goes to RAM), or a number of layers",
    ),
)
LLAMA_TEXT = (
    *LLAMA_COMMON,
    Parameter(name="context_length", type="int", description="tokens one request may use, prompt and answer together"),
    Parameter(name="cache_tokens", type="int", description="tokens in the cache that all slots share"),
    Parameter(
        name="cache_type",
        type="str",
        description="how the cache holds keys and values: f16 (default), or q8_0, in about half the memory",
    ),
    Parameter(
        name="prefix_tokens",
        type="int",
        description="tokens of finished requests kept in RAM for those that begin the same; 0: none; default: half of "
        "cache_tokens",
    ),
    Parameter(
        name="draft_tokens",
        type="int",
        description="tokens of an answer guessed from its own text, where that is quicker, at most; 0: none; default 8",
    ),
    Parameter(name="adapter", type="str", description="name of an imported LoRA adapter to apply over the weights"),
)
LLAMA_POOLED = (
    *LLAMA_COMMON,
    Parameter(name="context_length", type="int", description="tokens one text may have"),
    Parameter(name="pooling", type="str", description="mean, cls or last; default: as the weights say"),
    Parameter(name="normalize", type="bool", description="scale vectors to length 1; default true"),
)
ONNX_COMMON = (
    WEIGHTS,
    Parameter(name="max_tokens", type="int", description="tokens one text may have; default: as the model says"),
    Parameter(
        name="threads", type="int", description="CPU threads; default: the cores this process may use, at most cpus"
    ),
    Parameter(name="batch_tokens", type="int", description="tokens, padding included, in one batch"),
    Parameter(name="device", type="str", description="cpu or cuda; default cpu, with gpus 1 cuda"),
)
ONNX_EMBEDDING = (
    *ONNX_COMMON,
    Parameter(name="pooling", type="str", description="mean, cls or last; default: as the model says, else mean"),
    Parameter(name="normalize", type="bool", description="scale vectors to length 1; default true"),
)
ONNX_RERANKING = (
    *ONNX_COMMON,
    Parameter(
        name="scoring",
        type="str",
        description="cross-encoder or late-interaction; default: by the shape of the model's output",
    ),
)
SAMPLING = (
    Parameter(name="top_k", type="int", description="sample among the k most likely tokens; 0: off"),
    Parameter(name="top_p", type="float", description="sample among the most likely tokens of this probability mass"),
    Parameter(name="min_p", type="float", description="drop tokens below this share of the most likely one"),
    Parameter(name="repetition_penalty", type="float", description="above 1: make repeated tokens less likely"),
    Parameter(name="frequency_penalty", type="float", description="-2 to 2, by how often a token occurred"),
    Parameter(name="presence_penalty", type="float", description="-2 to 2, for tokens that occurred at all"),
    Parameter(name="seed", type="int", description="same seed, same text"),
)
NORMALIZE = (Parameter(name="normalize", type="bool", description="scale vectors to length 1"),)


class ShippedTemplate(Struct, frozen=True, kw_only=True):
    """A template before it has an id."""

    name: str
    backend: BackendName
    model_type: ModelType
    endpoint_type: str
    creation_parameters: tuple[Parameter, ...]
    request_parameters: tuple[Parameter, ...] = ()


SHIPPED = (
    ShippedTemplate(
        name="llama-cpp-completion",
        backend=BackendName.LLAMA,
        model_type=ModelType.COMPLETION,
        endpoint_type="STREAMING",
        creation_parameters=LLAMA_TEXT,
        request_parameters=SAMPLING,
    ),
    ShippedTemplate(
        name="llama-cpp-chat-completion",
        backend=BackendName.LLAMA,
        model_type=ModelType.CHAT_COMPLETION,
        endpoint_type="STREAMING",
        creation_parameters=LLAMA_TEXT,
        request_parameters=SAMPLING,
    ),
    ShippedTemplate(
        name="llama-cpp-agent",
        backend=BackendName.LLAMA,
        model_type=ModelType.AGENT,
        endpoint_type="SYNC",
        creation_parameters=LLAMA_TEXT,
        request_parameters=SAMPLING,
    ),
    ShippedTemplate(
        name="llama-cpp-embedding",
        backend=BackendName.LLAMA,
        model_type=ModelType.EMBEDDING,
        endpoint_type="SYNC",
        creation_parameters=LLAMA_POOLED,
        request_parameters=NORMALIZE,
    ),
    ShippedTemplate(
        name="llama-cpp-reranking",
        backend=BackendName.LLAMA,
        model_type=ModelType.RERANKING,
        endpoint_type="SYNC",
        creation_parameters=tuple(p for p in LLAMA_POOLED if p.name not in {"pooling", "normalize"}),
    ),
    ShippedTemplate(
        name="onnx-embedding",
        backend=BackendName.ONNX,
        model_type=ModelType.EMBEDDING,
        endpoint_type="SYNC",
        creation_parameters=ONNX_EMBEDDING,
        request_parameters=NORMALIZE,
    ),
    ShippedTemplate(
        name="onnx-reranking",
        backend=BackendName.ONNX,
        model_type=ModelType.RERANKING,
        endpoint_type="SYNC",
        creation_parameters=ONNX_RERANKING,
    ),
)


def vendor_configuration(backend: BackendName, version: str, endpoint_type: str, gpus: int = 0) -> dict[str, Any]:
    """LAUNCH configuration of a shipped template, every default of the wire spelled out, and no limit on resources."""
    configuration = sgp.LaunchConfiguration(
        bundle_config=sgp.BundleConfig(registry="local", image=backend.value, tag=version),
        endpoint_config=sgp.EndpointConfig(
            endpoint_type=sgp.EndpointType(endpoint_type),
            cpus=UNLIMITED_CPUS,
            memory=UNLIMITED_MEMORY,
            gpus=gpus,
        ),
    )
    built: dict[str, Any] = msgspec.to_builtins(configuration)
    return built
