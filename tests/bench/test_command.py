"""``appliance bench`` as an operator runs it, on a real server; and what is measured unless somebody names it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from appliance.bench.command import _chosen
from appliance.cli import main
from tests.support import chain
from tests.support.server import Server
from tests.tui.support import fixed_records as records
from tests.tui.support.fixed_node import FixedNode, json_answer
from tui.client import Client

Run = Callable[..., Result]
QUICK = ("--clients", "2,1", "--prompt-tokens", "24", "--tokens", "4")


@pytest.fixture
def run(server: Server) -> Run:
    """Runs ``appliance bench`` on the server, in this process."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["bench", *arguments, "--url", server.url, "--key", server.admin_key])

    return invoke


def test_measure_and_list(run: Run) -> None:
    """It says first how long it takes at most, then prints machine and table; ``--list`` shows the same later."""
    measured = run("starter-rerank", *QUICK, "--seconds", "30")
    listed = run("--list", "starter-rerank")

    assert measured.exit_code == 0, measured.output
    assert "1 to measure: at most 2 measurements of at most 30 s, 1.0 min" in measured.stderr
    machine, columns, first, second = measured.stdout.splitlines()
    assert "cores" in machine
    assert columns.split()[:2] == ["deployment", "load"]
    assert first.split()[0] == "starter-rerank"
    assert (first.split()[2], second.split()[0]) == ("1", "2")
    assert listed.exit_code == 0
    assert listed.stdout.splitlines()[-2:] == [first, second]


def test_json(run: Run) -> None:
    """``--json`` is the whole result on standard output and nothing else."""
    measured = run("starter-chat", *QUICK, "--json")

    assert measured.exit_code == 0, measured.output
    (found,) = json.loads(measured.stdout)
    assert found["deployment_name"] == "starter-chat"
    assert [point["clients"] for point in found["points"]] == [1, 2]
    assert found["kept"]["points"] == found["points"]
    assert json.loads(run("--list", "--json", "starter-chat").stdout)[-1]["kept"] == found["kept"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("nobody",), 1, ("no deployment 'nobody'", "starter-chat")),
        (("--clients", "0"), 2, ("'0'", "1 to 256")),
        (("--clients", "1,x"), 2, ("'1,x'",)),
        (("--prompt-tokens", ""), 2, ("1 to 1048576",)),
        (("--seconds", "0"), 2, ("--seconds",)),
    ],
)
def test_wrong_questions(run: Run, arguments: tuple[str, ...], status: int, words: tuple[str, ...]) -> None:
    """What cannot be measured is refused before anything is, in words."""
    refused = run(*arguments)

    assert refused.exit_code == status
    assert refused.stdout == ""
    assert all(word in refused.stderr for word in words)


def test_members_may_not(server: Server) -> None:
    """A member's key is refused in a line."""
    refused = CliRunner().invoke(main, ["bench", "--list", "--url", server.url, "--key", server.member_key])

    assert refused.exit_code == 1
    assert "admin" in refused.stderr


def test_interrupted(server: Server, admin: httpx.Client) -> None:
    """Ctrl-C ends it with status 130, in words and without a traceback."""
    deployment_id = next(d["id"] for d in server.state()["deployments"] if d["name"] == "starter-rerank")

    def newest() -> str | None:
        calls = admin.get(f"/admin/deployments/{deployment_id}/calls", params={"limit": 1}).json()
        return calls[0]["id"] if calls else None

    before = newest()
    command = [sys.executable, "-m", "appliance", "bench", "starter-rerank", "--url", server.url]
    process = subprocess.Popen(
        [*command, "--key", server.admin_key],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores Ctrl-C
    )
    chain.until(lambda: newest() != before, "it measures")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert "Interrupted; this is what was measured until then." in errors
    assert "Traceback" not in errors


async def test_external_vendors_only_when_named() -> None:
    """Where each request costs money nothing is measured by itself. A double: the bills of a real vendor are real."""
    elsewhere = replace(records.MODELS[0], model_vendor="OPENAI", model_template_id=None)
    node = FixedNode()
    node.routes["GET", "/v3/models"] = lambda _: json_answer([elsewhere, *records.MODELS[1:]])
    client = Client("http://appliance.example", "a-key", httpx.MockTransport(node.answer))

    everything = [deployment.name for deployment in records.STATE.deployments]
    assert [d.name for d in await _chosen(client, [])] == everything[1:]
    assert [d.name for d in await _chosen(client, everything[:1])] == everything[:1]
    await client.aclose()
