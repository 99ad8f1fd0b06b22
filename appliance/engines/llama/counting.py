"""How many tokens texts and conversations have, from a file's vocabulary alone: no weights are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from appliance.engines.llama.chat import PLAIN_TEMPLATE
from appliance.engines.llama.jinja import render
from appliance.engines.llama.runtime import Vocabulary, vocabulary_of

Turns = Sequence[dict[str, str]]
"""``role`` and ``content`` of each turn."""


def count_tokens(path: Path, conversations: Iterable[Turns]) -> Iterator[int]:
    """Tokens of each conversation as the chat template writes it; blocks.

    Without a template, one question and its answer are one text. Raises BadWeights, and InvalidParameter for what the
    template refuses.
    """
    with vocabulary_of(path) as (vocabulary, template):
        bos = _piece(vocabulary, vocabulary.bos)
        marks = {"bos_token": bos, "eos_token": _piece(vocabulary, vocabulary.eos)}
        for turns in conversations:
            if template is None and len(turns) <= 2:
                text, has_mark = "".join(turn["content"] for turn in turns), False
            else:
                asked = {"messages": list(turns), "tools": None, "add_generation_prompt": False}
                text = render(template or PLAIN_TEMPLATE, asked | marks)
                has_mark = bool(bos) and text.startswith(bos)
            yield len(vocabulary.tokenize(text, add_special=not has_mark))


def _piece(vocabulary: Vocabulary, token: int) -> str:
    return vocabulary.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""
