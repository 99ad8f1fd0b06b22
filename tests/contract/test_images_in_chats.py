"""A model of texts answers an image with a 400 that says so, in every dialect, and never as if it were not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest
import scale_gp
from openai import OpenAI
from scale_gp import SGPClient

from tests.contract.conftest import NO_TLS, DeployV4, Starters
from tests.support.clip_folders import data_url, encoded, picture
from tests.support.server import Server

CHAT = "starter-chat"
PNG = encoded(picture("red", "square"))
URL = data_url(picture("red", "square"))
OPENAI_PART: dict[str, Any] = {"type": "image_url", "image_url": {"url": URL}}
ANTHROPIC_BLOCK: dict[str, Any] = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
}


def said(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]


@pytest.mark.parametrize("stream", [False, True])
def test_openai(openai_client: OpenAI, stream: bool) -> None:
    """Chat completions, before a stream begins."""
    with pytest.raises(openai.BadRequestError, match=r"takes text only, and 1 image\(s\)"):
        openai_client.chat.completions.create(model=CHAT, messages=said(OPENAI_PART), stream=stream)


def test_openai_responses(openai_client: OpenAI) -> None:
    """And the count of a response's tokens."""
    part: Any = {"type": "input_image", "image_url": URL}
    message: Any = [{"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, part]}]
    for ask in (openai_client.responses.create, openai_client.responses.input_tokens.count):
        with pytest.raises(openai.BadRequestError, match=r"takes text only, and 1 image\(s\)"):
            ask(model=CHAT, input=message)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/tokenize", "/v4/beta/chat/completions"])
def test_bodies_of_openai_elsewhere(member: httpx.Client, path: str) -> None:
    """Wherever such messages are read."""
    refused = member.post(path, json={"model": CHAT, "messages": said(OPENAI_PART)})
    assert refused.status_code == 400, refused.text
    assert "1 image(s) were sent" in refused.json()["detail"]


def test_anthropic(server: Server) -> None:
    """In a message, in the result of a tool, and where tokens are counted."""
    call = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [ANTHROPIC_BLOCK]}
    of_tool: list[Any] = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    http = anthropic.DefaultHttpxClient(verify=NO_TLS)
    with anthropic.Anthropic(base_url=server.url, api_key=server.member_key, max_retries=0, http_client=http) as client:
        for messages in (said(ANTHROPIC_BLOCK), of_tool):
            with pytest.raises(anthropic.BadRequestError, match=r"takes text only, and 1 image\(s\)"):
                client.messages.create(model=CHAT, max_tokens=8, messages=messages)
            with pytest.raises(anthropic.BadRequestError, match=r"takes text only, and 1 image\(s\)"):
                client.messages.count_tokens(model=CHAT, messages=messages)


def test_ollama(server: Server) -> None:
    """In chats and in prompts."""
    with ollama.Client(host=server.url, headers={"x-api-key": server.member_key}) as client:
        asks: list[Callable[[], Any]] = [
            lambda: client.chat(CHAT, [{"role": "user", "content": "What is this?", "images": [PNG]}]),
            lambda: client.generate(CHAT, "What is this?", images=[PNG]),
        ]
        for ask in asks:
            with pytest.raises(ollama.ResponseError, match=r"takes text only, and 1 image\(s\)") as refused:
                ask()
            assert refused.value.status_code == 400


def test_sgp_by_name(sgp: SGPClient, member: httpx.Client) -> None:
    """v2 and v4 have a field for images."""
    with pytest.raises(scale_gp.BadRequestError, match="takes text only"):
        sgp.completions.create(model=CHAT, prompt="What is this?", images=[{"image_url": URL}])
    for path in ("/v2/completions", "/egp/v1/completions"):
        refused = member.post(path, json={"model": CHAT, "prompt": "What is this?", "images": [{"image_url": URL}]})
        assert refused.status_code == 400, refused.text
        assert "takes text only" in refused.json()["detail"]


def test_sgp_by_deployment(admin: httpx.Client, starters: Starters, deploy_v4: DeployV4) -> None:
    """Contents are texts there: anything else is no sound body (422), and no model is asked."""
    listed = {each["id"]: each for each in admin.get("/v4/model-deployments", params={"limit": 100}).json()["items"]}
    model_id = listed[starters.chat]["model_instance_id"]
    for version in ("v3", "v4"):
        path = f"/{version}/models/{model_id}/deployments/{starters.chat}/execute"
        refused = admin.post(path, json={"messages": said(OPENAI_PART)})
        assert refused.status_code == 422, refused.text
        assert "messages[0].content" in refused.json()["detail"]
