"""The Card of an ONNX folder that reads images and texts into one space: a tower for each, or both in one graph.

Called by ``inspection`` with the checked headers. It knows the names that CLIP and its kin have in ``config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from appliance.domain.errors import WrongWeights
from appliance.domain.models import IMAGE, TEXT, Card, ModelType, WeightsFormat
from appliance.store.folder_card import (
    CONFIG,
    PREPROCESSOR,
    TOKENIZER,
    Tokenizer,
    checked,
    names,
    quantization,
    read_json,
)
from appliance.store.onnx_header import OnnxHeader

_PIXELS: Final = "pixel_values"


class _Text(Struct, frozen=True):
    """The text tower; what is left out is as CLIP's authors had it."""

    max_position_embeddings: int = 77
    hidden_size: int = 512
    num_hidden_layers: int | None = None
    num_attention_heads: int = 8
    vocab_size: int | None = None


class _Vision(Struct, frozen=True):
    """The image tower."""

    image_size: int = 224
    patch_size: int = 32
    hidden_size: int = 768


class _Siglip(_Text, frozen=True):
    max_position_embeddings: int = 64
    hidden_size: int = 768
    num_attention_heads: int = 12


class _SiglipVision(_Vision, frozen=True):
    patch_size: int = 16


class _Config(Struct, frozen=True):
    model_type: str = "clip"
    text_config: _Text = _Text()
    vision_config: _Vision = _Vision()


class _SiglipConfig(_Config, frozen=True):
    text_config: _Siglip = _Siglip()
    vision_config: _SiglipVision = _SiglipVision()


def reads_images(header: OnnxHeader) -> bool:
    """Whether the graph has an input for pixels."""
    return any(value.name == _PIXELS for value in header.inputs)


def towers_card(text: OnnxHeader, image: OnnxHeader, files: Mapping[str, Path]) -> Card:
    """The card of both towers; the same header twice where they are one graph. Raises BadWeights, WrongWeights."""
    missing = [name for name in (TOKENIZER, PREPROCESSOR) if name not in files]
    if missing:
        raise WrongWeights(
            f"the model reads texts and images and comes without {' and '.join(missing)}; import the folder that holds "
            "them all"
        )
    if not reads_images(image) or not any(value.name == "input_ids" for value in text.inputs):
        raise WrongWeights("one tower must take input_ids and the other pixel_values; export them as CLIP's are")
    config = _read_config(files)
    headers = [text] if text is image else [text, image]
    types = [name for header in headers for name in header.element_types]
    return Card(
        format=WeightsFormat.ONNX,
        architecture=config.model_type[:64],
        parameter_count=sum(header.parameter_count for header in headers),
        context_length_tokens=config.text_config.max_position_embeddings,
        embedding_length=config.text_config.hidden_size,
        layer_count=config.text_config.num_hidden_layers,
        head_count=config.text_config.num_attention_heads,
        vocabulary_size=config.text_config.vocab_size,
        quantization=quantization(list(dict.fromkeys(types))),
        tokenizer=read_json(files[TOKENIZER], TOKENIZER, Tokenizer).model.type,
        weights_bytes=sum(header.weights_bytes for header in headers),
        model_types=(ModelType.EMBEDDING,),
        modalities=(TEXT, IMAGE),
        extra={
            "inputs": names([value.name for header in headers for value in header.inputs]),
            "outputs": names([value.name for header in headers for value in header.outputs]),
            "producer": text.producer[:80],
            "opset": text.opsets.get("ai.onnx", 0),
            "operator_domains": names(sorted({name for header in headers for name in header.opsets})),
            "image_tokens": _image_tokens(config.vision_config),
            "image_width": config.vision_config.hidden_size,
        },
    )


def _image_tokens(vision: _Vision) -> int:
    """Patches that the tower makes of an image: what an image costs, in the tower's own tokens."""
    return max(1, (vision.image_size // max(1, vision.patch_size)) ** 2)


def _read_config(files: Mapping[str, Path]) -> _Config:
    if CONFIG not in files:
        return _Config()
    kind = read_json(files[CONFIG], CONFIG, _Config).model_type
    config = read_json(files[CONFIG], CONFIG, _SiglipConfig if kind.startswith("siglip") else _Config)
    checked(config.text_config)
    checked(config.vision_config)
    return config
