"""The ``scale-egp`` command line over the models family, as its users script it: JSON files in, JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import fastjsonschema
import jsonschema
import pytest
from scale_egp.sdk.client import EGPClient
from scale_egp.sdk.types.model_templates import ModelTemplate

from tests.contract.conftest import CallLog, Connect, name_of_its_own
from tests.support.egp_commands import Run, egp_commands, quietly
from tests.support.server import Server

pytestmark = quietly

VENDOR = {"vendor": "LAUNCH", "bundle_config": {"registry": "local", "image": "llama.cpp", "tag": "any"}}


@pytest.fixture
def run(server: Server, connect: Connect) -> Iterator[Run]:
    """Runs a command in this process and reads its JSON. ``connect`` closes what it leaves open."""
    with egp_commands(server.url, server.admin_key) as run_command:
        yield run_command


@pytest.fixture
def written(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Writes a JSON file and gives its path."""

    def write(content: dict[str, Any]) -> str:
        path = tmp_path / f"{name_of_its_own('file')}.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


Written: TypeAlias = Callable[[dict[str, Any]], str]


def test_the_installed_command_says_who_one_is(server: Server) -> None:
    """The entry point works with the endpoint and the key from the environment."""
    command = Path(sys.executable).with_name("scale-egp")
    environment = {**os.environ, "EGP_ENDPOINT_URL": server.url, "EGP_API_KEY": server.member_key, "COLUMNS": "200"}
    done = subprocess.run(
        [str(command), "-f", "json", "user", "whoami"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])  # below the client's note that it prefers another method
    assert printed["access_profiles"][0]["role"] == "member"


def test_a_model_from_json_file_to_answer(
    run: Run, written: Written, egp: EGPClient, templates: dict[str, ModelTemplate], calls: CallLog
) -> None:
    """Create, describe, deploy, validate, execute, update and delete, with nothing but files and ids."""
    template = templates["llama-cpp-chat-completion"]
    file = written(
        {
            "name": name_of_its_own("model"),
            "description": "from a file",
            "model_creation_parameters": {"weights": "starter-chat", "context_length": 512},
        }
    )
    model = run("model-instance", "create", file, "--model-template-id", template.id)
    assert (model["model_type"], model["description"]) == ("CHAT_COMPLETION", "from a file")  # the template's type
    assert run("model-instance", "get", model["id"]) == model
    assert model["id"] in {found["id"] for found in run("model-instance", "list")}
    described = run("model-instance", "describe", model["id"])
    assert described["model_template"]["id"] == template.id

    deployment = run("model-deployment", "create", written({}), "--model-instance-id", model["id"])
    assert deployment["name"] == model["name"]  # the model's name where none is given
    assert [found["id"] for found in run("model-deployment", "list", model["id"])] == [deployment["id"]]
    renamed = written({"name": name_of_its_own("renamed")})
    changed = run("model-deployment", "update", model["id"], deployment["id"], renamed)
    assert changed["name"] != deployment["name"]
    assert changed["id"] == deployment["id"]

    body = written({"messages": [{"role": "user", "content": "Hello, what can you do?"}], "max_tokens": 32})
    assert run("model-instance", "validate-request", model["id"], body) == []  # no complaint
    with calls.one_more(deployment["id"]) as logged:
        answer = run("model-deployment", "execute", model["id"], deployment["id"], body)
    assert answer["message"]["role"] == "assistant"
    assert answer["message"]["content"].strip()
    assert logged["response_tokens"] > 0
    assert run("model-deployment", "get", model["id"], deployment["id"])["status"] == "READY"

    run("model-deployment", "delete", model["id"], deployment["id"])
    changed = run("model-instance", "update", model["id"], written({"model_card": "new"}))
    assert (changed["model_card"], changed["description"]) == ("new", "from a file")
    run("model-instance", "delete", model["id"])
    assert model["id"] not in {found.id for found in egp.models().list()}


@pytest.mark.parametrize(
    ("template", "weights", "body"),
    [
        ("llama-cpp-completion", "starter-chat", {"prompts": ["A model is"], "max_tokens": 4}),
        ("onnx-embedding", "starter-embed", {"texts": ["one"]}),
        ("onnx-reranking", "starter-embed", {"query": "key", "chunks": ["a key", "rain"]}),
        (
            "llama-cpp-agent",
            "starter-chat",
            {"messages": [{"role": "user", "content": "Hello"}], "tools": [], "instructions": None},
        ),
    ],
)
def test_every_types_schemas_fit_what_is_said(
    template: str, weights: str, body: dict[str, Any], run: Run, written: Written, templates: dict[str, ModelTemplate]
) -> None:
    """What the client's validator makes of a request executes, and the answer fits the response schema of any draft."""
    parameters: dict[str, Any] = {"weights": weights}
    if weights == "starter-chat":
        parameters["context_length"] = 512
    model = run(
        "model-instance",
        "create",
        written({"name": name_of_its_own("model"), "model_creation_parameters": parameters}),
        "--model-template-id",
        templates[template].id,
    )
    deployment = run("model-deployment", "create", written({}), "--model-instance-id", model["id"])
    file = written(body)
    assert run("model-instance", "validate-request", model["id"], file) == []  # no complaint
    answer = run("model-deployment", "execute", model["id"], deployment["id"], file)
    fastjsonschema.compile(model["response_schema"])(answer)
    jsonschema.validate(answer, model["response_schema"])
    wrong = run("model-instance", "validate-request", model["id"], written({"nonsense": 1}))
    assert wrong.startswith("Data failed validation")
    run("model-deployment", "delete", model["id"], deployment["id"])
    run("model-instance", "delete", model["id"])


def test_templates_and_groups_by_files(run: Run, written: Written) -> None:
    """Templates and groups are made from files, listed, read, changed and deleted."""
    template = run(
        "model-template",
        "create",
        written(
            {
                "name": name_of_its_own("template"),
                "endpoint_type": "SYNC",
                "model_type": "COMPLETION",
                "vendor_configuration": VENDOR,
            }
        ),
    )
    assert template["vendor_configuration"]["endpoint_config"]["per_worker"] == 10
    assert run("model-template", "get", template["id"]) == template
    assert template["id"] in {found["id"] for found in run("model-template", "list")}
    schemas = {schema["model_type"] for schema in run("model-template", "show-model-schemas")}
    assert schemas == {"COMPLETION", "CHAT_COMPLETION", "AGENT", "EMBEDDING", "RERANKING"}
    run("model-template", "delete", template["id"])

    group = run("model-group", "create", written({"name": name_of_its_own("group"), "description": "first"}))
    changed = run("model-group", "update", group["id"], written({"description": "second"}))
    assert (changed["name"], changed["description"]) == (group["name"], "second")
    assert changed in run("model-group", "list")
    run("model-group", "delete", group["id"])
    assert changed not in run("model-group", "list")


def test_a_failure_is_told_with_its_status(run: Run, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that fails prints the server's detail and the status, and exits with 1."""
    with pytest.raises(SystemExit) as left:
        run("model-instance", "get", "no-such-model")
    assert left.value.code == 1
    assert "ERROR (HTTP 404): no model with the id 'no-such-model'" in capsys.readouterr().out
