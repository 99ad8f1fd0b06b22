"""The official ``scale-gp`` client in strict mode: completions, chat, embeddings and rerankings by deployment id."""

from __future__ import annotations

from math import hypot
from typing import Any

import pytest
from scale_gp import AsyncSGPClient, BadRequestError, NotFoundError, SGPClient, UnprocessableEntityError

from tests.contract.conftest import CallLog, DeployV4, Starters, settled

HELLO = "Hello, what can you do?"


def text_of(answer: Any) -> str:
    """The text of a completion, or of a piece of one."""
    return str(answer.completions[0][1][0])


def test_a_completion(sgp: SGPClient, deploy_v4: DeployV4, calls: CallLog) -> None:
    """A prompt comes back with its text and the logged tokens; logprobs are null unless asked for."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    with calls.one_more(deployment.id) as logged:
        answer = sgp.models.completions.create(deployment.id, prompt="A model", temperature=0, max_tokens=6)
    ((prompt, texts),) = answer.completions
    assert (prompt, len(texts)) == ("A model", 1)
    assert answer.finish_reason == logged["finish_reason"]
    assert (answer.prompt_tokens, answer.response_tokens) == (logged["prompt_tokens"], logged["response_tokens"])
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v4", "COMPLETION")
    assert answer.choices is None


def test_a_completion_streams(sgp: SGPClient, deploy_v4: DeployV4) -> None:
    """Every event is a whole CompletionResponse whose text is the new piece; the last one alone has the tokens."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)

    def whole() -> Any:
        return sgp.models.completions.create(deployment.id, prompt="A model", temperature=0, max_tokens=12)

    answer = settled(whole)
    pieces = list(
        sgp.models.completions.create(deployment.id, prompt="A model", temperature=0, max_tokens=12, stream=True)
    )
    assert "".join(text_of(piece) for piece in pieces) == text_of(answer)
    assert {piece.completions[0][0] for piece in pieces} == {"A model"}
    assert [(p.finish_reason, p.prompt_tokens, p.response_tokens) for p in pieces[:-1]] == [(None, None, None)] * (
        len(pieces) - 1
    )
    last = pieces[-1]
    assert (last.finish_reason, last.prompt_tokens, last.response_tokens) == (
        answer.finish_reason,
        answer.prompt_tokens,
        answer.response_tokens,
    )


