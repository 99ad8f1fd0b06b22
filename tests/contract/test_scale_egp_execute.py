"""The official ``scale-egp`` client: executing all five model types, agents, and completions by name."""

from __future__ import annotations

import json
from math import hypot
from typing import Any

import pytest
from scale_egp.exceptions import EGPException, ItemDoesNotExist
from scale_egp.sdk.client import EGPClient
from scale_egp.sdk.types.agents import Tool, ToolArguments, ToolPropertyValue
from scale_egp.sdk.types.completions import ModelParameters
from scale_egp.sdk.types.memory_strategy import LastKMemoryStrategy, LastKMemoryStrategyParams
from scale_egp.sdk.types.message import AgentMessage, Message, SystemMessage, ToolMessage, ToolRequest, UserMessage
from scale_egp.sdk.types.models import (
    AgentRequest,
    ChatCompletionRequest,
    CompletionRequest,
    EmbeddingRequest,
    ParameterBindings,
    RerankingRequest,
)

from tests.contract.conftest import CallLog, Deploy, Starters, settled, text_model

HELLO = "Hello, what can you do?"


def messages(*turns: Any) -> list[Message]:
    return [Message(__root__=turn) for turn in turns]


# --- execution -------------------------------------------------------------------------------------------------------


def test_execute_a_completion_model(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """One pair of prompt and texts per prompt, in request order, with the tokens that are logged."""
    model, deployment = text_model(deploy, "llama-cpp-completion")
    request = CompletionRequest(prompts=["A model", "A group"], temperature=0.0, max_tokens=6)
    with calls.one_more(deployment.id) as logged:
        answer = egp.models().deployments().execute(deployment.id, model, request)
    assert [prompt for prompt, _ in answer.completions] == ["A model", "A group"]
    assert all(len(texts) == 1 for _, texts in answer.completions)
    assert answer.finish_reason in {"stop", "length"}
    assert (answer.prompt_tokens, answer.response_tokens) == (logged["prompt_tokens"], logged["response_tokens"])
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v3", "COMPLETION")


def test_execute_a_chat_model(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """A conversation gets an assistant's message with text in it."""
    model, deployment = text_model(deploy, "llama-cpp-chat-completion")
    request = ChatCompletionRequest(
        messages=messages(SystemMessage(content="Be brief."), UserMessage(content=HELLO)),
        temperature=0.0,
        max_tokens=48,
    )
    with calls.one_more(deployment.id) as logged:
        answer = egp.models().deployments().execute(deployment.id, model, request)
    assert answer.message.role == "assistant"
    assert answer.message.content.strip()
    assert answer.finish_reason == logged["finish_reason"]
    assert logged["prompt_tokens"] > 0
    assert logged["response_tokens"] > 0


def test_request_parameters_arrive_as_strings_and_count(egp: EGPClient, deploy: Deploy) -> None:
    """The client writes every binding as a string; each is read by its declared type and changes the answer."""
    model, deployment = text_model(deploy, "llama-cpp-chat-completion")

    def ask(temperature: float, bindings: dict[str, Any] | None) -> str:
        request = ChatCompletionRequest(
            messages=messages(UserMessage(content=HELLO)),
            temperature=temperature,
            max_tokens=16,
            model_request_parameters=ParameterBindings(bindings=bindings) if bindings else None,
        )
        content: str = egp.models().deployments().execute(deployment.id, model, request).message.content
        return content

    assert ParameterBindings(bindings={"top_k": 1}).bindings == {"top_k": "1"}
    assert settled(lambda: ask(1.0, {"top_k": 1})) == ask(0.0, None)
    assert ask(1.0, {"seed": 7, "top_p": 0.9}) == ask(1.0, {"seed": 7, "top_p": 0.9})
    for wrong, name in (({"top_k": "many"}, "top_k"), ({"colour": 1}, "colour"), ({"top_p": 1.5}, "top_p")):
        with pytest.raises(EGPException, match=name) as error:
            ask(1.0, wrong)
        assert error.value.code == 422


def test_execute_an_embedding_model(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """One pair of text and vector per text; a boolean that arrives as a string switches normalization off."""
    model, deployment = deploy("onnx-embedding", "starter-embed")
    texts = ["first", "a second, longer text"]
    with calls.one_more(deployment.id) as logged:
        answer = egp.models().deployments().execute(deployment.id, model, EmbeddingRequest(texts=texts))
    assert [text for text, _ in answer.embeddings] == texts
    assert all(len(vector) == 384 and hypot(*vector) == pytest.approx(1, abs=1e-4) for _, vector in answer.embeddings)
    assert answer.tokens_used == logged["prompt_tokens"] > 0

    bindings = ParameterBindings(bindings={"normalize": False})
    assert bindings.bindings == {"normalize": "False"}
    raw = EmbeddingRequest(texts=texts, model_request_parameters=bindings)
    vectors = [vector for _, vector in egp.models().deployments().execute(deployment.id, model, raw).embeddings]
    assert all(abs(hypot(*vector) - 1) > 1e-2 for vector in vectors)


def test_execute_a_llama_cpp_embedding_model(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """Generating weights give embeddings too, through the other engine and the same request."""
    model, deployment = deploy("llama-cpp-embedding", "starter-chat", context_length=256)
    with calls.one_more(deployment.id) as logged:
        answer = egp.models().deployments().execute(deployment.id, model, EmbeddingRequest(texts=["one", "two"]))
    lengths = {len(vector) for _, vector in answer.embeddings}
    assert len(lengths) == 1
    assert answer.tokens_used == logged["prompt_tokens"] > 0


def test_execute_a_reranking_model(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """One score per chunk, in the order of the chunks; the chunk that answers the query has the highest."""
    model, deployment = deploy("onnx-reranking", "starter-embed", scoring="late-interaction")
    request = RerankingRequest(query="how do I get a key?", chunks=["bananas", "a key is made by an admin", "rain"])
    with calls.one_more(deployment.id) as logged:
        answer = egp.models().deployments().execute(deployment.id, model, request)
    assert max(answer.chunk_scores) == answer.chunk_scores[1]
    assert len(answer.chunk_scores) == 3
    assert answer.tokens_used == logged["prompt_tokens"] > 0


def test_a_body_of_another_type_is_refused(egp: EGPClient, deploy: Deploy) -> None:
    """A request for another model type names the field that does not belong."""
    model, deployment = text_model(deploy, "llama-cpp-completion")
    with pytest.raises(EGPException, match=r"texts|prompts") as error:
        egp.models().deployments().execute(deployment.id, model, {"texts": ["x"]})
    assert error.value.code == 422


# --- agents ----------------------------------------------------------------------------------------------------------

WEATHER = Tool(
    name="get_weather",
    description="weather of a city",
    arguments=ToolArguments(
        properties={
            "city": ToolPropertyValue(type="string", description="name of the city"),
            "days": ToolPropertyValue(type="integer", description="how many days"),
        }
    ),
)


def test_execute_an_agent(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """An agent answers or asks for one of its tools; a request has arguments of the declared names and types."""
    model, deployment = text_model(deploy, "llama-cpp-agent")
    question = UserMessage(content="What is the weather in Oslo for the next 3 days?")
    with calls.one_more(deployment.id) as logged:
        step = (
            egp.models()
            .deployments()
            .execute(deployment.id, model, AgentRequest(messages=messages(question), tools=[WEATHER]))
        )
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v3", "AGENT")
    assert logged["response_tokens"] > 0
    if step.action.value == "tool_request":
        assert step.context.content is None
        assert step.context.tool_request.name == "get_weather"
        arguments = json.loads(step.context.tool_request.arguments)
        assert set(arguments) == {"city", "days"}
        assert isinstance(arguments["city"], str)
        assert isinstance(arguments["days"], int)
    else:
        assert step.action.value == "content"
        assert step.context.tool_request is None
        assert isinstance(step.context.content, str)


def test_an_agent_takes_its_tools_answer_back(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """The tool request and the tool's message are part of the conversation, and without tools the agent answers."""
    model, deployment = text_model(deploy, "llama-cpp-agent")
    asked = UserMessage(content="What is the weather in Oslo?")
    wanted = AgentMessage(tool_request=ToolRequest(name="get_weather", arguments='{"city": "Oslo", "days": 1}'))
    told = ToolMessage(name="get_weather", content='{"degrees": 4}')

    def ask(tools: list[Tool], *turns: Any) -> Any:
        request = AgentRequest(messages=messages(*turns), tools=tools)
        with calls.one_more(deployment.id) as logged:
            step = egp.models().deployments().execute(deployment.id, model, request)
        return step, logged["prompt_tokens"]

    _, short = ask([], asked)
    step, long = ask([], asked, wanted, told)
    assert long > short
    assert step.action.value == "content"
    assert isinstance(step.context.content, str)
    step, _ = ask([WEATHER], asked, wanted, told)
    assert step.action.value in {"content", "tool_request"}


def test_an_agent_remembers_the_last_k_messages(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """With last_k the prompt holds the last k turns and no more, whatever came before."""
    model, deployment = text_model(deploy, "llama-cpp-agent")
    turns = [UserMessage(content=f"This is turn number {number} of a long conversation.") for number in range(6)]

    def prompt_tokens(kept: list[UserMessage], k: int | None) -> int:
        memory = LastKMemoryStrategy(params=LastKMemoryStrategyParams(k=k)) if k else None
        request = AgentRequest(messages=messages(*kept), tools=[], memory_strategy=memory, instructions="Be brief.")
        with calls.one_more(deployment.id) as logged:
            egp.models().deployments().execute(deployment.id, model, request)
        found: int = logged["prompt_tokens"]
        return found

    assert prompt_tokens(turns, 2) == prompt_tokens(turns[-2:], None) < prompt_tokens(turns, None)


# --- by name ---------------------------------------------------------------------------------------------------------


def test_completions_by_name(egp: EGPClient, calls: CallLog, starters: Starters) -> None:
    """A built-in is called by its name, with parameters or without, and says what it cost."""
    with calls.one_more(starters.chat) as logged:
        answer = egp.completions().create("starter-chat", HELLO, egp.account_id)
    assert answer.completion.text.strip()
    usage = answer.token_usage
    assert (usage.prompt, usage.completion) == (logged["prompt_tokens"], logged["response_tokens"])
    assert usage.total == usage.prompt + usage.completion
    assert (logged["dialect"], logged["account_id"]) == ("sgp_v2", egp.account_id)

    limited = ModelParameters(temperature=0.0, max_tokens=2, stop_sequences=["\n"])
    short = egp.completions().create("starter-chat", HELLO, egp.account_id, model_parameters=limited)
    assert short.token_usage.completion <= 2


def test_completions_by_name_stream(egp: EGPClient, calls: CallLog, starters: Starters) -> None:
    """The pieces join to the whole answer, and the last one carries the tokens."""
    parameters = ModelParameters(temperature=0.0, max_tokens=32)
    whole = settled(
        lambda: egp.completions().create("starter-chat", HELLO, egp.account_id, model_parameters=parameters)
    )
    with calls.one_more(starters.chat) as logged:
        pieces = list(egp.completions().stream("starter-chat", HELLO, egp.account_id, model_parameters=parameters))
    assert "".join(piece.completion.text for piece in pieces) == whole.completion.text
    assert [piece.token_usage for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].token_usage == whole.token_usage
    assert pieces[-1].completion.finish_reason == whole.completion.finish_reason
    assert logged["response_tokens"] == whole.token_usage.completion


def test_own_deployments_are_called_by_name_too(egp: EGPClient, deploy: Deploy, calls: CallLog) -> None:
    """A deployment's name or id is as good as a built-in's; an unknown name is a 404 that says where names are."""
    _, deployment = text_model(deploy, "llama-cpp-chat-completion")
    for called in (deployment.name, deployment.id):
        with calls.one_more(deployment.id):
            assert egp.completions().create(called, HELLO, egp.account_id).completion.text.strip()
    with pytest.raises(ItemDoesNotExist, match="GET /v1/models"):
        egp.completions().create("gpt-4", HELLO, egp.account_id)
