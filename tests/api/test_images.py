"""Images in requests: data URLs, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.anthropic.translate import chat_request as anthropic_chat
from appliance.api.images import image_of, text_or_image
from appliance.api.ollama.translate import chat_request as ollama_chat
from appliance.api.openai import responses_input
from appliance.api.openai.translate import conversation, embedding_inputs
from appliance.domain.errors import InvalidParameter, InvalidRequest, Unsupported
from appliance.domain.inference import IMAGE_MARK, Image
from appliance.wire import anthropic, ollama, openai_responses
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


def converted(kind: Any, **fields: Any) -> Any:
    """A body as it comes over the wire."""
    return msgspec.convert(fields, kind)


@pytest.mark.parametrize("role", ["user", "tool"])
def test_openai_messages_have_images_in_their_places(role: str) -> None:
    """Between the texts around them."""
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "text", "text": "b"},
    ]
    (turn,) = conversation([converted(wire.Message, role=role, content=parts, tool_call_id="t")])
    assert (turn.content, turn.images) == (f"a{IMAGE_MARK}b", (FOUND,))
    with pytest.raises(InvalidRequest, match="'image_url' was sent"):
        conversation([converted(wire.Message, role="system", content=parts)])


def test_items_of_responses_have_images_in_their_places() -> None:
    """As ``input_image``, in what the user says."""
    parts = [{"type": "input_image", "image_url": PNG}, {"type": "input_text", "text": "b"}]
    body = converted(openai_responses.ResponseCreate, model="m", input=[{"role": "user", "content": parts}])
    (turn,) = responses_input.chat_request(body, "").messages
    assert (turn.content, turn.images) == (f"{IMAGE_MARK}b", (FOUND,))


def test_anthropic_blocks_are_images_in_their_places() -> None:
    """Of base64 or as a data URL; turns of one role are joined with theirs."""
    of_base64 = {"type": "base64", "media_type": "image/png", "data": FOUND.base64}
    block = {"type": "image", "source": of_base64}
    linked = {"type": "image", "source": {"type": "url", "url": PNG}}
    messages = [
        {"role": "user", "content": [block, {"type": "text", "text": "a"}]},
        {"role": "user", "content": [linked]},
    ]
    (turn,) = anthropic_chat(
        converted(anthropic.MessageCreate, model="m", max_tokens=1, messages=messages), ""
    ).messages
    assert (turn.content, turn.images) == (f"{IMAGE_MARK}\n\na\n\n{IMAGE_MARK}", (FOUND, FOUND))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "needs 'source'"),
        ({"type": "file", "file_id": "f"}, "type 'file' is not served"),
        ({"type": "url", "url": "https://example.com/a.png"}, "nothing is fetched"),
        ({"type": "base64", "media_type": "image/gif", "data": "AAAA"}, "image/gif is not read here"),
    ],
)
def test_other_sources_of_anthropic_are_refused(source: Any, words: str) -> None:
    """With the way out."""
    messages = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    with pytest.raises(InvalidRequest, match=words):
        anthropic_chat(converted(anthropic.MessageCreate, model="m", max_tokens=1, messages=messages), "")


def test_ollamas_images_stand_before_the_text() -> None:
    """As base64 alone or as data URLs."""
    turns = [{"role": "user", "content": "a", "images": [FOUND.base64, PNG]}, {"role": "user", "images": [PNG]}]
    first, second = ollama_chat(converted(ollama.ChatCreate, model="m", messages=turns), "").messages
    assert (first.content, first.images) == (f"{IMAGE_MARK}\n{IMAGE_MARK}\na", (FOUND, FOUND))
    assert (second.content, second.images) == (IMAGE_MARK, (FOUND,))
