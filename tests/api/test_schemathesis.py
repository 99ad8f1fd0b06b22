"""schemathesis against a real server: what fits the document at /schema, or just does not, is answered as it says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server

ROOT = Path(__file__).parent.parent.parent
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
"""All that speak of one request. Not ``positive_data_acceptance``: a body that fits its schema may name a model that is
not there. ``object_level_authorization`` wants two users' things, which tests/api and tests/contract have."""


def run_schemathesis(server: Server, *arguments: str, longer: bool = False) -> subprocess.CompletedProcess[str]:
    """Go over the document of a server."""
    settings = Path(__file__).with_name("schemathesis.toml").read_text()
    if longer:
        settings = settings.partition("# --- not in longer runs ---")[0]
    config, document = server.home / "schemathesis.toml", server.home / "openapi.json"
    config.write_text(settings)
    document.write_bytes(httpx.get(f"{server.url}/schema/openapi.json", timeout=120).raise_for_status().content)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(config),
        "run",
        str(document),
        "--url",
        server.url,
        "--header",
        f"x-api-key: {server.admin_key}",
        "--checks",
        ",".join(CHECKS),
        "--no-color",
        *arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **names_of(server)}
    return subprocess.run(command, env=environment, cwd=server.home, capture_output=True, text=True, check=False)


def names_of(server: Server) -> dict[str, str]:
    """What the configuration and the hooks are told of a server."""
    with server.client() as client:
        models = {model["name"]: model["id"] for model in client.get("/v3/models").json()}
        deployments = {model["id"]: model["deployment_id"] for model in client.get("/v1/models").json()["data"]}
        (key,) = (
            each for each in client.get("/admin/keys").json() if each["role"] == "admin" and not each["revoked_at"]
        )
    named = {"OWN_KEY": key["id"], "OWN_ACCOUNT": key["account_id"]}
    for short in ("chat", "embed", "rerank"):
        named[f"{short.upper()}_MODEL"] = models[f"starter-{short}"]
        named[f"{short.upper()}_DEPLOYMENT"] = deployments[f"starter-{short}"]
    return named


@pytest.mark.timeout(900)  # some hundred requests: under a minute on an idle machine, longer on one that is shared
def test_the_document_holds(fresh: Server) -> None:
    """No answer is a 5xx that is not announced, a status or type that is not described, or out of its schema.

    Each run sends the same requests. Arguments in ``SCHEMATHESIS`` (``--max-examples 50 --seed 7``) make a longer one.
    """
    longer = os.environ.get("SCHEMATHESIS", "")
    arguments = shlex.split(longer or "--max-examples 2 --generation-deterministic")
    done = run_schemathesis(fresh, *arguments, longer=bool(longer))
    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr
