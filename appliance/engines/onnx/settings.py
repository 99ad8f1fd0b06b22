"""Creation parameters of the ONNX templates, checked against the card and completed with the model's own defaults.

Called by ``backend``, before any native code is loaded. Pure but for one small JSON file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import IMAGE, Parameters, WeightsFormat
from appliance.engines.base import EngineSpec
from appliance.engines.onnx.preprocessing import Preprocessing, read_preprocessing
from appliance.engines.shared import key_of

MODEL, TEXT_MODEL, IMAGE_MODEL = "model.onnx", "text_model.onnx", "vision_model.onnx"
"""Names of the graphs in an artifact: one file, or a tower for texts and one for images."""
CROSS_ENCODER: Final = "cross-encoder"
LATE_INTERACTION: Final = "late-interaction"

_CHOICES: Final = {
    "pooling": ("mean", "cls", "last"),
    "scoring": (CROSS_ENCODER, LATE_INTERACTION),
    "device": ("cpu", "cuda"),
}
_RANGES: Final = {"max_tokens": (3, 131_072), "threads": (1, 256), "batch_tokens": (16, 1_048_576)}
_DEFAULT_MAX_TOKENS: Final = 512
_DEFAULT_BATCH_TOKENS: Final = {"cpu": 512, "cuda": 16_384}
"""On a CPU a pass over 512 tokens costs a tenth less per token than one over 1,024, and lets others in sooner."""
PASS_TOKENS: Final = {"cpu": 8, "cuda": 1_024}
"""What starting one more pass costs, in tokens of a running one: padding up to this much is cheaper. Measured on a CPU
for lists of mixed texts, where 64 are 7 % slower; estimated for a GPU, whose pass takes milliseconds to start."""
IMAGES_PER_HOP: Final = 8
"""Images of a request that are ready for the tower at once: as numbers they are much larger than as files."""
_JSON_BYTES_LIMIT: Final = 1 << 20


class Settings(Struct, frozen=True, kw_only=True):
    """How one engine runs."""

    pooling: str
    normalize: bool
    scoring: str | None
    """None: as the graph's output says."""
    max_tokens: int
    """Of one text, special tokens included."""
    device: str
    """``cpu`` or ``cuda``: which of the GPUs is for the scheduler to say."""
    threads: int
    batch_tokens: int
    """Padding included."""
    images: Preprocessing | None = None
    """How images are prepared, of weights that have a tower for them."""


class _SentenceBert(Struct, frozen=True):
    max_seq_length: int | None = None


def read_settings(spec: EngineSpec) -> Settings:
    """What the parameters say, else what the model says.

    Raises InvalidParameter naming the parameter, WrongWeights for images to be prepared in a way that is not known.
    """
    given = spec.parameters
    _check_choices(given)
    _check_ranges(given)
    device = str(given.get("device", "cuda" if spec.resources.gpus else "cpu"))
    _check_device(device, spec)
    return Settings(
        pooling=str(given.get("pooling", spec.card.pooling or "mean")),
        normalize=bool(given.get("normalize", True)),
        scoring=str(given["scoring"]) if "scoring" in given else None,
        max_tokens=_max_tokens(spec),
        device=device,
        threads=int(given.get("threads", _default_threads(spec))),
        batch_tokens=int(given.get("batch_tokens", _DEFAULT_BATCH_TOKENS[device])),
        images=read_preprocessing(spec.weights) if IMAGE in spec.card.modalities else None,
    )


def _default_threads(spec: EngineSpec) -> int:
    usable = len(os.sched_getaffinity(0))
    return min(usable, spec.resources.cpus or usable)


def session_key(spec: EngineSpec, settings: Settings, **options: int) -> str:
    """Names the session that engines over the same weights share when they run it with the same threads.

    ``options``: what else must be the same. Which GPU it runs on is added where it is placed.
    """
    return key_of(WeightsFormat.ONNX, spec.weights, device=settings.device, threads=settings.threads, **options)


def _check_choices(given: Parameters) -> None:
    for name, words in _CHOICES.items():
        if name in given and given[name] not in words:
            raise _invalid(name, f"{given[name]!r}", f"takes {', '.join(words)}")


def _check_ranges(given: Parameters) -> None:
    for name, (lowest, highest) in _RANGES.items():
        value = given.get(name, lowest)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise _invalid(name, f"{value!r}", f"takes a whole number from {lowest} to {highest}")
    if not isinstance(given.get("normalize", True), bool):
        raise _invalid("normalize", f"{given['normalize']!r}", "takes true or false")


def _check_device(device: str, spec: EngineSpec) -> None:
    """8-bit products have no CUDA kernels: most of such a graph would run on the CPU without a word."""
    gpus = spec.resources.gpus
    if gpus > 1:
        raise InvalidParameter(
            f"gpus is {gpus}; ONNX Runtime runs a model on one GPU, set it to 1, or to 0 for the CPU"
        )
    if device == "cpu" and gpus:
        raise _invalid("device", "'cpu'", "takes cuda where the resources ask for a GPU; or set gpus to 0")
    if device == "cuda" and {"I8", "U8"} & set((spec.card.quantization or "").split("+")):
        raise _invalid("device", "'cuda'", "takes cpu for 8-bit weights; for a GPU, import the float weights")


def _max_tokens(spec: EngineSpec) -> int:
    """The parameter, at most what the network has positions for; else what the model's authors declare."""
    positions = spec.card.context_length_tokens
    if "max_tokens" in spec.parameters:
        asked = int(spec.parameters["max_tokens"])
        if positions is not None and asked > positions:
            raise _invalid("max_tokens", str(asked), f"takes at most the {positions} positions of this model")
        return asked
    declared = _declared_max_tokens(spec.weights / "sentence_bert_config.json")
    return min((n for n in (positions, declared) if n), default=_DEFAULT_MAX_TOKENS)


def _declared_max_tokens(file: Path) -> int | None:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(_JSON_BYTES_LIMIT), type=_SentenceBert).max_seq_length
    except (OSError, msgspec.DecodeError):
        return None


def _invalid(name: str, value: str, takes: str) -> InvalidParameter:
    message = f"parameter '{name}' {takes}; it is {value}"
    return InvalidParameter(message, errors=[(("model_creation_parameters", name), message)])
