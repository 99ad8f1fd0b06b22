"""A dataset's lines are checked as they come, in any pieces, within their bounds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import InvalidParameter, TooLarge
from appliance.domain.finetuning import SchemaType
from appliance.lifecycle.dataset_lines import Checked, LineLimits

LIMITS = LineLimits(dataset_bytes=10_000, lines=20, line_bytes=500)
SOUND = [
    (SchemaType.GENERATION, {"input": "a", "output": "b"}),
    (
        SchemaType.GENERATION,
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": "a"},
            ]
        },
    ),
    (SchemaType.RERANKING_QUESTIONS, {"question": "q", "chunk": "c", "positive": False}),
]


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@pytest.mark.parametrize(("schema_type", "row"), SOUND)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@given(size=st.integers(1, 40), count=st.integers(1, 5), ends=st.booleans())
def test_sound_lines_go_through_unchanged(schema_type, row, end, size, count, ends):
    """However they are cut, and whether the last one ends or not."""
    content = (end.join([json.dumps(row)] * count) + (end if ends else "")).encode()
    checked = Checked(schema_type, LIMITS)
    assert b"".join(checked.through(cut(content, size))) == content
    assert checked.examples == count


@given(content=st.binary(max_size=200), size=st.integers(1, 50), schema_type=st.sampled_from(SchemaType))
def test_any_bytes_are_taken_or_refused(content, size, schema_type):
    """Nothing but the one refusal comes of whatever is sent."""
    try:
        assert b"".join(Checked(schema_type, LIMITS).through(cut(content, size))) == content
    except InvalidParameter as error:
        refused = error.errors or "longer" in error.message
    else:
        refused = True
    assert refused


LINE = b'{"input": "a", "output": "b"}\n'


@pytest.mark.parametrize(
    ("content", "limits", "words"),
    [
        (LINE * 10, LineLimits(dataset_bytes=100, lines=20, line_bytes=500), "larger than 100 bytes (dataset_bytes)"),
        (LINE * 10, LineLimits(dataset_bytes=1000, lines=9, line_bytes=500), "more than 9 examples (dataset_lines)"),
    ],
)
def test_too_much_is_refused(content, limits, words):
    """Before the rest of it is read, with the bound's name."""
    with pytest.raises(TooLarge) as refused:
        list(Checked(SchemaType.GENERATION, limits).through(cut(content, 16)))
    assert words in refused.value.message


def test_a_line_without_an_end_is_not_gathered():
    """A long line is refused once it is too long, not when it ends."""

    def endless():
        yield LINE
        while True:
            yield b"x" * 100

    with pytest.raises(InvalidParameter, match=r"line 2 is longer than 500 bytes \(dataset_line_bytes\)"):
        list(Checked(SchemaType.GENERATION, LIMITS).through(endless()))
