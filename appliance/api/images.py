"""What dialects do with images: they take them as data URLs and from nowhere else.

Nothing is fetched on a caller's behalf: the machine may have no network, and where it has one, whoever can make a
server ask for addresses sees what only the server may see. What an image holds is for the engine to find out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from appliance.domain.errors import InvalidParameter, InvalidRequest, Unsupported
from appliance.domain.inference import IMAGE_MARK, Image
from appliance.wire.limits import MAX_TEXT_LENGTH

_DATA_URL: Final = re.compile(
    r"data:image/(?P<kind>[\w.+-]{1,32})(?:;[\w.+=-]{1,64}){0,4};base64,", re.ASCII | re.IGNORECASE
)
_ANY_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:")
_KINDS: Final = frozenset({"png", "jpeg", "jpg"})


def content_of(parts: Sequence[str | Image], between: str = "") -> tuple[str, tuple[Image, ...]]:
    """The content of a message whose parts are texts and images, and the images of which it has the places."""
    text = between.join(IMAGE_MARK if isinstance(part, Image) else part for part in parts)
    return text, tuple(part for part in parts if isinstance(part, Image))


def text_or_image(text: str, where: str) -> str | Image:
    """A text, or the image whose data URL it is: nobody means its base64 as words. Raises as ``image_of``."""
    if _DATA_URL.match(text):
        return image_of(text, where)
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidParameter(f"{where}: {len(text)} characters, a text takes {MAX_TEXT_LENGTH}; split it")
    return text


def image_of(url: str, where: str, *, bare: bool = False) -> Image:
    """The image of a data URL; with ``bare`` also of base64 alone.

    Raises InvalidRequest for addresses, Unsupported for formats that are not read here.
    """
    found = _DATA_URL.match(url)
    if found is None:
        if bare and not _ANY_URL.match(url):
            return Image(url)
        begins = url.partition(":")[0][:16] + ":" if _ANY_URL.match(url) else url[:16]
        raise InvalidRequest(
            f"{where}: images are taken as data URLs only, and this begins with {begins!r}; nothing is fetched from "
            "here, send data:image/png;base64,... with the image itself"
        )
    kind = found["kind"].lower()
    if kind not in _KINDS:
        raise Unsupported(f"{where}: image/{kind} is not read here; convert the image to PNG or JPEG")
    return Image(url[found.end() :])
