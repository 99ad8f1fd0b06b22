"""The ``appliance`` command: on a home without a server in this process, and beside a running server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from appliance.cli import main
from tests.support import chain
from tests.support.server import Server
from tests.support.tiny_models import write_llama

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, without starters: copying them is not what is tested here."""
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("appliance.lifecycle.builtins.starters_folder", lambda: None)
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    """Runs a command line in this process."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return invoke


def refused(result: Result, *words: str) -> None:
    """One line of explanation, status 1, no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


# --- init, keys ----------------------------------------------------------------------------------------------------


def test_init_twice(run: Run, home: Path) -> None:
    """The first run makes the home, private, and shows a key; the second changes nothing and shows none."""
    first = run("init")
    before = sorted(home.iterdir())
    second = run("init")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "shown this once: sk-" in first.stdout
    assert second.stdout == ""
    assert "is ready" in second.stderr
    assert sorted(home.iterdir()) == before
    assert home.stat().st_mode & 0o077 == 0


def test_init_quietly(run: Run) -> None:
    """``--quiet`` prints a new key and nothing else, and on a second run nothing at all."""
    assert run("init", "--quiet").output.strip().startswith("sk-")
    assert run("init", "--quiet").output == ""


def test_keys_created_listed_revoked(run: Run) -> None:
    """A key is shown once; lists know its name, role and state, never its secret."""
    run("init")
    made = json.loads(run("keys", "create", "--role", "member", "--name", "bot", "--json").stdout)
    quiet = run("keys", "create", "--role", "admin", "--name", "second", "--quiet").output
    revoked = run("keys", "revoke", "bot")
    listed = json.loads(run("keys", "list", "--json").stdout)
    table = run("keys", "list").stdout

    assert quiet.startswith("sk-")
    assert len(quiet.split()) == 1
    assert revoked.exit_code == 0
    assert {k["name"]: (k["role"], k["revoked_at"] is None) for k in listed} == {
        "first admin": ("admin", True),
        "bot": ("member", False),
        "second": ("admin", True),
    }
    assert made["key"].startswith(next(k["prefix"] for k in listed if k["name"] == "bot"))
    for secret in (made["key"], quiet.strip()):
        assert secret not in table
        assert secret not in json.dumps(listed)
    assert "revoked" in table


def test_the_last_admin_key_stays(run: Run) -> None:
    """Nobody can lock themselves out: the last admin key is not revoked, and the message says what to do first."""
    run("init")

    refused(run("keys", "revoke", "first admin"), "last admin key", "keys create --role admin")
    run("keys", "create", "--role", "admin", "--name", "second")
    assert run("keys", "revoke", "first admin").exit_code == 0


def test_an_ambiguous_name_revokes_nothing(run: Run) -> None:
    """Two keys of one name are told apart by their ids."""
    run("init")
    for _ in range(2):
        run("keys", "create", "--role", "member", "--name", "twin")

    refused(run("keys", "revoke", "twin"), "2 keys match", "keys list")
    refused(run("keys", "revoke", "nobody"), "0 keys match")


def test_an_unknown_account(run: Run) -> None:
    """A key for an account that does not exist is refused."""
    run("init")

    refused(run("keys", "create", "--role", "member", "--name", "x", "--account", "nowhere"), "nowhere")


# --- upstreams -----------------------------------------------------------------------------------------------------


