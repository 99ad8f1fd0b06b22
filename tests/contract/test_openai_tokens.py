"""``/v1/tokenize`` and ``/v1/detokenize``: what a prompt costs, for every kind of local model."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.contract.conftest import CallLog, Starters

CHAT, EMBED, RERANK = "starter-chat", "starter-embed", "starter-rerank"
TALK: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


def tokens_of(client: httpx.Client, **body: Any) -> dict[str, Any]:
    """The answer to a question for tokens."""
    found: dict[str, Any] = client.post("/v1/tokenize", json=body).raise_for_status().json()
    return found


def text_of(client: httpx.Client, model: str, tokens: list[int]) -> str:
    """The text of tokens, which stands under both names."""
    found = client.post("/v1/detokenize", json={"model": model, "tokens": tokens}).raise_for_status().json()
    assert found["prompt"] == found["content"]
    return str(found["prompt"])


def test_a_text_and_back(member: httpx.Client) -> None:
    """Without the marks around it a text comes back as it was; the count is that of the ids."""
    text = "Grüße, 世界! A key opens it."
    found = tokens_of(member, model=CHAT, prompt=text, add_special_tokens=False)
    assert found["count"] == len(found["tokens"]) > 0
    assert found["max_model_len"] >= 1024
    assert text_of(member, CHAT, found["tokens"]) == text


def test_the_count_is_what_a_call_costs(member: httpx.Client, calls: CallLog, starters: Starters) -> None:
    """Of a prompt, and of a conversation with tools: as many tokens as the call is charged; counting is no call."""
    asked: dict[str, Any] = {"model": CHAT, "messages": TALK, "tools": [TOOL]}
    before = len(calls.of(starters.chat))
    chat, text = tokens_of(member, **asked)["count"], tokens_of(member, model=CHAT, prompt="A key")["count"]
    assert len(calls.of(starters.chat)) == before
    answer = member.post("/v1/chat/completions", json={**asked, "max_tokens": 1}).raise_for_status().json()
    assert answer["usage"]["prompt_tokens"] == chat > tokens_of(member, model=CHAT, messages=TALK)["count"]
    answer = member.post("/v1/completions", json={"model": CHAT, "prompt": "A key", "max_tokens": 1}).json()
    assert answer["usage"]["prompt_tokens"] == text


@pytest.mark.parametrize("model", [EMBED, RERANK])
def test_encoders_count_too(model: str, member: httpx.Client) -> None:
    """Their tokenizer's marks around the text are part of the count unless they are left out."""
    whole, bare = (
        tokens_of(member, model=model, prompt="bananas are yellow", add_special_tokens=special)
        for special in (True, False)
    )
    assert whole["count"] == bare["count"] + 2
    assert "bananas are yellow" in text_of(member, model, bare["tokens"])
    refused = member.post("/v1/tokenize", json={"model": model, "messages": TALK})
    assert refused.status_code == 400
    assert "messages" in refused.json()["detail"]


def test_an_embedding_costs_what_was_counted(member: httpx.Client) -> None:
    """The count of a text is what embedding it is charged."""
    counted = tokens_of(member, model=EMBED, prompt="bananas are yellow")["count"]
    answer = member.post("/v1/embeddings", json={"model": EMBED, "input": "bananas are yellow"}).json()
    assert answer["usage"]["prompt_tokens"] == counted


def test_the_shapes_of_both_servers(member: httpx.Client) -> None:
    """vLLM: ``prompt`` with marks, and the tokens' texts; llama-server: ``content`` without, and pieces with ids."""
    vllm = tokens_of(member, model=EMBED, prompt="bananas", return_token_strs=True)
    assert len(vllm["token_strs"]) == vllm["count"]
    llama = tokens_of(member, model=EMBED, content="bananas", with_pieces=True)
    assert llama["count"] == vllm["count"] - 2
    assert [piece["id"] for piece in llama["tokens"]] == vllm["tokens"][1:-1]
    assert all(piece["piece"] for piece in llama["tokens"])
