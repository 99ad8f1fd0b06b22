"""The ``openai`` client's completions beyond the plain ones: echoed prompts, and the best of several texts."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.contract.conftest import CallLog, Starters, name_of_its_own, settled
from tests.support import chain
from tests.support.server import Server
from tests.support.tiny_models import write_llama

CHAT = "starter-chat"


def test_an_echoed_prompt_stands_before_the_text(openai_client: OpenAI) -> None:
    """With ``echo`` the text begins with the prompt, given as text or as token ids, and costs no more tokens."""
    request: dict[str, Any] = {"model": CHAT, "prompt": "A model group", "max_tokens": 6, "temperature": 0}
    plain = settled(lambda: openai_client.completions.create(**request))
    echoed = openai_client.completions.create(**request, echo=True)
    assert echoed.choices[0].text == "A model group" + plain.choices[0].text
    assert echoed.usage is not None
    assert plain.usage is not None
    assert echoed.usage.completion_tokens == plain.usage.completion_tokens

    ids = [300, 301, 302]
    alone = openai_client.completions.create(**{**request, "prompt": ids})
    with_ids = openai_client.completions.create(**{**request, "prompt": ids}, echo=True)
    assert with_ids.choices[0].text.endswith(alone.choices[0].text)
    assert len(with_ids.choices[0].text) > len(alone.choices[0].text)


def test_an_echoed_prompt_streams_first(openai_client: OpenAI) -> None:
    """The first piece begins with the prompt, also where a stop text stands in it."""
    with openai_client.completions.create(
        model=CHAT, prompt="A key stops", max_tokens=4, temperature=0, echo=True, stream=True, stop=["stops"]
    ) as stream:
        pieces = [chunk.choices[0].text for chunk in stream]
    assert pieces[0].startswith("A key stops")


def test_a_gap_is_filled(openai_client: OpenAI, server: Server, admin: httpx.Client) -> None:
    """``suffix`` comes behind the answer where the model has the tokens for it, as the prompt that it makes; streamed
    the same."""
    name, marks = name_of_its_own("gaps"), ("<|im_start|>", "<tool_call>", "</tool_call>")
    path = write_llama(server.home / "import" / f"{name}.gguf", seed=41, add_bos=False, gap_marks=marks)
    chain.import_weights(admin, path, name)
    deployed = chain.deploy(admin, "llama-cpp-completion", name, name, "COMPLETION")
    request: dict[str, Any] = {"model": name, "max_tokens": 8, "temperature": 0, "logprobs": 0}
    written = openai_client.completions.create(**request, prompt="<|im_start|>the<tool_call> end</tool_call>")
    filled = openai_client.completions.create(**request, prompt="the", suffix=" end")
    assert filled.choices[0].text == written.choices[0].text
    assert filled.usage is not None
    assert written.usage is not None
    assert filled.usage.prompt_tokens == written.usage.prompt_tokens
    with openai_client.completions.create(**request, prompt="the", suffix=" end", stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == written.choices[0].text
    plain = openai_client.completions.create(**request, prompt="the", suffix="")
    assert plain.usage is not None
    assert plain.usage.prompt_tokens < filled.usage.prompt_tokens
    chain.remove(admin, deployed)
    admin.delete(f"/admin/artifacts/{name}").raise_for_status()


def test_the_best_of_several(openai_client: OpenAI, calls: CallLog, starters: Starters) -> None:
    """``best_of`` generates as many and gives the likeliest first; all of them are counted."""
    request: dict[str, Any] = {"model": CHAT, "prompt": "Once", "temperature": 1.0, "max_tokens": 8, "seed": 5}
    four = settled(lambda: openai_client.completions.create(**request, n=4, logprobs=0))

    def likelihood(choice: Any) -> float:
        found: list[float] = choice.logprobs.token_logprobs
        return sum(found) / len(found)

    expected = [choice.text for choice in sorted(four.choices, key=likelihood, reverse=True)]
    with calls.one_more(starters.chat) as logged:
        best = openai_client.completions.create(**request, n=2, best_of=4)
    assert [choice.text for choice in best.choices] == expected[:2]
    assert [choice.index for choice in best.choices] == [0, 1]
    assert all(choice.logprobs is None for choice in best.choices)
    assert best.usage is not None
    assert four.usage is not None
    assert best.usage.completion_tokens == four.usage.completion_tokens == logged["response_tokens"]


def test_the_best_cannot_be_streamed(openai_client: OpenAI) -> None:
    """Which is best is known in the end; fewer than ``n`` make no sense."""
    with pytest.raises(openai.BadRequestError, match="stream"):
        openai_client.completions.create(model=CHAT, prompt="A", best_of=2, stream=True)
    with pytest.raises(openai.UnprocessableEntityError, match="best_of"):
        openai_client.completions.create(model=CHAT, prompt="A", best_of=1, n=2)