def test_logprobs(sgp: SGPClient, deploy_v4: DeployV4) -> None:
    """Asked for they come with their alternatives, in the answer and piece by piece."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    asked: dict[str, Any] = {
        "prompt": "A model",
        "temperature": 0,
        "max_tokens": 4,
        "logprobs": True,
        "top_logprobs": 2,
    }
    answer = sgp.models.completions.create(deployment.id, **asked)
    assert answer.choices is not None
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content
    assert len(content) == answer.response_tokens
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in content)
    pieces = list(sgp.models.completions.create(deployment.id, stream=True, **asked))
    streamed = [
        token.token
        for piece in pieces
        for choice in piece.choices or ()
        if choice.logprobs is not None
        for token in choice.logprobs.content or ()
    ]
    assert streamed == [token.token for token in content]
    with pytest.raises(UnprocessableEntityError, match="top_logprobs needs logprobs"):
        sgp.models.completions.create(deployment.id, prompt="A", top_logprobs=2)


def test_a_chat(sgp: SGPClient, starters: Starters, calls: CallLog) -> None:
    """History and prompt are one conversation; a chat answers with completions too, as its type says."""
    with calls.one_more(starters.chat) as short:
        sgp.models.chat_completions.create(starters.chat, chat_history=[], prompt=HELLO, max_tokens=4)
    history: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Who are "}, {"type": "text", "text": "you?"}]},
        {"role": "assistant", "content": "A model."},
    ]
    with calls.one_more(starters.chat) as long:
        answer = sgp.models.chat_completions.create(
            starters.chat, chat_history=history, prompt=HELLO, temperature=0, max_tokens=16
        )
    assert answer.completions[0][0] == HELLO
    assert text_of(answer).strip()
    assert long["prompt_tokens"] > short["prompt_tokens"]
    assert (answer.prompt_tokens, long["model_type"]) == (long["prompt_tokens"], "CHAT_COMPLETION")


async def test_the_asynchronous_client_streams_a_chat(async_sgp: AsyncSGPClient, starters: Starters) -> None:
    """The pieces join to the answer, and the last one has the tokens."""

    async def whole() -> Any:
        return await async_sgp.models.chat_completions.create(
            starters.chat, chat_history=[], prompt=HELLO, temperature=0, max_tokens=24
        )

    await whole()
    answer = await whole()
    stream = await async_sgp.models.chat_completions.create(
        starters.chat, chat_history=[], prompt=HELLO, temperature=0, max_tokens=24, stream=True
    )
    pieces = [piece async for piece in stream]
    assert "".join(text_of(piece) for piece in pieces) == text_of(answer)
    assert (pieces[-1].prompt_tokens, pieces[-1].response_tokens) == (answer.prompt_tokens, answer.response_tokens)


def test_sampling_keys_count(sgp: SGPClient, starters: Starters) -> None:
    """``top_k`` (a float to the client), ``top_p``, a seed among the bindings and a template change what comes."""

    def ask(**options: Any) -> str:
        return text_of(
            sgp.models.chat_completions.create(
                starters.chat, chat_history=[], prompt=HELLO, **{"temperature": 1.5, "max_tokens": 12, **options}
            )
        )

    greedy = settled(lambda: ask(temperature=0))
    assert ask(top_k=1.0) == greedy
    assert ask(top_p=0.0001) == greedy
    bound = {"bindings": {"seed": 7}}
    assert ask(model_request_parameters=bound) == ask(model_request_parameters=bound)
    assert ask(stop_sequences=[greedy[:1]], temperature=0) == ""
    own = "{{ messages[-1].content | upper }}{{ ' ' ~ tail }}"
    shaped = sgp.models.chat_completions.create(
        starters.chat,
        chat_history=[],
        prompt=HELLO,
        max_tokens=1,
        chat_template=own,
        chat_template_kwargs={"tail": "one two three four five six seven eight nine ten"},
    )
    plain = sgp.models.chat_completions.create(
        starters.chat, chat_history=[], prompt=HELLO, max_tokens=1, chat_template=own, reasoning_effort="low"
    )
    assert shaped.prompt_tokens is not None
    assert plain.prompt_tokens is not None
    assert shaped.prompt_tokens > plain.prompt_tokens
    for wrong, match in (
        ({"top_k": 1.5}, "whole"),
        ({"temperature": 2.1}, "temperature"),
        ({"stop_sequences": ["a", "b", "c", "d", "e"]}, "stop_sequences"),
        ({"model_request_parameters": {"bindings": {"colour": 1}}}, "colour"),
        ({"chat_template_kwargs": {"messages": []}}, "messages"),
    ):
        with pytest.raises(UnprocessableEntityError, match=match):
            ask(**wrong)


def test_a_completion_has_no_template(sgp: SGPClient, deploy_v4: DeployV4) -> None:
    """What shapes a chat is refused where the prompt is completed as it stands, never ignored."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    for option in ({"chat_template": "x"}, {"reasoning_effort": "low"}, {"chat_template_kwargs": {"a": 1}}):
        with pytest.raises(UnprocessableEntityError, match="chat model"):
            sgp.models.completions.create(deployment.id, prompt="A", **option)


def test_embeddings(sgp: SGPClient, starters: Starters, calls: CallLog) -> None:
    """Pairs of text and vector, never bare vectors (contract 4.2)."""
    texts = ["first", "a second, longer text"]
    with calls.one_more(starters.embed) as logged:
        answer = sgp.models.embeddings.create(starters.embed, texts=texts)
    assert [pair[0] for pair in answer.embeddings] == texts
    vectors: list[Any] = [pair[1] for pair in answer.embeddings]
    assert all(len(vector) == 384 and hypot(*vector) == pytest.approx(1, abs=1e-4) for vector in vectors)
    assert answer.tokens_used == logged["prompt_tokens"] > 0


def test_rerankings(sgp: SGPClient, starters: Starters, calls: CallLog) -> None:
    """One score per chunk, in the order of the chunks; an instruction is refused, because no reranker here has one."""
    chunks = ["bananas", "a key is made by an admin", "rain"]
    with calls.one_more(starters.rerank) as logged:
        answer = sgp.models.rerankings.create(starters.rerank, query="how do I get a key?", chunks=chunks)
    assert max(answer.chunk_scores) == answer.chunk_scores[1]
    assert len(answer.chunk_scores) == 3
    assert answer.tokens_used == logged["prompt_tokens"] > 0
    with pytest.raises(UnprocessableEntityError, match="instruction"):
        sgp.models.rerankings.create(starters.rerank, query="q", chunks=chunks, instruction="be kind")


def test_the_id_is_a_deployments(sgp: SGPClient, starters: Starters) -> None:
    """A model's id in its place is a 404 (trap 21), another type's deployment a 400, also where a stream was wanted."""
    model_id = next(model.id for model in sgp.models.list() if model.name == "starter-chat")
    with pytest.raises(NotFoundError, match="model deployment"):
        sgp.models.completions.create(model_id, prompt="x", stream=True)
    with pytest.raises(BadRequestError, match="EMBEDDING"):
        sgp.models.completions.create(starters.embed, prompt="x", stream=True)
    with pytest.raises(BadRequestError, match="CHAT_COMPLETION"):
        sgp.models.embeddings.create(starters.chat, texts=["x"])
