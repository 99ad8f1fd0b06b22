"""Texts that were no texts, told apart from those that are."""

from __future__ import annotations

import io
from pathlib import Path
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.sgp.files import check_text
from appliance.domain.errors import InvalidParameter


@given(content=st.binary())
def test_bytes_as_python_writes_them(content: bytes) -> None:
    """Whatever bytes they were, the text that Python makes of them is refused with how to decode them."""
    with pytest.raises(InvalidParameter, match="decode"):
        check_text(str(content))


@given(content=st.text())
def test_texts_are_kept(content: str) -> None:
    """Any text passes, unless it is one of those names as a whole."""
    text = f"{content} and more"
    check_text(text)


@pytest.mark.parametrize("thing", [io.BytesIO(), io.StringIO(), object(), SimpleQueue()])
def test_names_of_objects(thing: object) -> None:
    """What Python calls an object is refused with how to read it."""
    with pytest.raises(InvalidParameter, match="read it: file=open"):
        check_text(str(thing))


def test_the_name_of_an_open_file(tmp_path: Path) -> None:
    """Whatever way a file is opened, and whatever it is called."""
    path = tmp_path / "it's <a> name.txt"
    path.touch()
    for mode in ("r", "rb", "r+b"):
        with path.open(mode) as opened, pytest.raises(InvalidParameter, match=r"_io\."):
            check_text(str(opened))
    with path.open("rb", buffering=0) as opened, pytest.raises(InvalidParameter, match=r"_io\.FileIO"):
        check_text(str(opened))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "b'",
        "b''x",
        "b'a' and b'b'",
        "<p>",
        "<html><b>file</b></html>",
        '<a name="x">object at 0x1</a>',
        "b'\n'",
    ],
)
def test_texts_that_are_nearly_such(text: str) -> None:
    """Prose, markup and quotes are texts."""
    check_text(text)
