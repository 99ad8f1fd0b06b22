"""Images and texts into one space: both layouts of the weights, mixtures, counts, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.domain.errors import InvalidParameter, InvalidRequest, NotReady, PromptTooLong, Unsupported, WrongWeights
from appliance.domain.inference import EmbeddingRequest, Image
from appliance.domain.models import ModelType
from appliance.engines.onnx.backend import OnnxBackend
from tests.support.clip_folders import (
    COLOURS,
    FORMS,
    IMAGE_TOKENS,
    PREPROCESSOR,
    WIDTH,
    encoded,
    picture,
    write_joint,
    write_towers,
)

Load = Callable[..., Any]
Write = Callable[[Path], Path]
THINGS = [(colour, form) for colour in COLOURS for form in FORMS]
both_layouts = pytest.mark.parametrize("write", [write_towers, write_joint])


def image(colour: str = "red", form: str = "square", kind: str = "png", side: int = 64) -> Image:
    return Image(encoded(picture(colour, form, side), kind))


@both_layouts
async def test_a_text_is_nearest_to_the_picture_of_it(load: Load, tmp_path: Path, write: Write) -> None:
    """Of six pictures, that of a red square is nearest to "a red square", and so on; texts of any length at once."""
    engine = load(write(tmp_path / "clip"))
    texts = [f"a {colour} {form}" for colour, form in THINGS] + ["a a a a a a red"]
    words = await engine.embed(EmbeddingRequest(texts=tuple(texts)))
    seen = await engine.embed(EmbeddingRequest(texts=tuple(image(*thing) for thing in THINGS)))
    cosines = np.array(words.vectors[: len(THINGS)]) @ np.array(seen.vectors).T
    assert cosines.argmax(axis=1).tolist() == list(range(len(THINGS)))
    assert words.tokens == 5 * len(THINGS) + 9
    assert seen.tokens == IMAGE_TOKENS * len(THINGS)


@both_layouts
async def test_texts_and_images_come_back_in_their_order(load: Load, tmp_path: Path, write: Write) -> None:
    """A mixture gives what each gives alone, at its own place; vectors have length 1 unless asked otherwise."""
    engine = load(write(tmp_path / "clip"))
    mixed = (image("blue"), "red circle", image("green", "circle"), "blue")
    together = await engine.embed(EmbeddingRequest(texts=mixed))
    for each, vector in zip(mixed, together.vectors, strict=True):
        alone = await engine.embed(EmbeddingRequest(texts=(each,)))
        assert vector == pytest.approx(alone.vectors[0], abs=1e-5)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert together.tokens == 2 * IMAGE_TOKENS + 4 + 3
    (raw,) = (await engine.embed(EmbeddingRequest(texts=(image("blue"),), normalize=False))).vectors
    assert np.linalg.norm(raw) > 1.5


async def test_more_images_than_are_decoded_at_once(load: Load, tmp_path: Path) -> None:
    """They go through in pieces, of one request and of several beside each other, and none is mixed up."""
    engine = load(write_towers(tmp_path / "clip"))
    many = tuple(image(*THINGS[n % len(THINGS)]) for n in range(21))
    alone = await engine.embed(EmbeddingRequest(texts=many[: len(THINGS)]))
    results = await asyncio.gather(*(engine.embed(EmbeddingRequest(texts=many)) for _ in range(3)))
    for result in results:
        for n, vector in enumerate(result.vectors):
            assert vector == pytest.approx(alone.vectors[n % len(THINGS)], abs=1e-5)


async def test_formats_and_sizes_of_pictures(load: Load, tmp_path: Path) -> None:
    """PNG and JPEG, small and large, wide and high: what matters is what is in their middle."""
    engine = load(write_towers(tmp_path / "clip"))
    wide, high = picture("red", "square", 90).resize((180, 60)), picture("red", "square").resize((40, 200))
    given = (image(), image(kind="jpeg"), image(side=8), image(side=400), Image(encoded(wide)), Image(encoded(high)))
    vectors = (await engine.embed(EmbeddingRequest(texts=given))).vectors
    for vector in vectors[1:]:
        assert vector == pytest.approx(vectors[0], abs=0.02)


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        (("a", Image("no base64!")), InvalidRequest, "image 1 is no base64"),
        ((Image(base64.b64encode(b"GIF89a" + bytes(40)).decode()),), Unsupported, "image 0 is no PNG and no JPEG"),
        ((Image(encoded(picture("red", "square"))[:80]),), InvalidRequest, "image 0 cannot be decoded"),
        (((1, 2), Image("")), InvalidParameter, "mixed"),
        ((Image(""), "a " * 20), PromptTooLong, "text 1 has 22 tokens"),
    ],
)
async def test_wrong_inputs_are_named(
    load: Load, tmp_path: Path, texts: Any, error: type[Exception], words: str
) -> None:
    """By what they are and where they stand; and the engine goes on."""
    engine = load(write_towers(tmp_path / "clip"))
    with pytest.raises(error, match=words):
        await engine.embed(EmbeddingRequest(texts=texts))
    assert (await engine.embed(EmbeddingRequest(texts=(image(),)))).tokens == IMAGE_TOKENS


async def test_a_model_of_texts_refuses_images(starter_embed: Any) -> None:
    """And says which models take them."""
    with pytest.raises(InvalidRequest, match=r"takes texts only, and 1 image\(s\) were sent"):
        await starter_embed.embed(EmbeddingRequest(texts=("a", image())))


async def test_an_unloaded_engine_takes_no_images(load: Load, tmp_path: Path) -> None:
    """It says so, as it does for texts."""
    engine = load(write_towers(tmp_path / "clip"))
    engine.close()
    with pytest.raises(NotReady, match="unloaded"):
        await engine.embed(EmbeddingRequest(texts=(image(),)))


def test_towers_into_different_spaces_are_refused(load: Load, tmp_path: Path) -> None:
    """As when one was exported without its projection."""
    with pytest.raises(WrongWeights, match=r"different spaces: 'text_embeds' .* \[4\], 'image_embeds' .* \[6\]"):
        load(write_towers(tmp_path / "clip", image_width=6))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": {"longest_edge": 32}}, "longest_edge"),
        ({"size": {"height": 32}}, "'size' asks for what is not done"),
        ({"do_pad": True}, "'do_pad'"),
        ({"do_center_crop": False}, "how large"),
        ({"image_mean": None}, "lacks image_mean"),
        ({"image_std": [0, 1, 1]}, "lacks image_mean or image_std"),
        ({"size": 5000, "crop_size": 5000}, "2048"),
        (None, "lack preprocessor_config.json"),
    ],
)
def test_preparations_that_are_not_known_are_refused(
    spec_of: Any, tmp_path: Path, change: dict[str, Any] | None, words: str
) -> None:
    """When the model is deployed, before anything is loaded: else vectors would be wrong without a word."""
    folder = write_towers(tmp_path / "clip")
    spec = spec_of(folder)
    if change is None:
        (folder / "preprocessor_config.json").unlink()
    else:
        (folder / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, **change}))
    with pytest.raises(WrongWeights, match=words):
        OnnxBackend().check(spec)


def test_images_have_their_room_in_the_estimate(spec_of: Any, tmp_path: Path) -> None:
    """Beside what texts need: one picture that is decoded, and those that wait in every slot."""
    spec = spec_of(write_towers(tmp_path / "clip"))
    need = OnnxBackend().estimate(spec)
    assert need.compute_bytes > 7 * 24_000_000 + spec.slots * 8 * 3 * 32 * 32 * 4
    assert need.grows
    assert need.weights_bytes == spec.card.weights_bytes


def test_both_towers_must_be_there(spec_of: Any, tmp_path: Path) -> None:
    """A folder that lost one is refused by name."""
    folder = write_towers(tmp_path / "clip")
    spec = spec_of(folder)
    (folder / "vision_model.onnx").unlink()
    with pytest.raises(WrongWeights, match=r"lack vision_model\.onnx"):
        OnnxBackend().check(spec)


def test_the_card_says_what_they_take(spec_of: Any, tmp_path: Path) -> None:
    """Both modalities, in either layout, and the tokens of an image."""
    for write in (write_towers, write_joint):
        card = spec_of(write(tmp_path / write.__name__)).card
        assert card.modalities == ("text", "image")
        assert card.model_types == (ModelType.EMBEDDING,)
        assert (card.context_length_tokens, card.extra["image_tokens"]) == (16, IMAGE_TOKENS)
        assert card.embedding_length == WIDTH
