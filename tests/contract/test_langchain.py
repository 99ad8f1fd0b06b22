"""LangChain's OpenAI classes, unmodified, against the appliance: nothing but its address, key and model is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from openai import BadRequestError, DefaultAsyncHttpxClient, DefaultHttpxClient
from pydantic import BaseModel, Field

from tests.support.server import Server

CHAT, EMBED = "starter-chat", "starter-embed"
METHODS: list[Any] = ["function_calling", "json_schema", "json_mode"]


class Verdict(BaseModel):
    """Whether something holds, and how sure that is."""

    holds: bool
    certainty: Literal["low", "high"]
    reason: str = Field(max_length=30)


@tool
def get_weather(city: str) -> str:
    """Look up the weather of a city."""
    return f"It rains in {city}."


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def chat(server: Server, request: pytest.FixtureRequest) -> Iterator[ChatOpenAI]:
    """A chat model over either of OpenAI's interfaces."""
    made = model(server, use_responses_api=request.param)
    yield made
    made.root_client.close()


def model(server: Server, **options: Any) -> ChatOpenAI:
    """A chat model at the appliance, with connections of its own that a test can close: else all share some."""
    address: Any = {"base_url": f"{server.url}/v1", "api_key": server.member_key}
    address |= {"http_client": DefaultHttpxClient(), "http_async_client": DefaultAsyncHttpxClient()}
    return ChatOpenAI(model=CHAT, **address, temperature=0, max_completion_tokens=120, max_retries=0, **options)


def test_invoke(chat: ChatOpenAI) -> None:
    """A conversation is answered in words, with its usage."""
    answer = chat.invoke([SystemMessage("Be brief."), HumanMessage("Hello, what can you do?")])
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] > answer.usage_metadata["output_tokens"] > 0


def test_stream(chat: ChatOpenAI) -> None:
    """Chunks add up to a whole answer."""
    chunks = list(chat.stream("Hello, what can you do?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    assert len(chunks) > 3
    assert whole.text


async def test_asynchronous_calls(server: Server) -> None:
    """``ainvoke`` and ``astream`` do the same."""
    chat = model(server, stream_usage=True)
    assert (await chat.ainvoke("Hello!")).text
    chunks = [chunk async for chunk in chat.astream("Hello!")]
    assert "".join(chunk.text for chunk in chunks)
    assert any(chunk.usage_metadata for chunk in chunks)
    await chat.root_async_client.close()
    chat.root_client.close()


def test_tools_are_called_and_answered(chat: ChatOpenAI) -> None:
    """``bind_tools`` gives calls that run, and their results go back for an answer in words."""
    talk: list[Any] = [HumanMessage("What is the weather in Oslo?")]
    asked = chat.bind_tools([get_weather], tool_choice="required", parallel_tool_calls=False).invoke(talk)
    assert isinstance(asked, AIMessage)
    (call,) = asked.tool_calls
    assert call["name"] == "get_weather"
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    answer = chat.bind_tools([get_weather], tool_choice="none").invoke([*talk, asked, result])
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert not answer.tool_calls


def test_calls_stream_as_chunks(chat: ChatOpenAI) -> None:
    """Streamed, a call comes in chunks that add up to the call."""
    bound = chat.bind_tools([get_weather], tool_choice="get_weather")
    whole: Any = None
    for chunk in bound.stream("What is the weather in Oslo?"):
        whole = chunk if whole is None else whole + chunk
    (call,) = whole.tool_calls
    assert call["name"] == "get_weather"
    assert set(call["args"]) == {"city"}


@pytest.mark.parametrize("method", METHODS[:2])
def test_structured_output(method: Any, chat: ChatOpenAI) -> None:
    """``with_structured_output`` gives an instance of the class, by a tool or by a format."""
    found = chat.with_structured_output(Verdict, method=method).invoke("Is water wet? Answer as JSON.")
    assert isinstance(found, Verdict)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # LangChain's own, of its chunks
def test_structured_output_streams(server: Server) -> None:
    """A format streamed ends in the instance."""
    chat = model(server)
    *_, last = chat.with_structured_output(Verdict, method="json_schema").stream("Is water wet?")
    assert isinstance(last, Verdict)
    chat.root_client.close()


def test_json_mode(server: Server) -> None:
    """The oldest method gives JSON, whose shape is up to the model."""
    chat = model(server)
    raw = chat.with_structured_output(None, method="json_mode", include_raw=True).invoke("Answer as JSON: is it so?")
    assert isinstance(raw, dict)
    assert raw["raw"].content.startswith("{")
    chat.root_client.close()


def test_logprobs_and_stop(server: Server) -> None:
    """What is set on the model or bound to it is honoured."""
    chat = model(server, seed=3)
    answer = chat.bind(logprobs=True, top_logprobs=2).invoke("Hello!")
    assert isinstance(answer, AIMessage)
    assert answer.response_metadata["logprobs"]["content"]
    stop = answer.text[3:6]
    cut = chat.invoke("Hello!", stop=[stop])
    assert stop not in cut.text
    chat.root_client.close()


def test_a_refusal_is_the_clients_exception(server: Server) -> None:
    """What cannot be served is said in our words."""
    chat = model(server)
    with pytest.raises(BadRequestError, match="verbosity"):
        chat.bind(verbosity="low").invoke("Hello!")
    chat.root_client.close()


def test_embeddings(server: Server) -> None:
    """Texts go as texts: the client's own token ids are those of OpenAI's models."""
    address: Any = {"base_url": f"{server.url}/v1", "api_key": server.member_key}
    embedder = OpenAIEmbeddings(model=EMBED, **address, check_embedding_ctx_length=False, max_retries=0)
    documents = embedder.embed_documents(["a model group is a namespace", "bananas are yellow"])
    query = embedder.embed_query("bananas are yellow")
    assert [len(vector) for vector in documents] == [384, 384]
    assert query == pytest.approx(documents[1], abs=1e-3)
    embedder.client._client.close()


def test_completions(server: Server) -> None:
    """The class for plain completions: several prompts, streams, the best of several."""
    address: Any = {"base_url": f"{server.url}/v1", "api_key": server.member_key}
    plain = OpenAI(model=CHAT, **address, temperature=0, max_tokens=12, max_retries=0)
    result = plain.generate(["A model template is", "A key is"])
    assert len(result.generations) == 2
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["total_tokens"] > 0
    assert "".join(plain.stream("A model template is"))
    best = OpenAI(model=CHAT, **address, temperature=1, max_tokens=6, n=1, best_of=3, max_retries=0)
    assert best.invoke("A model template is")
    for each in (plain, best):
        each.client._client.close()
