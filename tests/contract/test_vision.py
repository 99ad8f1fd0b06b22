"""Images in chats: a small model imported with its projector, asked by the official clients of three dialects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import pytest
from openai import BadRequestError, OpenAI

from appliance.engines.llama import vision
from tests.contract.conftest import NO_TLS, CallLog, Deploy, name_of_its_own
from tests.support import chain
from tests.support.clip_folders import data_url, encoded, picture
from tests.support.server import Server
from tests.support.tiny_models import write_llama
from tests.support.tiny_projector import IMAGE_TOKENS, write_projector

pytestmark = pytest.mark.skipif(
    not vision.is_available(), reason="this llama-cpp-python was built without libmtmd; run install.sh again"
)

RED, BLUE = picture("red", "square"), picture("blue", "square")
TEXT = "What is this?"


@pytest.fixture(scope="module")
def weights(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The artifact's name. Its first load was in a child process, with an image."""
    folder, name = tmp_path_factory.mktemp("vision"), name_of_its_own("vision")
    model, projector = write_llama(folder / "model.gguf"), write_projector(folder / "projector.gguf")
    server.cli("models", "import", str(model), "--projector", str(projector), "--name", name)
    with server.client() as client:
        chain.until(lambda: name in {each["name"] for each in client.get("/admin/artifacts").json()}, "it is listed")
        yield name
        client.delete(f"/admin/artifacts/{name}").raise_for_status()


@pytest.fixture
def seeing(deploy: Deploy, weights: str) -> str:
    """The name of a deployment of it."""
    _, deployment = deploy("llama-cpp-chat-completion", weights)
    return deployment.name


def test_a_projector_of_another_model_is_refused_at_the_import(server: Server, tmp_path: Path) -> None:
    """The first load of both is in a child process; nothing is registered."""
    model, projector = write_llama(tmp_path / "model.gguf"), write_projector(tmp_path / "other.gguf", width=128)
    command = ["models", "import", str(model), "--projector", str(projector), "--name", name_of_its_own("wrong")]
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *command],
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "cannot load 'mmproj.gguf' over these weights" in done.stderr


def test_openai(openai_client: OpenAI, seeing: str, admin: httpx.Client, calls: CallLog) -> None:
    """Whole and streamed, the answer follows from the image; its tokens are the prompt's, and are logged."""

    def ask(*drawn: Any, **options: Any) -> Any:
        parts: list[Any] = [
            {"type": "image_url", "image_url": {"url": data_url(each), "detail": "low"}} for each in drawn
        ]
        messages: Any = [{"role": "user", "content": [*parts, {"type": "text", "text": TEXT}]}]
        return openai_client.chat.completions.create(
            model=seeing, messages=messages, temperature=0, max_tokens=16, **options
        )

    models = {model["id"]: model for model in admin.get("/v1/models").raise_for_status().json()["data"]}
    assert models[seeing]["input_modalities"] == ["text", "image"]
    red, blue, none = ask(RED), ask(BLUE), ask()
    texts = [answer.choices[0].message.content for answer in (red, blue, none)]
    assert len(set(texts)) == 3
    with calls.one_more(models[seeing]["deployment_id"]) as logged:
        again = ask(RED)
    assert again.choices[0].message.content == texts[0]
    assert red.usage.prompt_tokens == none.usage.prompt_tokens + IMAGE_TOKENS == logged["prompt_tokens"]
    assert again.usage.prompt_tokens_details.cached_tokens == logged["cached_tokens"] > IMAGE_TOKENS
    streamed = "".join(piece.choices[0].delta.content or "" for piece in ask(RED, stream=True))
    assert streamed == texts[0]
    cut = encoded(RED)[:80]
    with pytest.raises(BadRequestError, match="image 0 cannot be decoded"):
        openai_client.chat.completions.create(
            model=seeing,
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{cut}"}}],
                }
            ],
        )


def test_openai_responses(openai_client: OpenAI, seeing: str) -> None:
    """Its input_image is the same image."""

    def ask(drawn: Any) -> Any:
        parts: Any = [
            {"type": "input_image", "image_url": data_url(drawn)},
            {"type": "input_text", "text": TEXT},
        ]
        return openai_client.responses.create(
            model=seeing, input=[{"role": "user", "content": parts}], temperature=0, max_output_tokens=16
        )

    assert ask(RED).output_text != ask(BLUE).output_text


def test_anthropic(server: Server, seeing: str) -> None:
    """Blocks of base64, in what the user says and in what a tool gave; counted alike."""

    def block(drawn: Any) -> Any:
        source = {"type": "base64", "media_type": "image/png", "data": encoded(drawn)}
        return {"type": "image", "source": source}

    http = anthropic.DefaultHttpxClient(verify=NO_TLS)
    with anthropic.Anthropic(base_url=server.url, api_key=server.member_key, max_retries=0, http_client=http) as client:

        def ask(drawn: Any) -> Any:
            content = [block(drawn), {"type": "text", "text": TEXT}]
            return client.messages.create(
                model=seeing,
                max_tokens=16,
                messages=[{"role": "user", "content": content}],
                extra_body={"temperature": 0},
            )

        red, blue = ask(RED), ask(BLUE)
        assert red.content[0].text != blue.content[0].text
        counted = client.messages.count_tokens(
            model=seeing, messages=[{"role": "user", "content": [block(RED), {"type": "text", "text": TEXT}]}]
        )
        assert counted.input_tokens == red.usage.input_tokens + (red.usage.cache_read_input_tokens or 0)
        call: Any = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
        result: Any = {"type": "tool_result", "tool_use_id": "t1", "content": [block(RED)]}
        after = client.messages.create(
            model=seeing,
            max_tokens=4,
            messages=[
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result]},
            ],
        )
        assert after.usage.input_tokens > IMAGE_TOKENS


def test_ollama(server: Server, seeing: str) -> None:
    """Images beside the text, in chats and in prompts; and what the model is says that it sees."""
    with ollama.Client(host=server.url, headers={"x-api-key": server.member_key}) as client:
        assert "vision" in (client.show(seeing).capabilities or [])
        options = {"temperature": 0, "num_predict": 16}

        def chat(drawn: Any) -> str:
            turn = {"role": "user", "content": TEXT, "images": [encoded(drawn)]}
            return client.chat(seeing, [turn], options=options).message.content or ""

        assert chat(RED) != chat(BLUE)
        red = client.generate(seeing, TEXT, images=[encoded(RED)], options=options).response
        assert red == chat(RED)
        with pytest.raises(ollama.ResponseError, match="no place for them"):
            client.generate(seeing, TEXT, images=[encoded(RED)], raw=True)