def test_upstreams_added_listed_rekeyed_removed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key comes from a file or standard input and is shown nowhere; only allowed hosts are taken."""
    run("init")
    secret = tmp_path / "secret"
    secret.write_text("sk-secret\n")
    add = ("upstreams", "add", "cluster", "https://llm.example", "--key-file", str(secret), "--vendor", "OTHER")
    refused(run(*add), "llm.example", 'upstream_hosts = ["llm.example:443"]', "appliance.toml")

    monkeypatch.setenv("APPLIANCE_UPSTREAM_HOSTS", "llm.example")
    made = json.loads(run(*add, "--json").stdout)
    listed = json.loads(run("upstreams", "list", "--json").stdout)
    table = run("upstreams", "list").stdout
    rekeyed = CliRunner().invoke(main, ["upstreams", "rekey", "cluster", "--key-file", "-"], input="sk-other")
    unlocked = run("upstreams", "rekey", "cluster")

    assert listed == [made]
    assert (made["base_url"], made["vendor"], made["has_key"]) == ("https://llm.example/v1", "OTHER", True)
    assert "another key" in rekeyed.stderr
    assert "no key" in unlocked.stderr
    for shown in (json.dumps(made), table, rekeyed.output, unlocked.output):
        assert "sk-" not in shown
        assert "sealed" not in shown
    assert run("upstreams", "remove", "cluster").exit_code == 0
    refused(run("upstreams", "remove", "cluster"), "no upstream named 'cluster'", "upstreams list")


# --- where and how -------------------------------------------------------------------------------------------------


def test_home_option_beats_the_environment(run: Run, home: Path, tmp_path: Path) -> None:
    """``--home`` wins over APPLIANCE_HOME, which wins over the default."""
    other = tmp_path / "other"
    run("init", "--home", str(other))

    assert (other / "registry.db").exists()
    assert not home.exists()
    run("init")
    assert (home / "registry.db").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 8080", ("prot",)),
        ("port = 99999", ("port", "65535")),
        ("port = 'x'", ("port", "int")),
        ("port = ", ("appliance.toml", "mend")),
    ],
)
def test_a_wrong_configuration_is_named(run: Run, home: Path, text: str, words: tuple[str, ...]) -> None:
    """A spelling mistake, a value out of range or broken TOML never passes as a default."""
    home.mkdir()
    (home / "appliance.toml").write_text(text)

    refused(run("keys", "list"), *words)


def test_a_wrong_environment_variable_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of the wrong type in the environment is refused with the variable's name."""
    monkeypatch.setenv("APPLIANCE_MAX_BODY_BYTES", "much")

    refused(run("keys", "list"), "APPLIANCE_MAX_BODY_BYTES")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_no_keys_in_the_clear(run: Run, host: str) -> None:
    """Listening beyond loopback without TLS is refused; the message names both ways out."""
    refused(run("serve", "--host", host, "--port", "0"), host, "tls_certificate", "--insecure")


def test_half_of_tls(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate without its key is refused."""
    monkeypatch.setenv("APPLIANCE_TLS_CERTIFICATE", "/nowhere.pem")

    refused(run("serve", "--port", "0"), "tls_key")


def test_a_home_that_cannot_be_made(run: Run, tmp_path: Path) -> None:
    """A home below a file is refused in a line."""
    (tmp_path / "file").write_text("")

    refused(run("keys", "list", "--home", str(tmp_path / "file" / "home")), "file")


def commands(group: click.Group, name: str = "appliance") -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            for path, inner in commands(command, word):
                yield (word, *path), inner
        else:
            yield (word,), command


@pytest.mark.parametrize(
    ("path", "command"), list(commands(main)), ids=lambda x: " ".join(x) if isinstance(x, tuple) else ""
)
def test_help_names_every_option(run: Run, path: tuple[str, ...], command: click.Command) -> None:
    """``--help`` of every command says what it does, and what each option is for."""
    shown = run(*path, "--help")

    assert shown.exit_code == 0
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"
            assert all(name in shown.stdout for name in parameter.opts)


# --- weights -------------------------------------------------------------------------------------------------------


def test_importing_and_listing(run: Run, tmp_path: Path) -> None:
    """``models import`` says what it read in the header; ``--json`` gives the whole record, and lists have it."""
    run("init")
    path = write_llama(tmp_path / "weights.gguf")

    imported = run("models", "import", str(path), "--name", "tiny", "--json")
    taken = run("models", "import", str(path), "--name", "tiny")
    listed = json.loads(run("models", "list", "--json").stdout)

    assert imported.exit_code == 0, imported.output
    assert json.loads(imported.stdout)["card"]["architecture"] == "llama"
    refused(taken, "'tiny' exists")
    assert [artifact["name"] for artifact in listed] == ["tiny"]
    assert "tiny" in run("models", "list").stdout


def test_an_import_that_fails(run: Run, tmp_path: Path) -> None:
    """Damaged weights, a bad name and a missing file end with a status other than 0 and leave no artifact."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\0" * 100)

    refused(run("models", "import", str(bad), "--name", "bad"), "bad.gguf")
    refused(run("models", "import", str(bad), "--name", "a/b"), "a/b", "letters")
    assert run("models", "import", str(tmp_path / "none.gguf"), "--name", "x").exit_code == 2
    assert json.loads(run("models", "list", "--json").stdout) == []


