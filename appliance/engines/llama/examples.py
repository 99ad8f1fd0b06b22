"""A training's examples as token ids, exactly those that the engine will see: rendered and tokenized by its own code.

Called by training before it trains and by whoever counts tokens, each in a short process of its own; llama.cpp reads
the vocabulary only. A conversation is cut where the engine will be asked: what stands before an answer is tokenized as
a prompt is, the answer by itself behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.domain.errors import ApplianceError, InvalidParameter
from appliance.domain.inference import ChatRequest, Message

Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


class Example(Struct, frozen=True):
    """Token ids of one conversation, and which are learnt: those of answers, with the mark that ends each."""

    tokens: Ints
    learnt: Bools


class Row(Struct):
    """A line of a dataset."""

    input: str | None = None
    output: str | None = None
    messages: list[dict[str, str]] | None = None


class Tokenizer:
    """A base's chat template and vocabulary, used as the engine uses them."""

    def __init__(self, vocabulary: Any, template: str | None) -> None:
        from appliance.engines.llama.chat import Marks

        self._vocabulary = vocabulary
        self._template = template
        self._bos = self._piece(vocabulary.bos)
        self._marks = Marks(self._bos, self._piece(vocabulary.eos))

    def _piece(self, token: int) -> str:
        return self._vocabulary.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def ends(self) -> list[int]:
        """Tokens that end an answer."""
        return [token for token in range(self._vocabulary.size) if self._vocabulary.is_end(token)]

    def dataset(self, dataset: Path) -> Iterator[Example]:
        """All examples of a file. Raises InvalidParameter naming the line."""
        for number, row in rows(dataset):
            try:
                yield from self.examples(row)
            except ApplianceError as error:
                raise InvalidParameter(f"line {number} of the dataset: {error.message}") from error

    def examples(self, row: Row) -> Iterator[Example]:
        """One, or one for each answer where the template writes earlier turns otherwise than they were answered."""
        if row.messages is None and self._template is None:
            yield self._example([(row.input or "", False), (row.output or "", True)], is_chat=False)
            return
        turns = row.messages or [
            {"role": "user", "content": row.input or ""},
            {"role": "assistant", "content": row.output or ""},
        ]
        messages = [Message(role=turn["role"], content=turn["content"]) for turn in turns]
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        pieces = [self._asked_and_answered(messages, index) for index in answers]
        if all(after[0].startswith("".join(before)) for before, after in pairwise(pieces)):
            yield self._example(list(_segments(pieces)), is_chat=True)
        else:
            for asked, answered in pieces:
                yield self._example([(asked, False), (answered, True)], is_chat=True)

    def _asked_and_answered(self, messages: Sequence[Message], index: int) -> tuple[str, str]:
        """The prompt that the engine makes of what comes before an answer, and the answer as the template writes it."""
        from appliance.engines.llama.chat import PLAIN_TEMPLATE
        from appliance.engines.llama.jinja import render

        before, answer = tuple(messages[:index]), messages[index]
        asked = self._rendered(before)
        variables = {
            "messages": [{"role": message.role, "content": message.content} for message in (*before, answer)],
            "tools": None,
            "add_generation_prompt": False,
            "bos_token": self._marks.bos,
            "eos_token": self._marks.eos,
        }
        whole = render(self._template or PLAIN_TEMPLATE, variables)
        if whole.startswith(asked):
            return asked, whole[len(asked) :]
        content = (answer.content or "").strip()
        place = whole.rfind(content)
        if place < 0:
            raise InvalidParameter("the chat template does not write the assistant's words; they cannot be learnt")
        return asked, whole[place:]

    def _rendered(self, messages: tuple[Message, ...]) -> str:
        from appliance.engines.llama.chat import prompt_text

        return prompt_text(ChatRequest(messages=messages), self._template, self._marks)

    def _example(self, segments: Sequence[tuple[str, bool]], *, is_chat: bool) -> Example:
        tokens: list[int] = []
        learnt: list[bool] = []
        for index, (text, is_answer) in enumerate(segments):
            ids = self._after(segments[index - 1][0], text) if is_answer else self._ids(text, is_chat, first=not index)
            mask = self._until_end(ids) if is_answer else [False] * len(ids)
            if is_answer and index == len(segments) - 1 and not any(map(self._vocabulary.is_end, ids)):
                ids, mask = [*ids, self._vocabulary.eos], [*mask, True]
            tokens += ids
            learnt += mask
        return Example(np.array(tokens, dtype=np.int32), np.array(learnt, dtype=np.bool_))

    def _ids(self, text: str, is_chat: bool, *, first: bool) -> list[int]:
        """As the engine does: the beginning mark is added unless a template has written it."""
        has_mark = is_chat and bool(self._bos) and text.startswith(self._bos)
        found: list[int] = self._vocabulary.tokenize(text, add_special=first and not has_mark).tolist()
        if first and not is_chat and self._vocabulary.adds_eos and found and found[-1] == self._vocabulary.eos:
            found.pop()
        return found

    def _after(self, before: str, text: str) -> list[int]:
        """An answer's tokens behind its prompt's: a word at its beginning is not taken for the first of a text."""
        alone: list[int] = self._vocabulary.tokenize(before, add_special=False).tolist()
        both: list[int] = self._vocabulary.tokenize(before + text, add_special=False).tolist()
        if both[: len(alone)] == alone:
            return both[len(alone) :]
        found: list[int] = self._vocabulary.tokenize(text, add_special=False).tolist()
        return found

    def _until_end(self, ids: Sequence[int]) -> list[bool]:
        """Nothing is learnt of what a template writes behind the mark that ends an answer."""
        end = next((index for index, token in enumerate(ids) if self._vocabulary.is_end(token)), len(ids) - 1)
        return [index <= end for index in range(len(ids))]


def _segments(pieces: Sequence[tuple[str, str]]) -> Iterator[tuple[str, bool]]:
    """Prompt, answer, what follows up to the next answer, and so on."""
    written = ""
    for asked, answered in pieces:
        yield asked[len(written) :], False
        yield answered, True
        written = asked + answered


def rows(dataset: Path) -> Iterator[tuple[int, Row]]:
    """Line numbers and lines, empty ones left out."""
    with dataset.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, msgspec.json.decode(line, type=Row)


@contextmanager
def tokenizer_of(base: Path) -> Iterator[Tokenizer]:
    """A GGUF file's. Raises BadWeights."""
    from appliance.engines.llama.runtime import vocabulary_of  # here only: training itself has no part in llama.cpp

    with vocabulary_of(base) as (vocabulary, template):
        yield Tokenizer(vocabulary, template)
