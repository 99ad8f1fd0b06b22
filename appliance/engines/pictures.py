"""From an image as it was sent to its pixels, within hard limits: a few bytes can claim any number of pixels.

Called in worker threads by the engines that read images. The size is looked at before anything is decoded; formats
are two, of the many that the library below knows; what moves is refused, never shown by its first frame alone.
"""

from __future__ import annotations

import base64
import binascii
from io import BytesIO
from typing import Final

import numpy as np
import PIL.Image
import PIL.ImageOps

from appliance.domain.errors import InvalidRequest, Unsupported
from appliance.domain.inference import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, Image

_FORMATS: Final = ("PNG", "JPEG")
_START_OF_SCAN: Final = b"\xff\xda"
_MAX_SCANS: Final = 100
"""A progressive JPEG has about ten. Each costs a pass over all pixels, whatever it brings: thousands fit in a file."""

PIL.Image.MAX_IMAGE_PIXELS = None  # the library's own check warns where this one refuses


def decode(image: Image, where: str) -> PIL.Image.Image:
    """The picture in RGB, upright; blocks. ``where`` names it in errors. Raises InvalidRequest, Unsupported."""
    raw = _bytes(image, where)
    try:
        with PIL.Image.open(BytesIO(raw), formats=_FORMATS) as opened:
            _check(opened, raw, where)
            return _upright_rgb(opened)
    except PIL.UnidentifiedImageError:
        raise Unsupported(f"{where} is no {' and no '.join(_FORMATS)} image; convert it to one of them") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what the library raises for damaged files
        raise InvalidRequest(f"{where} cannot be decoded: {str(error)[:200]}; send the whole file") from None


def _bytes(image: Image, where: str) -> bytes:
    if len(image.base64) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise InvalidRequest(
            f"{where} has {len(image.base64) * 3 // 4} bytes, an image takes at most {MAX_IMAGE_BYTES}; scale it down"
        )
    try:
        return base64.b64decode(image.base64, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{where} is no base64; send data:image/png;base64,... with the bytes of a file") from None


def _check(opened: PIL.Image.Image, raw: bytes, where: str) -> None:
    width, height = opened.size
    if width * height > MAX_IMAGE_PIXELS:
        raise InvalidRequest(
            f"{where} has {width} x {height} pixels, an image takes at most {MAX_IMAGE_PIXELS}; scale it down"
        )
    frames = int(getattr(opened, "n_frames", 1))
    if opened.format == "PNG" and frames > 1:  # a JPEG with a second picture behind the first does not move
        raise Unsupported(f"{where} moves: it has {frames} frames; send one of them")
    if opened.format != "PNG" and raw.count(_START_OF_SCAN) > _MAX_SCANS:
        raise InvalidRequest(f"{where} has more than {_MAX_SCANS} scans; save it again as a plain JPEG")


def _upright_rgb(opened: PIL.Image.Image) -> PIL.Image.Image:
    """As whoever took the picture held the camera, without transparency."""
    opened.load()
    picture = PIL.ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I"):  # 16 bits a pixel, which the library would cut off instead of scaling
        picture = PIL.Image.fromarray((np.asarray(picture, np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode == "P":  # a palette may have transparency of its own kind
        picture = picture.convert("RGBA")
    return picture.convert("RGB")
