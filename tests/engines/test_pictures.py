"""Pictures as they were sent: what is read, and the limits that hold whatever a few bytes claim."""

from __future__ import annotations

import base64
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import InvalidRequest, Unsupported
from appliance.domain.inference import MAX_IMAGE_BYTES, Image
from appliance.engines.pictures import decode

RED = (200, 30, 40)


def sent(picture: PIL.Image.Image, kind: str = "png", **options: Any) -> Image:
    file = BytesIO()
    picture.save(file, kind, **options)
    return Image(base64.b64encode(file.getvalue()).decode())


def plain(mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, RED).convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, data: bytes = b"") -> Image:
    """A PNG that claims a size, whatever it holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    raw = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return Image(base64.b64encode(raw).decode())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "I;16"])
def test_every_kind_of_png_becomes_rgb(mode: str) -> None:
    """Palettes, greys of 8 and 16 bits and transparency come out as colours of 8 bits."""
    picture = plain("L" if mode == "I;16" else mode)
    expected = np.asarray(picture.convert("RGB"))
    if mode == "I;16":
        picture = PIL.Image.fromarray(np.asarray(picture, np.uint16) * 257)
    found = decode(sent(picture), "image 0")
    assert (found.mode, found.size) == ("RGB", (8, 6))
    assert np.array_equal(np.asarray(found), expected)


def test_a_palette_with_transparency() -> None:
    """It is read without a warning."""
    assert decode(sent(plain("P"), transparency=bytes(range(200))), "image 0").mode == "RGB"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_become_rgb(mode: str) -> None:
    """Printers' colours too."""
    assert decode(sent(plain(mode), "jpeg"), "image 0").mode == "RGB"


def test_pictures_stand_upright() -> None:
    """A camera that was held on its side says so in the file."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    assert decode(sent(plain(), "jpeg", exif=exif), "image 0").size == (6, 8)


def test_a_size_is_refused_before_it_is_decoded() -> None:
    """A file of a hundred bytes that claims 40,000 x 40,000 pixels costs nothing."""
    with pytest.raises(InvalidRequest, match=r"has 40000 x 40000 pixels, an image takes at most 24000000; scale it"):
        decode(png_of(40_000, 40_000), "image 0")


def test_a_bomb_inside_the_limit_is_no_more_than_the_limit() -> None:
    """Data that unpacks to more than the size says is cut off or refused, never unpacked whole."""
    found = decode(png_of(4, 4, bytes(50_000_000)), "image 0")
    assert found.size == (4, 4)


def test_a_file_is_refused_by_its_length_before_it_is_read() -> None:
    """The limit stands in the message."""
    with pytest.raises(InvalidRequest, match=f"an image takes at most {MAX_IMAGE_BYTES}"):
        decode(Image("A" * (MAX_IMAGE_BYTES * 4 // 3 + 8)), "image 0")


def test_what_moves_is_refused() -> None:
    """Never shown by its first frame alone."""
    frames = [PIL.Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    moving = sent(frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(Unsupported, match="image 3 moves: it has 2 frames"):
        decode(moving, "image 3")


def test_a_phones_jpeg_of_two_pictures_is_its_first() -> None:
    """A second picture behind the first, as for depth, does not move."""
    assert decode(sent(plain(), "mpo", save_all=True, append_images=[plain()]), "image 0").size == (8, 6)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    """Each is a pass over all pixels that costs a few bytes."""
    whole = base64.b64decode(sent(plain(size=(64, 64)), "jpeg", progressive=True).base64)
    start = whole.rindex(b"\xff\xda")
    many = whole[:start] + whole[start:-2] * 200 + whole[-2:]
    with pytest.raises(InvalidRequest, match="more than 100 scans"):
        decode(Image(base64.b64encode(many).decode()), "image 0")


@pytest.mark.parametrize("kind", ["gif", "webp", "bmp", "tiff", "ico"])
def test_other_formats_are_refused_by_their_contents(kind: str) -> None:
    """Whatever the data URL said they are."""
    with pytest.raises(Unsupported, match="no PNG and no JPEG"):
        decode(sent(plain(size=(32, 32)), kind), "image 0")


@given(st.binary(max_size=300), st.integers(0, 300))
def test_damaged_files_are_the_callers_fault(noise: bytes, at: int) -> None:
    """Any bytes at all: a picture, or a refusal with words."""
    whole = base64.b64decode(sent(plain(), "jpeg" if at % 2 else "png").base64)
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    try:
        found = decode(Image(base64.b64encode(damaged).decode()), "image 0")
    except InvalidRequest:
        return
    assert found.mode == "RGB"
