"""How many tokens each example of a dataset has, counted in a process of its own before anybody may have loaded a base.

What a C abort, a runaway allocation or an exploit in native code can hit is then a process that holds no keys and
serves nobody. The parent sends a `Counting` as JSON on standard input and reads a `Counted` back, or why there is none.
Lengths are those that a training of the kind will see.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.domain.errors import ApplianceError, InvalidParameter
from appliance.domain.training import TrainingKind
from appliance.engines.process_bounds import bound_process

MEMORY_BYTES = 4 << 30
"""That the process may hold of its own; what it maps of files is not counted."""
_ANY_LENGTH = 1 << 30
_BATCH_TEXTS = 1_000


class Counting(Struct, frozen=True, kw_only=True):
    """What is to be counted."""

    kind: TrainingKind
    base: str
    """A GGUF file, or a folder with ONNX weights and their tokenizer."""
    dataset: str
    """Checked JSON Lines."""


class Counted(Struct, frozen=True, kw_only=True, tag="counted"):
    """How many examples there are of each length in tokens."""

    examples: dict[int, int]


class NotCounted(Struct, frozen=True, kw_only=True, tag="not counted"):
    """Why not."""

    code: str
    message: str


Outcome = Counted | NotCounted
Text = str | tuple[str, str]


class _Pair(Struct, frozen=True):
    question: str
    chunk: str


def count(asked: Counting) -> Counted:
    """Blocks. Raises BadWeights, WrongWeights, InvalidParameter naming the line that a template refuses."""
    base, dataset = Path(asked.base), Path(asked.dataset)
    if asked.kind is TrainingKind.GENERATION:
        return Counted(examples=Counter(_of_conversations(base, dataset)))
    return Counted(examples=Counter(_of_texts(base, _read(asked.kind, dataset))))


def _of_conversations(base: Path, dataset: Path) -> Iterator[int]:
    from appliance.engines.llama.examples import tokenizer_of  # here only: the parent must not load native libraries

    with tokenizer_of(base) as tokenizer:
        for example in tokenizer.dataset(dataset):
            yield len(example.tokens)


def _of_texts(base: Path, texts: Iterable[Text]) -> Iterator[int]:
    from appliance.engines.onnx.text import Tokenizer

    tokenizer = Tokenizer(base / "tokenizer.json", max_tokens=_ANY_LENGTH, vocabulary_size=None)
    remaining = iter(texts)
    while some := list(islice(remaining, _BATCH_TEXTS)):
        yield from map(len, tokenizer.encode(some, "an example"))  # type: ignore[arg-type]  # all of one kind


def _read(kind: TrainingKind, dataset: Path) -> Iterable[Text]:
    """Each once, as training encodes them: pairs for a reranker, questions and chunks apart for an embedder."""
    with dataset.open("rb") as file:
        pairs = [msgspec.json.decode(line, type=_Pair) for line in file if line.strip()]
    if kind is TrainingKind.RERANKING:
        return dict.fromkeys((pair.question, pair.chunk) for pair in pairs)
    return dict.fromkeys(text for pair in pairs for text in (pair.question, pair.chunk))


def _main() -> int:
    """No core dumps, so much memory, one count, one line."""
    bound_process(MEMORY_BYTES)
    answer_to, sys.stdout = sys.stdout, sys.stderr
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Counting)
    try:
        outcome: Outcome = count(asked)
    except ApplianceError as error:
        outcome = NotCounted(code=error.code, message=error.message)
    except MemoryError:
        needs = f"counting takes more than {MEMORY_BYTES >> 30} GiB of memory; count a part of the dataset"
        outcome = NotCounted(code=InvalidParameter.code, message=needs)
    except (OSError, msgspec.DecodeError) as error:
        outcome = NotCounted(code=InvalidParameter.code, message=f"the dataset cannot be read: {error}")
    answer_to.buffer.write(msgspec.json.encode(outcome) + b"\n")
    answer_to.flush()
    return 0


if __name__ == "__main__":
    sys.exit(_main())
