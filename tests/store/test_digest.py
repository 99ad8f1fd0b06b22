"""Text becomes a path in one place, and only digests and plain names do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import BadWeights, InvalidParameter
from appliance.store.digest import check_digest, check_plain_name, digest_path

GOOD = "0123456789abcdef" * 4


def test_a_digest_has_its_place_below_the_root():
    """A digest's blob is in a folder named by its first two digits."""
    assert digest_path(Path("/s"), GOOD) == Path("/s/01") / GOOD


@pytest.mark.parametrize(
    "text",
    ["", GOOD[:-1], GOOD + "0", GOOD.upper(), "../" + GOOD[3:], GOOD + "\n", "\n" + GOOD[1:], "sha256:" + GOOD,
     "/etc/passwd", GOOD[:-1] + "g", GOOD[:-1] + "٣", GOOD[:-1] + "\0"],
)  # fmt: skip
def test_anything_else_is_refused(text: str):
    """Wrong length, case, prefix, separator, newline or script: no digest, no path (CVE-2024-37032)."""
    with pytest.raises(InvalidParameter):
        digest_path(Path("/s"), text)


@given(st.text() | st.text("0123456789abcdefABCDEF./\\\n", min_size=60, max_size=66))
def test_no_text_leads_out_of_the_root(text: str):
    """Whatever the text, the result is two levels below the root or an InvalidParameter."""
    root = Path("/store/blobs")
    try:
        path = digest_path(root, text)
    except InvalidParameter:
        return
    assert path.parent.parent == root
    assert check_digest(path.name) == text
    assert ".." not in path.parts


@pytest.mark.parametrize("name", ["model.onnx", "Qwen2.5-0.5B (Q8_0).gguf", "modèle.gguf", "a"])
def test_ordinary_names_are_plain(name: str):
    """Letters of any script, spaces and brackets inside a name are fine."""
    assert check_plain_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "a\\b", "/a", "C:a", "a\0", "a\nb", " a", "a ", "x" * 256, "é" * 128, "a\u202eb"],
)
def test_names_with_a_second_meaning_are_refused(name: str):
    """Separators, dots in front, control and direction characters, and too long names are refused."""
    with pytest.raises(BadWeights, match="not a plain file name"):
        check_plain_name(name)


@given(st.text())
def test_a_plain_name_stays_in_its_folder(name: str):
    """Whatever passes the check names a direct child of the folder it is put in."""
    try:
        check_plain_name(name)
    except BadWeights:
        return
    assert (Path("/view") / name).parent == Path("/view")
    assert Path("/view") / name == Path("/view") / Path(name).name
