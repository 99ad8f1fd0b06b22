"""What an operator's own tools ask over plain HTTP: health, the zoo, files to import, jobs."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.contract.conftest import name_of_its_own
from tests.support import chain
from tests.support.server import Server
from tests.support.tiny_models import write_bert


def test_health_needs_no_key(server: Server) -> None:
    """Liveness and readiness are answered to anybody who reaches the port."""
    for path in ("/livez", "/readyz"):
        answer = httpx.get(f"{server.url}{path}")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "reasons": []})


def test_the_zoo_says_what_is_here(member: httpx.Client) -> None:
    """Any key sees which models of the zoo can be called and where the others come from."""
    zoo = {entry["name"]: entry for entry in member.get("/admin/zoo").raise_for_status().json()}
    assert zoo["starter-chat"]["installed"]
    assert all(entry["licence"] and entry["model_types"] for entry in zoo.values())


def test_a_file_is_found_and_imported(server: Server, admin: httpx.Client) -> None:
    """A file below an import root is listed; its import is a job that can be looked up, and not cancelled when done."""
    name = name_of_its_own("import")
    path = write_bert(server.home / "import" / f"{name}.gguf")

    found = {Path(each["path"]).name: each for each in admin.get("/admin/importable").raise_for_status().json()}
    assert (found[path.name]["kind"], found[path.name]["size_bytes"]) == ("gguf", path.stat().st_size)

    job = chain.finished_job(admin, [path], name)
    assert job["state"] == "COMPLETED"
    assert job["id"] in [each["id"] for each in admin.get("/admin/jobs").raise_for_status().json()]
    assert admin.delete(f"/admin/jobs/{job['id']}").json()["state"] == "COMPLETED"
    admin.delete(f"/admin/artifacts/{name}").raise_for_status()
    path.unlink()
