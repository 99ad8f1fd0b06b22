"""Paths that a request may name, and names that weights may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.domain.errors import InvalidParameter
from appliance.lifecycle.importing import NAME, allowed_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An import root with one file; a secret lies beside it."""
    folder = tmp_path / "import"
    folder.mkdir()
    (folder / "weights.gguf").write_text("w")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "import-not").mkdir()
    (tmp_path / "import-not" / "weights.gguf").write_text("w")
    return folder


def test_a_file_below_a_root(root: Path) -> None:
    """It is given back as its real path; dots that stay inside are fine."""
    assert allowed_path(str(root / "weights.gguf"), [root]) == (root / "weights.gguf").resolve()
    assert allowed_path(f"{root}/../import/weights.gguf", [root]) == (root / "weights.gguf").resolve()


@pytest.mark.parametrize(
    "climb", ["../secret", "../import-not/weights.gguf", "../../etc/passwd", "x\0y", "missing", "a" * 5000]
)
def test_a_path_that_leads_elsewhere(root: Path, climb: str) -> None:
    """Dots out of the root, a sibling that begins alike, a NUL and what is not there are all refused."""
    with pytest.raises(InvalidParameter):
        allowed_path(f"{root}/{climb}", [root])


def test_a_link_out_of_the_root(root: Path) -> None:
    """A link is judged by where it leads, also in the middle of a path; a root may itself be a link."""
    (root / "link").symlink_to(root.parent / "secret")
    (root / "folder").symlink_to(root.parent)
    (root.parent / "root-link").symlink_to(root)

    for name in ("link", "folder/secret"):
        with pytest.raises(InvalidParameter, match="not below an import root"):
            allowed_path(str(root / name), [root])
    assert allowed_path(str(root.parent / "root-link" / "weights.gguf"), [root.parent / "root-link"])


def test_relative_paths_and_no_roots(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means nothing to a server, wherever it was started; without roots nothing is allowed."""
    monkeypatch.chdir(root.parent)
    with pytest.raises(InvalidParameter):
        allowed_path("secret", [root])
    with pytest.raises(InvalidParameter):
        allowed_path(str(root / "weights.gguf"), [])


@pytest.mark.parametrize("name", ["a", "qwen2.5-0.5b:q8_0", "A" * 128])
def test_names_that_weights_may_have(name: str) -> None:
    """Letters, digits and ``. _ : -``, at most 128."""
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a\n", "a b", "ä", "A" * 129, "a\0"])
def test_names_that_they_may_not(name: str) -> None:
    """Nothing that a path, a shell or a terminal would read otherwise."""
    assert not NAME.fullmatch(name)
