"""Pictures as numbers: resized, cropped and normalized as the model's own file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from appliance.domain.errors import InvalidRequest
from appliance.engines.onnx.pixels import encode_picture
from appliance.engines.onnx.preprocessing import Preprocessing, read_preprocessing

GREY = {"image_mean": [0.5, 0.25, 0.0], "image_std": [0.5, 0.25, 1.0]}


def read(folder: Path, **config: Any) -> Preprocessing:
    (folder / "preprocessor_config.json").write_text(json.dumps(GREY | config))
    return read_preprocessing(folder)


def columns(width: int, height: int) -> PIL.Image.Image:
    """A picture whose red is the number of the column."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 0] = np.arange(width)
    return PIL.Image.fromarray(pixels)


def test_each_channel_is_scaled_and_normalized(tmp_path: Path) -> None:
    """(value / 255 - mean) / deviation, channels first."""
    how = read(tmp_path, size={"height": 2, "width": 2})
    found = encode_picture(PIL.Image.new("RGB", (2, 2), (255, 0, 51)), how, 1, "image 0").pixels
    assert found.shape == (3, 2, 2)
    assert found.dtype == np.float32
    assert found[:, 0, 0] == pytest.approx([1.0, -1.0, 0.2], abs=1e-6)


def test_the_middle_is_cropped(tmp_path: Path) -> None:
    """Of a picture that is not resized, its middle columns."""
    how = read(tmp_path, do_resize=False, crop_size=4, do_normalize=False, do_rescale=False)
    found = encode_picture(columns(10, 4), how, 1, "image 0").pixels
    assert found[0, 0].tolist() == [3, 4, 5, 6]


def test_what_a_crop_misses_is_black(tmp_path: Path) -> None:
    """A picture smaller than the crop stands in its middle."""
    how = read(tmp_path, do_resize=False, crop_size={"height": 4, "width": 4}, do_normalize=False)
    found = encode_picture(PIL.Image.new("RGB", (2, 2), "white"), how, 1, "image 0").pixels
    assert found[0].tolist() == [[0] * 4, [0, 1, 1, 0], [0, 1, 1, 0], [0] * 4]


@pytest.mark.parametrize(("size", "cropped"), [((300, 100), 8), ((100, 300), 8), ((7, 9), 8)])
def test_the_shorter_edge_is_resized(tmp_path: Path, size: tuple[int, int], cropped: int) -> None:
    """Wide, high and small pictures keep their proportions; a bare number means that edge where a crop follows."""
    for shortest in (8, {"shortest_edge": 8}):
        how = read(tmp_path, size=shortest, crop_size=cropped)
        assert encode_picture(PIL.Image.new("RGB", size), how, 1, "image 0").pixels.shape == (3, 8, 8)


def test_a_bare_size_without_a_crop_is_both_sides(tmp_path: Path) -> None:
    """As processors that do not crop mean it."""
    assert encode_picture(columns(30, 10), read(tmp_path, size=6), 1, "image 0").pixels.shape == (3, 6, 6)


def test_pictures_too_narrow_to_be_scaled_are_refused(tmp_path: Path) -> None:
    """One pixel high and 200,000 wide would be 45 million wide."""
    how = read(tmp_path, size=224, crop_size=224)
    with pytest.raises(InvalidRequest, match="image 2 is 200000 times as long as it is wide"):
        encode_picture(PIL.Image.new("RGB", (200_000, 1)), how, 1, "image 2")
