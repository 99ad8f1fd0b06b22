"""What the official clients build on top of their plain methods: streams that gather themselves, parsed answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from anthropic import Anthropic, beta_tool
from ollama import Client, ResponseError
from openai import OpenAI
from pydantic import BaseModel
from scale_egp.sdk.client import EGPClient
from scale_egp.sdk.enums import ModelEndpointType, ModelType
from scale_egp.sdk.types.model_templates import ModelTemplate
from scale_gp import SGPClient

from tests.contract.conftest import name_of_its_own
from tests.contract.test_scale_egp_command_line import Run, Written, run, written
from tests.support.server import Server

__all__ = ["run", "written"]

CHAT = "starter-chat"
HELLO: list[Any] = [{"role": "user", "content": "Hello, what can you do?"}]
LINE = b'{"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"model": "a", "prompt": "b"}}\n'


class City(BaseModel):
    """What an answer is parsed into."""

    name: Literal["Oslo", "Bergen"]


# --- OpenAI ----------------------------------------------------------------------------------------------------------


def test_a_chat_stream_that_gathers_itself(openai_client: OpenAI) -> None:
    """Its events end with the completion that the pieces make."""
    with openai_client.chat.completions.stream(model=CHAT, messages=HELLO, temperature=0) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        whole = stream.get_final_completion()
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"


def test_a_response_stream_that_gathers_itself(openai_client: OpenAI) -> None:
    """The same of responses."""
    with openai_client.responses.stream(model=CHAT, input=HELLO, temperature=0) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        whole = stream.get_final_response()
    assert "".join(pieces) == whole.output_text


def test_a_file_is_waited_for_and_read(openai_client: OpenAI) -> None:
    """A file is processed at once; its bytes come back in the older way too."""
    made = openai_client.files.create(file=("requests.jsonl", LINE), purpose="batch")
    assert openai_client.files.wait_for_processing(made.id).status == "processed"
    with pytest.deprecated_call():
        assert openai_client.files.retrieve_content(made.id).encode() == LINE
    openai_client.files.delete(made.id)


# --- Anthropic -------------------------------------------------------------------------------------------------------


@pytest.fixture
def anthropic_client(server: Server) -> Iterator[Anthropic]:
    """The official client with a member's key."""
    with Anthropic(base_url=server.url, api_key=server.member_key, max_retries=0, timeout=60) as made:
        yield made


@beta_tool
def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: its name
    """
    return f"rain in {city}"


def test_an_answer_is_parsed(anthropic_client: Anthropic) -> None:
    """The schema of a class binds the answer, in the client's stable part and in its beta."""
    for messages in (anthropic_client.messages, anthropic_client.beta.messages):
        answer: Any = messages.parse(model=CHAT, max_tokens=64, messages=HELLO, output_format=City)
        assert isinstance(answer.parsed_output, City)


def test_the_beta_counts_streams_and_lists(anthropic_client: Anthropic) -> None:
    """The beta's methods reach the same routes."""
    beta = anthropic_client.beta
    counted = beta.messages.count_tokens(model=CHAT, messages=HELLO).input_tokens
    with beta.messages.stream(model=CHAT, max_tokens=8, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        whole: Any = stream.get_final_message()
    assert whole.content[0].text == text
    assert whole.usage.input_tokens + whole.usage.cache_read_input_tokens == counted
    assert CHAT in [model.id for model in beta.models.list()]
    assert beta.models.retrieve(CHAT).type == "model"


def test_tools_are_run_in_a_loop(anthropic_client: Anthropic) -> None:
    """The client runs the tools that are asked for and comes back with what they say."""
    runner = anthropic_client.beta.messages.tool_runner(
        model=CHAT,
        max_tokens=64,
        messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        tools=[weather],
        tool_choice={"type": "any"},
        max_iterations=1,
    )
    answer = runner.until_done()
    assert [block.name for block in answer.content if block.type == "tool_use"] == ["weather"]


# --- Ollama ----------------------------------------------------------------------------------------------------------


def test_a_blob_is_refused_with_what_to_do(server: Server, tmp_path: Path) -> None:
    """The client that uploads weights is told how they come here."""
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"GGUF")
    headers = {"Authorization": f"Bearer {server.member_key}"}
    with Client(host=server.url, headers=headers) as client, pytest.raises(ResponseError, match="models import"):
        client.create_blob(weights)


# --- SGP -------------------------------------------------------------------------------------------------------------


def test_templates_and_models_of_v4_come_and_go(sgp: SGPClient, account_id: str) -> None:
    """A template is made and stood upon; the model leaves first."""
    template = sgp.model_templates.create(
        account_id=account_id,
        name=name_of_its_own("template"),
        endpoint_type="STREAMING",
        model_type="COMPLETION",
        vendor_configuration={"bundle_config": {"registry": "local", "image": "llama.cpp", "tag": "any"}},
    )
    model = sgp.models.create(
        account_id=account_id, name=name_of_its_own("model"), model_type="COMPLETION", model_template_id=template.id
    )
    assert sgp.models.delete(model.id).count == 1
    assert sgp.model_templates.delete(template.id).success


def test_a_template_of_v3_comes_and_goes(egp: EGPClient, templates: dict[str, ModelTemplate]) -> None:
    """One that is made like a shipped one is like it."""
    shipped = templates["llama-cpp-completion"]
    made = egp.model_templates().create(
        name=name_of_its_own("template"),
        endpoint_type=ModelEndpointType.STREAMING,
        model_type=ModelType.COMPLETION,
        vendor_configuration=shipped.vendor_configuration,
    )
    assert made.vendor_configuration.bundle_config.image == shipped.vendor_configuration.bundle_config.image
    egp.model_templates().delete(made.id)


@pytest.mark.filterwarnings(r"ignore:Argument \"\w+\" in function:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The argument `add_help_command`:DeprecationWarning")
def test_the_command_line_looks_things_up(run: Run, written: Written) -> None:
    """Who one is, and one group."""
    assert run("user", "whoami")["access_profiles"][0]["role"] == "admin"
    group = run("model-group", "create", written({"name": name_of_its_own("group"), "description": "by file"}))
    assert run("model-group", "get", group["id"]) == group
    run("model-group", "delete", group["id"])
