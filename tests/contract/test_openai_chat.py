"""The ``openai`` client's chats: thoughts apart from the answer, roles, details of usage, fields without effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.contract.conftest import name_of_its_own, settled
from tests.support import chain
from tests.support.server import Server
from tests.support.tiny_models import write_llama

CHAT = "starter-chat"
HELLO: Any = [{"role": "user", "content": "hello"}]

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
    "{{ '<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking else '<think>\n' }}"
)
"""Of a model that thinks unless it is told not to: the prompt begins the thought for it."""


@pytest.fixture(scope="module")
def thinker(server: Server) -> Iterator[str]:
    """A tiny model with such a template; what it says means nothing."""
    name = name_of_its_own("thinker")
    path = write_llama(Path(server.home) / "import" / f"{name}.gguf", chat_template=THINKING)
    with server.client() as client:
        chain.import_weights(client, path, name)
        model_id = chain.make_model(client, chain.CHAT, name, name, "CHAT_COMPLETION")
        made = client.post(f"/v3/models/{model_id}/deployments", json={"name": name}).raise_for_status().json()
        yield made["id"]
        client.delete(f"/v3/models/{model_id}/deployments/{made['id']}").raise_for_status()
        client.delete(f"/v3/models/{model_id}").raise_for_status()
        client.delete(f"/admin/artifacts/{name}").raise_for_status()
    path.unlink()


def test_thoughts_come_by_themselves(thinker: str, member: httpx.Client, server: Server) -> None:
    """What a model thinks is ``reasoning_content``, streamed and not, and counted; the answer holds none of it."""
    request: dict[str, Any] = {"model": thinker, "messages": HELLO, "temperature": 0, "max_tokens": 12}
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.admin_key, max_retries=0) as client:
        whole = settled(lambda: client.chat.completions.create(**request))
        message = whole.choices[0].message
        assert getattr(message, "reasoning_content", "")
        assert message.content == ""
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.completion_tokens_details is not None
        assert whole.usage.completion_tokens_details.reasoning_tokens == 12

        with client.chat.completions.create(**request, stream=True) as stream:
            deltas = [chunk.choices[0].delta for chunk in stream]
        thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        assert thoughts == getattr(message, "reasoning_content", None)
        assert not any(delta.content for delta in deltas)


def test_thinking_can_be_turned_off(thinker: str, server: Server) -> None:
    """``reasoning_effort`` ``none`` reaches the template's switch: then all is answer."""
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.admin_key, max_retries=0) as client:
        answer = client.chat.completions.create(
            model=thinker, messages=HELLO, temperature=0, max_tokens=6, reasoning_effort="none"
        )
    assert answer.choices[0].message.content
    assert getattr(answer.choices[0].message, "reasoning_content", None) is None
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_thoughts_go_back_to_the_template(thinker: str, admin: httpx.Client) -> None:
    """Sent back with the conversation they reach the template, which keeps them or not."""

    def count(**thoughts: str) -> int:
        talk = [*HELLO, {"role": "assistant", "content": "hi", **thoughts}, *HELLO]
        answer = admin.post("/v1/tokenize", json={"model": thinker, "messages": talk}).raise_for_status()
        return int(answer.json()["count"])

    assert count(reasoning_content="a long thought") == count(reasoning="a long thought") > count()


def test_marks_of_thoughts_are_text_where_the_model_knows_none(openai_client: OpenAI, server: Server) -> None:
    """The starter does not think: nothing of its answers is taken for thoughts, and any effort is the same to it."""
    answer = openai_client.chat.completions.create(
        model=CHAT, messages=HELLO, temperature=0, max_tokens=6, reasoning_effort="high"
    )
    assert answer.choices[0].message.content
    assert getattr(answer.choices[0].message, "reasoning_content", None) is None


def test_a_developers_words_are_the_systems(openai_client: OpenAI) -> None:
    """The role ``developer`` is the same prompt as ``system``."""

    def tokens(role: Any) -> Any:
        return openai_client.chat.completions.create(
            model=CHAT, messages=[{"role": role, "content": "Be kind."}, *HELLO], temperature=0, max_tokens=8
        )

    developer, system = settled(lambda: tokens("developer")), tokens("system")
    assert developer.choices[0].message.content == system.choices[0].message.content
    assert developer.usage.prompt_tokens == system.usage.prompt_tokens


def test_usage_tells_cached_tokens(openai_client: OpenAI) -> None:
    """A prompt that was computed before is counted as cached, and still as prompt."""
    request: dict[str, Any] = {
        "model": CHAT,
        "messages": [{"role": "user", "content": "Tell me about model groups, and name every step of it. " * 4}],
        "temperature": 0,
        "max_tokens": 4,
    }
    usage = settled(lambda: openai_client.chat.completions.create(**request)).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert 0 < (usage.prompt_tokens_details.cached_tokens or 0) < usage.prompt_tokens


def test_chunks_before_the_last_have_no_usage(openai_client: OpenAI) -> None:
    """With ``include_usage`` every chunk has the field, and only the last one a value."""
    with openai_client.chat.completions.create(
        model=CHAT, messages=HELLO, max_tokens=3, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = list(stream)
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)
    assert last.usage is not None


def test_fields_without_effect_are_accepted(openai_client: OpenAI) -> None:
    """Labels, hints and OpenAI's own arrangements change nothing of an answer."""
    plain: dict[str, Any] = {"model": CHAT, "messages": HELLO, "temperature": 0, "max_tokens": 8}
    labelled = openai_client.chat.completions.create(
        **plain,
        user="me",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        safety_identifier="x",
        prompt_cache_key="y",
        prediction={"type": "content", "content": "hi"},
        modalities=["text"],
        verbosity="medium",
    )
    again = settled(lambda: openai_client.chat.completions.create(**plain))
    assert labelled.choices[0].message.content == again.choices[0].message.content


NOT_SERVED: list[dict[str, Any]] = [
    {"audio": {"voice": "alloy", "format": "wav"}},
    {"modalities": ["audio"]},
    {"web_search_options": {}},
    {"functions": []},
    {"function_call": "auto"},
    {"verbosity": "low"},
    {"moderation": {"model": "m"}},
]


@pytest.mark.parametrize("asked", NOT_SERVED, ids=lambda asked: str(next(iter(asked))))
def test_fields_that_are_not_served_are_a_400(asked: dict[str, Any], openai_client: OpenAI) -> None:
    """Each is named, in the message and as ``param``."""
    (name,) = asked
    with pytest.raises(openai.BadRequestError, match=name) as raised:
        openai_client.chat.completions.create(model=CHAT, messages=HELLO, extra_body=asked)
    assert (raised.value.param, raised.value.code) == (name, "unsupported")
