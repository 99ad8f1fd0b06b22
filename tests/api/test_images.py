"""Images in requests: data URLs, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.images import image_of, text_or_image
from appliance.api.openai.translate import embedding_inputs
from appliance.domain.errors import InvalidParameter, InvalidRequest, Unsupported
from appliance.domain.inference import Image
from appliance.wire import openai as wire
from appliance.wire.limits import MAX_TEXT_LENGTH

PNG = "data:image/png;base64,iVBORw0KGgo="
FOUND = Image("iVBORw0KGgo=")


def inputs(value: Any) -> Any:
    """What the engines get of an ``input`` as it comes over the wire."""
    body = msgspec.convert({"model": "m", "input": value}, wire.EmbeddingsCreate)
    return embedding_inputs(body.input)


@pytest.mark.parametrize(
    "value",
    [
        PNG,
        {"image": PNG},
        {"image": "iVBORw0KGgo="},
        {"type": "image", "image": PNG},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"image_url": {"url": PNG}},
        {"image_url": PNG},
    ],
)
def test_every_form_that_clients_use(value: Any) -> None:
    """Alone, and in a list beside others."""
    assert inputs(value) == (FOUND,)
    assert inputs([value, {"text": "a cat"}, "a dog", {"type": "text", "text": PNG}]) == (FOUND, "a cat", "a dog", PNG)


@pytest.mark.parametrize("kind", ["png", "PNG", "jpeg", "jpg", "jpeg;charset=utf-8;name=a.jpg"])
def test_png_and_jpeg(kind: str) -> None:
    """With the parameters that a data URL may have."""
    assert text_or_image(f"data:image/{kind};base64,AAAA", "input[0]") == Image("AAAA")


@pytest.mark.parametrize("kind", ["gif", "webp", "svg+xml", "avif"])
def test_other_formats_are_refused_by_name(kind: str) -> None:
    """Before anything else is done."""
    with pytest.raises(Unsupported, match=rf"input\[0\]: image/{kind.replace('+', '.')} is not read here"):
        text_or_image(f"data:image/{kind};base64,AAAA", "input[0]")


@pytest.mark.parametrize("text", ["", "data:image/png", "data:text/plain;base64,AAAA", "see data:image/png;base64,AA"])
def test_what_is_no_data_url_is_a_text(text: str) -> None:
    """Also when it speaks of one."""
    assert text_or_image(text, "input[0]") == text


def test_a_text_has_its_own_limit() -> None:
    """An image may be longer than a text."""
    with pytest.raises(InvalidParameter, match=f"a text takes {MAX_TEXT_LENGTH}"):
        text_or_image("a" * (MAX_TEXT_LENGTH + 1), "texts[0]")
    assert isinstance(text_or_image(PNG + "A" * (MAX_TEXT_LENGTH + 4), "texts[0]"), Image)


@pytest.mark.parametrize("url", ["http://10.0.0.1/a.png", "https://example.com/a.png", "file:///etc/passwd", "a.png"])
def test_addresses_are_refused_and_nothing_is_fetched(url: str) -> None:
    """With the way out."""
    with pytest.raises(InvalidRequest, match=r"taken as data URLs only.*nothing is fetched"):
        image_of(url, "messages[0]")


def test_base64_alone_is_no_address() -> None:
    """Where it may stand, an address is refused all the same."""
    assert image_of("AAAA", "input[0]", bare=True) == Image("AAAA")
    with pytest.raises(InvalidRequest, match="nothing is fetched"):
        image_of("https://example.com/a.png", "input[0]", bare=True)


@pytest.mark.parametrize(
    "item", [{}, {"text": "a", "image": PNG}, {"type": "text", "image": PNG}, {"type": "image_url", "image": PNG}]
)
def test_an_item_is_one_thing(item: Any) -> None:
    """Nothing of it is ignored."""
    with pytest.raises(InvalidParameter, match=r"input\[0\]: give one of text, image and image_url"):
        inputs([item])


@pytest.mark.parametrize("item", [{"image": PNG, "detail": "low"}, {"image_url": {"url": PNG, "detail": "low"}}])
def test_unknown_fields_are_refused(item: Any) -> None:
    """By name."""
    with pytest.raises(msgspec.ValidationError, match="detail"):
        inputs([item])
