"""Images in conversations: seen, told apart, cached, counted, and never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from appliance.domain.errors import BadWeights, InvalidParameter, InvalidRequest, PromptTooLong
from appliance.domain.inference import IMAGE_MARK, MAX_IMAGE_PIXELS, ChatRequest, Image, Message, Sampling
from appliance.domain.models import ModelType
from appliance.engines.base import EngineSpec
from appliance.engines.llama import vision
from appliance.engines.llama.backend import LlamaBackend
from appliance.engines.llama.engine import LlamaTextEngine, TextOptions
from appliance.engines.llama.runtime import Model
from appliance.engines.llama.vision import Vision
from appliance.store.inspection import inspect
from tests.engines.llama.conftest import OPTIONS
from tests.support.clip_folders import encoded, picture
from tests.support.tiny_projector import IMAGE_TOKENS, write_projector

pytestmark = pytest.mark.skipif(
    not vision.is_available(), reason="this llama-cpp-python was built without libmtmd; run install.sh again"
)

GREEDY = Sampling(temperature=0.0, max_tokens=12)
RED, BLUE = Image(encoded(picture("red", "square"))), Image(encoded(picture("blue", "square")))


def asked(*images: Image, text: str = "what is this", scope: str = "me", **options: Any) -> ChatRequest:
    marks = IMAGE_MARK * len(images)
    turn = Message(role="user", content=f"{marks}{text}", images=images)
    return ChatRequest(messages=(turn,), sampling=GREEDY, cache_scope=scope, **options)


async def told(engine: LlamaTextEngine, request: ChatRequest) -> tuple[str, Any]:
    stream = await engine.chat(request)
    text = "".join([delta.text async for delta in stream])
    return text, stream.usage


def make(weights: Path, projector: Path, **options: Any) -> LlamaTextEngine:
    model = Model(weights)
    sizes: TextOptions = structs.replace(OPTIONS, **options)
    return LlamaTextEngine(model, sizes, vision=Vision(model, projector, threads=1, batch_tokens=sizes.batch_tokens))


@pytest.fixture(scope="session")
def projector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_projector(tmp_path_factory.mktemp("projector") / "mmproj.gguf")


@pytest.fixture
async def seeing(weights: Path, projector: Path) -> AsyncIterator[LlamaTextEngine]:
    engine = make(weights, projector, prefix_bytes=1 << 24)
    yield engine
    engine.close()


@pytest.fixture
def engines(weights: Path, projector: Path) -> Iterator[Any]:
    made: list[LlamaTextEngine] = []

    def make_one(**options: Any) -> LlamaTextEngine:
        made.append(make(weights, projector, **options))
        return made[-1]

    yield make_one
    for engine in made:
        engine.close()


async def test_images_are_seen_and_told_apart(seeing: LlamaTextEngine) -> None:
    """The same image gives the same answer, another one another; without an image it is a third."""
    red, usage = await told(seeing, asked(RED))
    blue, _ = await told(seeing, asked(BLUE))
    none, of_text = await told(seeing, asked())
    again, cached = await told(seeing, asked(RED))
    assert red == again
    assert len({red, blue, none}) == 3
    assert usage.prompt_tokens == of_text.prompt_tokens + IMAGE_TOKENS == await seeing.count_tokens(asked(RED))
    assert usage.cached_tokens == 0
    assert cached.cached_tokens == cached.prompt_tokens - 1


async def test_prefixes_of_different_images_are_never_mixed(seeing: LlamaTextEngine) -> None:
    """Behind the same words, another image begins anew where it stands; so does another account."""
    red, _ = await told(seeing, asked(RED, text=" and so on and so on and so on and so on"))
    blue, usage = await told(seeing, asked(BLUE, text=" and so on and so on and so on and so on"))
    assert red != blue
    assert usage.cached_tokens < 16
    _, of_other = await told(seeing, asked(RED, text=" and so on and so on and so on and so on", scope="other"))
    assert of_other.cached_tokens == 0


async def test_texts_are_as_without_a_projector(weights: Path, seeing: LlamaTextEngine) -> None:
    """Word for word."""
    blind = LlamaTextEngine(Model(weights), OPTIONS)
    try:
        assert (await told(blind, asked()))[0] == (await told(seeing, asked()))[0]
        with pytest.raises(InvalidRequest, match=r"takes text only, and 2 image\(s\)"):
            await blind.chat(asked(RED, BLUE))
    finally:
        blind.close()


async def test_many_at_once_say_what_each_says_alone(engines: Any) -> None:
    """Images of several requests, texts beside them, and less room than all of them need."""
    requests = [asked(RED), asked(BLUE), asked(), asked(RED, BLUE), asked(BLUE, RED, text="and"), asked(RED, text="x")]
    roomy = engines()
    alone = [(await told(roomy, request))[0] for request in requests]
    crowded = engines(cache_tokens=256, slots=4)
    together = await asyncio.gather(*(told(crowded, request) for request in requests * 3))
    assert [text for text, _ in together] == alone * 3
    assert crowded.stats().active == 0


async def test_an_image_larger_than_a_batch(engines: Any) -> None:
    """It is computed in pieces."""
    assert (await told(engines(batch_tokens=8), asked(RED)))[0] == (await told(engines(), asked(RED)))[0]


async def test_guesses_never_quote_an_image(engines: Any) -> None:
    """An answer that goes round in circles is guessed from what was said, not from an image's tokens."""
    request = structs.replace(asked(RED, BLUE, RED), sampling=Sampling(temperature=0.0, max_tokens=100))
    plain, _ = await told(engines(), request)
    guessed, _ = await told(engines(draft_tokens=8), request)
    assert guessed == plain


