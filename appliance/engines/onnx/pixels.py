"""From a picture to the numbers that an image tower reads. Pure; called in a worker thread."""

from __future__ import annotations

import numpy as np
import PIL.Image

from appliance.domain.errors import InvalidRequest
from appliance.domain.inference import MAX_IMAGE_PIXELS
from appliance.engines.onnx.preprocessing import Preprocessing, Size
from appliance.engines.onnx.tasks import EncodedImage


def encode_picture(picture: PIL.Image.Image, how: Preprocessing, tokens: int, where: str) -> EncodedImage:
    """The picture (RGB), which counts as so many tokens. Raises InvalidRequest for one that is too narrow."""
    resized = picture if how.resize is None else _resized(picture, how.resize, how.resample, where)
    left, top = (resized.width - how.width) // 2, (resized.height - how.height) // 2
    cropped = resized.crop((left, top, left + how.width, top + how.height))  # what is missing is black
    values = np.multiply(np.asarray(cropped), how.scale, dtype=np.float32)
    values = (values - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)
    return EncodedImage(np.ascontiguousarray(values.transpose(2, 0, 1)), tokens)


def _resized(picture: PIL.Image.Image, size: Size, resample: int, where: str) -> PIL.Image.Image:
    if size.height and size.width:
        return picture.resize((size.width, size.height), resample)
    shortest = size.shortest_edge or 1
    short, long = sorted(picture.size)
    longest = shortest * long // short
    if shortest * longest > MAX_IMAGE_PIXELS:
        raise InvalidRequest(
            f"{where} is {long // short} times as long as it is wide, too narrow to be scaled; crop it"
        )
    return picture.resize((shortest, longest) if picture.width <= picture.height else (longest, shortest), resample)