def test_a_full_disk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that would eat into the reserve is refused with the bytes."""
    monkeypatch.setenv("APPLIANCE_DISK_RESERVE_BYTES", str(1 << 60))
    path = write_llama(tmp_path / "weights.gguf")

    refused(run("models", "import", str(path), "--name", "tiny"), "disk")


def test_the_zoo(run: Run) -> None:
    """The catalogue is listed on a home that has imported nothing."""
    listed = json.loads(run("zoo", "list", "--json").stdout)

    assert {"starter-chat", "starter-embed", "starter-rerank"} <= {entry["name"] for entry in listed}
    assert not any(entry["installed"] for entry in listed)
    assert "starter-chat" in run("zoo", "list").stdout


# --- beside a running server ---------------------------------------------------------------------------------------


def test_keys_made_and_revoked_beside_a_server(server: Server) -> None:
    """A key made by the command works at once; one that it revokes stops working at the server's next look."""
    made = json.loads(server.cli("keys", "create", "--role", "member", "--name", "beside", "--json"))
    with server.client(made["key"]) as client:
        assert client.get("/v1/models").status_code == 200

        server.cli("keys", "revoke", made["id"])

        answer = chain.until(lambda: refusal(client), "the revoked key is refused")
    assert "'beside' was revoked" in answer["detail"]


def refusal(client: httpx.Client) -> dict[str, str] | None:
    answer = client.get("/v1/models")
    found: dict[str, str] = answer.json()
    return found if answer.status_code == 401 else None


def test_weights_imported_beside_a_server(server: Server, admin: httpx.Client, tmp_path: Path) -> None:
    """Weights that the command imports can be deployed on the running server."""
    path = write_llama(tmp_path / "beside.gguf", seed=21)
    server.cli("models", "import", str(path), "--name", "beside")

    chain.until(lambda: "beside" in {a["name"] for a in admin.get("/admin/artifacts").json()}, "it is listed")
    chain.remove(admin, chain.deploy(admin, chain.CHAT, "beside", "beside"))
    admin.delete("/admin/artifacts/beside").raise_for_status()


def test_limits_set_beside_a_server(server: Server) -> None:
    """Given when a key is made and changed later, listed; a running server holds them at its next look."""
    limits = ("--requests-per-minute", "60", "--model", "starter-embed", "--model", "starter-chat")
    made = json.loads(
        server.cli(
            "keys", "create", "--role", "member", "--name", "limited", "--expires", "2099-01-01", *limits, "--json"
        )
    )
    (listed,) = [key for key in json.loads(server.cli("keys", "list", "--json")) if key["id"] == made["id"]]
    assert listed["limits"] == {
        "requests_per_minute": 60,
        "allowed_models": ["starter-embed", "starter-chat"],
        "expires_at": "2099-01-01T00:00:00Z",
    }
    shown = "60 requests a minute; only starter-embed, starter-chat; until 2099-01-01 00:00 UTC"
    assert shown in server.cli("keys", "list")
    with server.client(made["key"]) as client:
        assert client.get("/v1/models").headers["x-ratelimit-limit-requests"] == "60"
        server.cli("keys", "limit", "limited", "--requests-per-minute", "0", "--tokens-per-day", "9", "--model", "any")
        chain.until(lambda: client.get("/v1/models").headers.get("x-ratelimit-limit-tokens") == "9", "it is held")
        assert "x-ratelimit-limit-requests" not in client.get("/v1/models").headers
        server.cli("keys", "limit", "limited", "--expires", "2026-01-01")
        assert "expired on 2026-01-01" in chain.until(lambda: refusal(client), "the key is refused")["detail"]
    assert "expired 2026-01-01" in server.cli("keys", "list")
    server.cli("keys", "revoke", made["id"])


