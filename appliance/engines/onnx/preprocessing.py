"""How an image tower wants its images prepared, as ``preprocessor_config.json`` says.

Called by ``settings``; ``pixels`` does it. What the file asks for and is not done here is refused when the model is
deployed: an image that was prepared in another way than in training gives a vector that is wrong, quietly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from appliance.domain.errors import WrongWeights

FILE: Final = "preprocessor_config.json"
CHANNELS: Final = 3
BICUBIC: Final = 3
"""Pillow's number for it, as in the file."""

_FILE_BYTES_LIMIT: Final = 1 << 20
_Edge: TypeAlias = Annotated[int, Meta(ge=1, le=2048)]


class Size(Struct, frozen=True, forbid_unknown_fields=True):
    """Either both sides, or the shorter one."""

    height: _Edge | None = None
    width: _Edge | None = None
    shortest_edge: _Edge | None = None


_Three: TypeAlias = Annotated[tuple[float, ...], Meta(min_length=CHANNELS, max_length=CHANNELS)]


class _Config(Struct, frozen=True, kw_only=True):
    do_resize: bool = True
    size: _Edge | Size | None = None
    resample: Annotated[int, Meta(ge=0, le=5)] = BICUBIC
    do_center_crop: bool | None = None
    crop_size: _Edge | Size | None = None
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: _Three | None = None
    image_std: _Three | None = None
    do_pad: bool | None = None


class Preprocessing(Struct, frozen=True, kw_only=True):
    """What is done to a picture before the tower reads it."""

    resize: Size | None
    resample: int
    height: int
    """Of the result."""
    width: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_bytes(self) -> int:
        """One picture as the tower reads it."""
        return CHANNELS * self.height * self.width * 4


def read_preprocessing(folder: Path) -> Preprocessing:
    """What the folder's file asks for. Raises WrongWeights for what is not done here."""
    try:
        with (folder / FILE).open("rb") as opened:
            config = msgspec.json.decode(opened.read(_FILE_BYTES_LIMIT), type=_Config)
    except OSError:
        raise WrongWeights(f"the weights read images and lack {FILE}; import the folder that holds both") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WrongWeights(f"{FILE} asks for what is not done here: {error}") from None
    return _preprocessing(config)


def _preprocessing(config: _Config) -> Preprocessing:
    if config.do_pad:
        raise _unserved("do_pad")
    crops = config.crop_size is not None if config.do_center_crop is None else config.do_center_crop
    crop = _size(config.crop_size, "crop_size", is_both=True) if crops else None
    resize = _size(config.size, "size", is_both=not crops) if config.do_resize else None
    height, width = _sides(crop or resize)
    if config.do_normalize and (config.image_mean is None or config.image_std is None or 0 in config.image_std):
        raise WrongWeights(f"{FILE}: it normalizes images and lacks image_mean or image_std")
    return Preprocessing(
        resize=resize,
        resample=config.resample,
        height=height,
        width=width,
        scale=config.rescale_factor if config.do_rescale else 1.0,
        mean=(config.do_normalize and config.image_mean) or (0.0,) * CHANNELS,
        std=(config.do_normalize and config.image_std) or (1.0,) * CHANNELS,
    )


def _size(given: int | Size | None, name: str, *, is_both: bool) -> Size:
    """A bare number is the shorter edge where a crop follows, else both."""
    if isinstance(given, int):
        return Size(height=given, width=given) if is_both else Size(shortest_edge=given)
    if given is None or (given.shortest_edge is None) == (given.height is None or given.width is None):
        raise _unserved(name)
    return given


def _sides(size: Size | None) -> tuple[int, int]:
    """What comes out. A shorter edge alone leaves images of many shapes, which no tower reads."""
    if size is None or size.height is None or size.width is None:
        raise WrongWeights(f"{FILE}: neither a crop nor a size of both sides says how large the tower's images are")
    return size.height, size.width


def _unserved(name: str) -> WrongWeights:
    return WrongWeights(f"{FILE}: '{name}' asks for what is not done here; resize, center crop and normalize are")
