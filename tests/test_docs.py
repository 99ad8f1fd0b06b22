"""The documentation tells the truth: generated tables are current, the tree is there, the README's Python runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cogapp import Cog

from tests.support.server import running_server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language; "" for blocks without one."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in fenced if name == language]


def test_generated_tables_are_current(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What cog would write is what stands in the files; `make docs` mends it."""
    monkeypatch.chdir(ROOT)
    pages = [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").glob("*.md"))]
    # in this process: it has imported most of what the tables are made of
    status = Cog().main(["cog", "--check", "-I", ".", *pages])
    assert status == 0, "".join(capsys.readouterr())


def test_readme_python_runs(tmp_path: Path) -> None:
    """The README's Python blocks, put together, run against a fresh server and print what they promise."""
    with running_server(tmp_path / "home") as server:
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(blocks(README, "python"))],
            env={**server.environment, "APPLIANCE_URL": server.url, "APPLIANCE_KEY": server.admin_key},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    answer, width, first = done.stdout.rstrip("\n").rsplit("\n", 2)
    assert answer.strip()
    assert width == "384"
    assert first == "0"


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_annotated_trees_exist(page: str) -> None:
    """Every top-level name of a page's tree is in the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    tree = next(block for block in blocks(text, "") if "models_store/" in block)
    names = [line.split()[0] for line in tree.splitlines() if line and not line.startswith(" ")]
    assert len(names) >= 4
    for name in names:
        assert (ROOT / name).exists(), name


def test_links_lead_somewhere() -> None:
    """Relative links of the README and the documentation lead to files of the repository."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_options_of_the_readme_exist() -> None:
    """Every `./install.sh --option` of the README is in its help."""
    shown = subprocess.run(["./install.sh", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for option in set(re.findall(r"\./install\.sh (--[a-z]+)", README)):
        assert option in shown


def test_tests_that_want_a_gpu_are_listed() -> None:
    """The page on placement names every test marked ``gpu``, and no other."""
    marked = re.compile(r"^@pytest\.mark\.gpu\n(?:@.*\n)*(?:async )?def (\w+)", re.MULTILINE)
    there = {
        f"{file.relative_to(ROOT)}::{name}"
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in marked.findall(file.read_text(encoding="utf-8"))
    }
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(tests/\S+::\w+)` \|", page, re.MULTILINE)) == there
