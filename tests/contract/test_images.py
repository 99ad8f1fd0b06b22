"""Images in embeddings: small weights with two towers, imported as any are, asked through every dialect that embeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import ollama
import openai
import pytest
from openai import OpenAI
from scale_gp import SGPClient

from tests.contract.conftest import CallLog, Deploy, DeployV4, name_of_its_own
from tests.support import chain
from tests.support.clip_folders import COLOURS, FORMS, IMAGE_TOKENS, data_url, encoded, picture, write_towers
from tests.support.server import Server

THINGS = [(colour, form) for colour in COLOURS for form in FORMS]
TEXTS = [f"a {colour} {form}" for colour, form in THINGS]
URLS = [data_url(picture(*thing)) for thing in THINGS]


@pytest.fixture(scope="module")
def weights(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The artifact's name."""
    name = name_of_its_own("towers")
    folder = write_towers(tmp_path_factory.mktemp("towers") / "clip")
    server.cli("models", "import", str(folder), "--name", name)
    with server.client() as client:
        chain.until(lambda: name in {each["name"] for each in client.get("/admin/artifacts").json()}, "it is listed")
        yield name
        client.delete(f"/admin/artifacts/{name}").raise_for_status()


@pytest.fixture
def towers(deploy: Deploy, weights: str) -> str:
    """The name of a deployment of them."""
    _, deployment = deploy("onnx-embedding", weights)
    return deployment.name


def nearest(texts: list[list[float]], images: list[list[float]]) -> list[int]:
    found: list[int] = (np.array(texts) @ np.array(images).T).argmax(axis=1).tolist()
    return found


def test_a_text_finds_its_picture(openai_client: OpenAI, towers: str, calls: CallLog, admin: httpx.Client) -> None:
    """OpenAI's client embeds texts and data URLs alike; the patches of images are counted and logged."""
    models = {model["id"]: model for model in admin.get("/v1/models").raise_for_status().json()["data"]}
    assert models[towers]["input_modalities"] == ["text", "image"]
    assert models["starter-embed"]["input_modalities"] == ["text"]
    words = openai_client.embeddings.create(model=towers, input=TEXTS)
    with calls.one_more(models[towers]["deployment_id"]) as logged:
        seen = openai_client.embeddings.create(model=towers, input=URLS)
    assert nearest([row.embedding for row in words.data], [row.embedding for row in seen.data]) == [*range(len(THINGS))]
    assert seen.usage.prompt_tokens == seen.usage.total_tokens == IMAGE_TOKENS * len(THINGS) == logged["prompt_tokens"]


def test_items_as_clients_of_others_write_them(member: httpx.Client, towers: str) -> None:
    """Jina's and vLLM's objects, beside texts, in one request: each at its own place."""
    jpeg = encoded(picture("blue", "circle"), "jpeg")
    items = [
        {"image": URLS[0]},
        "a blue circle",
        {"image": jpeg},
        {"type": "image_url", "image_url": {"url": URLS[0]}},
        {"text": "a red square"},
    ]
    answer = member.post("/v1/embeddings", json={"model": towers, "input": items}).raise_for_status().json()
    rows = np.array([row["embedding"] for row in answer["data"]])
    assert rows[0] == pytest.approx(rows[3], abs=1e-6)
    assert rows[1] @ rows[2] > rows[1] @ rows[0]
    assert rows[4] @ rows[0] > rows[4] @ rows[2]


def test_sgp_embeds_images_where_texts_go(
    sgp: SGPClient, deploy_v4: DeployV4, weights: str, member: httpx.Client
) -> None:
    """Its schema has texts: a data URL among them is an image, in the typed route and in both executes."""
    deployment = deploy_v4("onnx-embedding", weights)
    texts = [*TEXTS, *URLS]
    typed = sgp.models.embeddings.create(deployment.id, texts=texts)
    vectors = [vector for _, vector in typed.embeddings]
    assert [text for text, _ in typed.embeddings] == texts
    assert nearest(vectors[: len(TEXTS)], vectors[len(TEXTS) :]) == [*range(len(THINGS))]
    assert typed.tokens_used == 5 * len(THINGS) + IMAGE_TOKENS * len(THINGS)
    of_model = f"models/{deployment.model_instance_id}/deployments/{deployment.id}/execute"
    for version in ("v3", "v4"):
        found = member.post(f"/{version}/{of_model}", json={"texts": URLS[:2]}).raise_for_status().json()
        assert [vector for _, vector in found["embeddings"]] == [pytest.approx(v, abs=1e-5) for v in vectors[6:8]]


def test_ollama_embeds_images(server: Server, towers: str) -> None:
    """The data URL of an image is never words."""
    with ollama.Client(host=server.url, headers={"x-api-key": server.member_key}) as client:
        found = client.embed(model=towers, input=[TEXTS[0], *URLS])
    vectors = [list(vector) for vector in found.embeddings]
    assert nearest(vectors[:1], vectors[1:]) == [0]
    assert found.prompt_eval_count == 5 + IMAGE_TOKENS * len(THINGS)


def test_an_artifact_says_what_it_takes(admin: httpx.Client, weights: str) -> None:
    """So does its card in the console, which is made from this."""
    listed = {each["name"]: each for each in admin.get("/admin/artifacts").raise_for_status().json()}
    assert listed[weights]["modalities"] == ["text", "image"]
    assert listed[weights]["model_types"] == ["EMBEDDING"]
    assert listed["starter-embed"]["modalities"] == ["text"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/embeddings", {"input": URLS[0]}, "takes texts only, and 1 image"),
        ("/v1/embeddings", {"input": ["a", {"image": URLS[0]}]}, "takes texts only, and 1 image"),
        ("/api/embed", {"input": [URLS[0], URLS[1]]}, "takes texts only, and 2 image"),
        ("/api/embeddings", {"prompt": URLS[0]}, "takes texts only, and 1 image"),
    ],
)
def test_a_model_of_texts_answers_images_with_a_400(
    member: httpx.Client, path: str, body: dict[str, Any], words: str
) -> None:
    """In every dialect, and never embeds the base64 as words."""
    refused = member.post(path, json={"model": "starter-embed", **body})
    assert refused.status_code == 400, refused.text
    assert words in refused.text


def test_a_model_of_texts_answers_images_with_a_400_in_sgp(admin: httpx.Client, deploy_v4: DeployV4) -> None:
    """Execute and the typed route alike."""
    deployment = deploy_v4("onnx-embedding", "starter-embed")
    of_model = f"models/{deployment.model_instance_id}/deployments/{deployment.id}/execute"
    for path in (f"/v4/models/{deployment.id}/embeddings", f"/v4/{of_model}", f"/v3/{of_model}"):
        refused = admin.post(path, json={"texts": [URLS[0]]})
        assert refused.status_code == 400, refused.text
        assert "takes texts only" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"image_url": {"url": "https://example.com/cat.png"}}, "data URLs only"),
        ({"image": "http://169.254.169.254/"}, "nothing is fetched"),
        ("data:image/gif;base64,R0lGODlh", "image/gif is not read here"),
        ("data:image/png;base64,R0lGODlh", "no PNG and no JPEG"),
        ("data:image/png;base64,%%%", "no base64"),
    ],
)
def test_what_is_no_image_is_said(openai_client: OpenAI, towers: str, item: Any, words: str) -> None:
    """A 400 with the reason, and nothing is asked of any network."""
    with pytest.raises(openai.BadRequestError, match=words):
        openai_client.embeddings.create(model=towers, input=[item])
