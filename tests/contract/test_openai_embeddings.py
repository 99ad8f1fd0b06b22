"""Embeddings from token ids, and the fields of rerank that Cohere's and Jina's clients send."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

EMBED, RERANK = "starter-embed", "starter-rerank"


def test_token_ids_are_the_models_own(openai_client: OpenAI, member: httpx.Client) -> None:
    """The ids that the tokenizer gives for a text give its vector: one list is one input, a list of lists several."""
    text = "a model group is a namespace"
    ids = member.post("/v1/tokenize", json={"model": EMBED, "prompt": text}).raise_for_status().json()["tokens"]
    words = openai_client.embeddings.create(model=EMBED, input=text, encoding_format="float")
    one = openai_client.embeddings.create(model=EMBED, input=ids, encoding_format="float")
    assert one.data[0].embedding == pytest.approx(words.data[0].embedding, abs=1e-4)
    assert one.usage.prompt_tokens == words.usage.prompt_tokens == len(ids)
    two = openai_client.embeddings.create(model=EMBED, input=[ids, ids[:3]], encoding_format="float")
    assert two.data[0].embedding == pytest.approx(words.data[0].embedding, abs=1e-2)
    assert two.usage.prompt_tokens == len(ids) + 3


@pytest.mark.parametrize(
    ("wrong", "words"), [([99_999_999], "99999999"), ([[]], "no tokens"), ([], "length"), (["a", [1]], "mixed")]
)
def test_wrong_inputs_are_named(wrong: Any, words: str, member: httpx.Client) -> None:
    """Ids of another vocabulary, nothing at all, and mixtures."""
    refused = member.post("/v1/embeddings", json={"model": EMBED, "input": wrong})
    assert refused.status_code == 422
    assert words in refused.json()["detail"]


def test_more_texts_than_one_request_takes(openai_client: OpenAI) -> None:
    """The bound is on texts, not on the tokens of one."""
    with pytest.raises(openai.UnprocessableEntityError, match="4097 texts"):
        openai_client.embeddings.create(model=EMBED, input=["a"] * 4097)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_documents_may_be_objects(path: str, member: httpx.Client) -> None:
    """Ranked by their ``text`` or by the fields that are named, and given back as they were sent."""
    documents = [{"title": "fruit", "body": "bananas"}, {"title": "access", "body": "an API key opens the appliance"}]
    body: dict[str, Any] = {"model": RERANK, "query": "how do I get an API key?", "documents": documents}
    answer = member.post(
        path, json={**body, "rank_fields": ["title", "body"], "return_documents": True}
    ).raise_for_status()
    results = answer.json()["results"]
    assert [result["document"] for result in results] == [documents[1], documents[0]]
    assert answer.json()["meta"]["tokens"]["input_tokens"] == answer.json()["usage"]["total_tokens"] > 0
    refused = member.post(path, json=body)
    assert refused.status_code == 422
    assert "documents[0]" in refused.json()["detail"]