async def test_leaving_frees_the_slot(seeing: LlamaTextEngine) -> None:
    """As for any generation; the next one is served."""
    stream = await seeing.chat(structs.replace(asked(RED), sampling=Sampling(temperature=0.0, max_tokens=150)))
    stream.close()
    assert (await told(seeing, asked(BLUE)))[0]
    assert seeing.stats().active == 0


async def test_what_cannot_be_read_is_said(seeing: LlamaTextEngine) -> None:
    """Broken images, too many, marks that the template loses, prompts that are too long; and the engine goes on."""
    wrong: list[tuple[ChatRequest, type[Exception], str]] = [
        (asked(RED, Image("%%%")), InvalidRequest, "image 1 is no base64"),
        (asked(*[RED] * 33), InvalidParameter, "33 images"),
        (asked(RED, chat_template="nothing"), InvalidParameter, "places otherwise"),
        (asked(RED, chat_template="{{ messages[0].content[:32] }}"), InvalidParameter, "ends in an image"),
        (asked(*[RED] * 20), PromptTooLong, "has 3"),
    ]
    for request, error, words in wrong:
        with pytest.raises(error, match=words):
            await seeing.chat(request)
    with pytest.raises(InvalidRequest, match="no tokens to show"):
        await seeing.tokenize(asked(RED))
    assert (await told(seeing, asked(RED)))[0]


def test_a_projector_of_another_model_is_refused(weights: Path, tmp_path: Path) -> None:
    """By llama.cpp's own words."""
    model = Model(weights)
    try:
        with pytest.raises(BadWeights, match=r"cannot load 'mmproj\.gguf' over these weights"):
            Vision(model, write_projector(tmp_path / "mmproj.gguf", width=128), threads=1, batch_tokens=64)
    finally:
        model.close()


async def test_without_the_library_texts_are_served(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older build has no libmtmd: an image is a 400 that says how to get it."""

    def missing() -> Any:
        raise InvalidParameter(vision.MISSING)

    monkeypatch.setattr(vision, "_library", missing)
    card = structs.replace(inspect({"tiny.gguf": weights}), modalities=("text", "image"))
    engine: Any = LlamaBackend().load(EngineSpec(model_type=ModelType.CHAT_COMPLETION, weights=weights, card=card))
    try:
        assert (await told(engine, asked()))[0]
        with pytest.raises(InvalidRequest, match=r"without libmtmd.*run install\.sh again"):
            await engine.chat(asked(RED))
    finally:
        engine.close()


def test_a_projector_has_its_room_in_the_estimate(weights: Path) -> None:
    """Its bytes, and one picture that is decoded."""
    card = inspect({"tiny.gguf": weights})
    seeing = structs.replace(card, modalities=("text", "image"), extra=card.extra | {"projector_bytes": 1000})
    needs = [
        LlamaBackend().estimate(EngineSpec(model_type=ModelType.CHAT_COMPLETION, weights=weights, card=each))
        for each in (card, seeing)
    ]
    assert needs[1].compute_bytes - needs[0].compute_bytes == 1000 + 7 * MAX_IMAGE_PIXELS + (32 << 20)
    assert (needs[0].grows, needs[1].grows) == (False, True)