def test_limits_of_accounts(run: Run) -> None:
    """Listed with the accounts, changed by name or id; what is no limit is refused."""
    run("init")
    (account,) = json.loads(run("accounts", "list", "--json").stdout)
    limited = run("accounts", "limit", account["name"], "--tokens-per-day", "1000")
    assert "1000 tokens a day" in limited.stderr
    assert json.loads(run("accounts", "list", "--json").stdout)[0]["limits"] == {"tokens_per_day": 1000}
    assert "1000 tokens a day" in run("accounts", "list").stdout
    assert "no limits" in run("accounts", "limit", account["id"], "--tokens-per-day", "0").stderr
    refused(run("accounts", "limit", "nobody", "--tokens-per-day", "1"), "nobody", "appliance accounts list")
    refused(run("keys", "limit", "nobody", "--tokens-per-day", "1"), "nobody")
    refused(run("keys", "limit", "first admin", "--expires", "someday"), "someday")
    assert run("accounts", "limit", account["id"], "--requests-per-minute", "-1").exit_code == 2


def test_calls_exported_beside_a_server(server: Server, member: httpx.Client, tmp_path: Path) -> None:
    """The log as JSON Lines, to standard output or a file, by names; what was called a moment ago is in it."""
    key = json.loads(server.cli("keys", "create", "--role", "member", "--name", "exported", "--json"))
    with server.client(key["key"]) as client:
        client.post("/v1/embeddings", json={"model": "starter-embed", "input": "hello"}).raise_for_status()
    wanted = ("--deployment", "starter-embed", "--key", "exported", "--start", "2026-01-01")
    (line,) = server.cli("calls", "export", *wanted).splitlines()
    call = json.loads(line)
    assert (call["key_id"], call["dialect"]) == (key["id"], "openai")
    assert call["prompt_tokens"] > 0

    path = tmp_path / "calls.jsonl"
    assert server.cli("calls", "export", *wanted, "--output", str(path)) == ""
    assert path.read_text() == line + "\n"
    assert server.cli("calls", "export", *wanted, "--end", call["started_at"]) == ""
    server.cli("keys", "revoke", key["id"])


def test_an_export_that_cannot_be(run: Run) -> None:
    """Unknown names and times that are none are refused; a home without calls has an empty export."""
    run("init")
    refused(run("calls", "export", "--key", "nobody"), "nobody", "appliance keys list")
    refused(run("calls", "export", "--deployment", "nothing"), "nothing")
    refused(run("calls", "export", "--start", "yesterday"), "yesterday", "ISO 8601")
    assert run("calls", "export").output == ""


def test_the_module_is_the_command(home: Path) -> None:
    """``python -m appliance`` is the command; an unknown word is status 2 with a hint."""
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "sevre"], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 2
    assert "sevre" in done.stderr


def test_a_first_start_that_fails_has_shown_the_key(tmp_path: Path) -> None:
    """The first admin key is printed before the server can fail, here on a port in use."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "serve", "--port", port, "--home", str(tmp_path / "home")],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode != 0
    assert "shown this once: sk-" in done.stdout
    assert "Traceback" not in done.stderr


def test_plan(run: Run, server: Server) -> None:
    """The plan of a running server in one sentence, or as JSON; what it refuses is one line and exit status 1."""
    where = ("--url", server.url, "--key", server.admin_key)
    said = run("plan", "starter-chat", *where)
    assert said.exit_code == 0, said.output
    assert "starter-chat" in said.output
    made = json.loads(run("plan", "starter-chat", "--json", *where).output)
    assert made["reason"] + "\n" == said.output
    unknown = run("plan", "nobody", *where)
    assert unknown.exit_code == 1
    assert "nobody" in unknown.output
