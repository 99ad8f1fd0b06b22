"""``appliance datasets`` and ``appliance finetune`` against a real server, which trains with a stand-in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from appliance.cli import main
from appliance.commands import watching
from tests.support.stand_in_training import Orders
from tests.support.training_server import TrainingServer, training_server

Run = Callable[..., Result]
EXAMPLES = "".join(json.dumps({"input": f"question {n}?", "output": f"answer {n}."}) + "\n" for n in range(20))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    """A server of this module alone: it trains with the stand-in."""
    with training_server(tmp_path_factory.mktemp("training") / "home") as running:
        yield running


@pytest.fixture
def run(server: TrainingServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with a member's key."""
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.05)
    server.order(Orders())
    where = ["--url", server.url, "--key", server.member_key]
    return lambda *arguments: CliRunner().invoke(main, [*arguments, *where])


def done(result: Result) -> str:
    """What a command that went well has printed."""
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


@pytest.fixture
def dataset_id(run: Run, tmp_path: Path) -> str:
    path = tmp_path / "examples.jsonl"
    path.write_text(EXAMPLES)
    return done(run("datasets", "upload", str(path)))


def test_a_dataset_from_file_to_end(run: Run, dataset_id: str) -> None:
    """Uploaded, listed, shown, counted, removed: the ID is all that goes from one command to the next."""
    assert dataset_id in done(run("datasets", "list"))
    assert "examples.jsonl" in done(run("datasets", "show", dataset_id))
    assert json.loads(done(run("datasets", "show", dataset_id, "--json")))["examples"] == 20
    shown = done(run("datasets", "stats", dataset_id, "--base-model", "starter-chat", "--sequence-length", "8"))
    assert "longer than 8" in shown
    counted = json.loads(done(run("datasets", "stats", dataset_id, "--base-model", "starter-chat", "--json")))
    assert counted["examples"] == 20
    done(run("datasets", "remove", dataset_id))
    gone = run("datasets", "show", dataset_id)
    assert gone.exit_code == 1
    assert "no training dataset" in gone.stderr


def test_a_dataset_from_a_pipe(server: TrainingServer, run: Run) -> None:
    """``-`` is standard input, whose length nobody knows beforehand."""
    command = [sys.executable, "-m", "appliance", "datasets", "upload", "-", "--url", server.url]
    piped = subprocess.run(
        [*command, "--key", server.member_key], input=EXAMPLES, capture_output=True, text=True, check=False
    )
    assert piped.returncode == 0, piped.stderr
    assert "'stdin' has 20 examples" in piped.stderr
    done(run("datasets", "remove", piped.stdout.strip()))


def test_a_bad_dataset_names_its_lines(run: Run, tmp_path: Path) -> None:
    """In the server's own words."""
    path = tmp_path / "bad.jsonl"
    path.write_text(EXAMPLES + "{}\n")
    refused = run("datasets", "upload", str(path))
    assert refused.exit_code == 1
    assert "line 21" in refused.stderr


def test_a_job_from_order_to_promotion(run: Run, server: TrainingServer, member: httpx.Client, dataset_id: str) -> None:
    """Created by the base's name, watched, shown with its evaluation, promoted, rolled back, removed."""
    created = run("finetune", "create", "--base-model", "starter-chat", "--dataset", dataset_id, "--set", "epochs=2")
    job_id = done(created)
    assert f"finetune watch {job_id}" in created.stderr
    assert "is COMPLETED: step 5 of 5, loss 0.4000, model" in done(run("finetune", "watch", job_id))
    assert job_id in done(run("finetune", "list"))
    shown = done(run("finetune", "show", job_id, "--events"))
    assert "loss of the base" in shown
    assert re.search(r"base model +starter-chat\b", shown)
    assert re.search(rf"adapter +starter-chat-{job_id[:8]}\b", shown), "what merge asks for is nowhere"
    assert "step 5 of 5: loss 0.4000" in shown

    listed = {model["id"]: model["deployment_id"] for model in member.get("/v1/models").json()["data"]}
    deployed = run("finetune", "deploy", job_id, "--name", "by-itself")
    assert "Call it as 'by-itself'" in deployed.stderr
    asked = {"model": "by-itself", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    member.post("/v1/chat/completions", json=asked).raise_for_status()
    built_in = run("finetune", "promote", job_id, "--deployment", "starter-chat")
    assert built_in.exit_code == 1
    assert "'starter-chat' is built in and stays what it is; deploy 'starter-chat-" in built_in.stderr

    body = {"name": "cli", "alias": "cli", "model_deployment_id": listed["starter-chat"]}
    member.post("/v4/serving", json=body).raise_for_status()
    promoted = run("finetune", "promote", job_id, "--model-server", "cli")
    assert "serves behind 'cli'" in done(promoted)
    assert f"finetune rollback {job_id}" in promoted.stderr
    done(run("finetune", "rollback", job_id))
    again = run("finetune", "rollback", job_id)
    assert again.exit_code == 1
    assert "nothing to roll back" in again.stderr
    removed = run("finetune", "cancel", job_id)
    assert "had ended (COMPLETED) and is removed" in removed.stderr
    assert job_id not in done(run("finetune", "list"))


def test_one_that_fails_and_one_that_is_cancelled(run: Run, server: TrainingServer, dataset_id: str) -> None:
    """Watching them is no success, and says why."""
    server.order(Orders(fail="the loss is not a number"))
    order = ("finetune", "create", "--base-model", "starter-chat", "--dataset", dataset_id)
    failed = run(*order, "--watch")
    assert failed.exit_code == 1
    assert "is FAILED; the loss is not a number" in failed.stderr
    server.order(Orders(hold_at_step=2))
    job_id = done(run(*order))
    cancelled = run("finetune", "cancel", job_id)
    assert cancelled.stderr == f"{job_id} is cancelled\n"
    watched = run("finetune", "watch", job_id, "--json")
    assert watched.exit_code == 1
    assert json.loads(watched.stdout)["status"] == "CANCELED"
    nothing = run("finetune", "deploy", job_id)
    assert nothing.exit_code == 1
    assert "the job is CANCELED; only what a COMPLETED one has made" in nothing.stderr


def test_a_base_that_is_not_there(run: Run, dataset_id: str) -> None:
    """Neither a name nor an id: the names that there are."""
    refused = run("finetune", "create", "--base-model", "startr-chat", "--dataset", dataset_id)
    assert refused.exit_code == 1
    assert "no model 'startr-chat' in this account; there are: starter-chat, " in refused.stderr


def test_hyperparameters_are_checked_by_the_server(run: Run, dataset_id: str) -> None:
    """An unknown one names those that exist; one without a value is refused before that."""
    order = ("finetune", "create", "--base-model", "starter-chat", "--dataset", dataset_id, "--set")
    unknown = run(*order, "epoch=2")
    assert unknown.exit_code == 1
    assert "there are: alpha" in unknown.stderr
    assert run(*order, "epochs").exit_code == 2
