"""From a dataset to the token ids of `engines.llama.examples`, kept in a file.

Runs as a short process of its own, ``python -m appliance.training.prompts``, before torch is loaded: training itself
has no part in llama.cpp. It is bounded in memory by the size of its dataset.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from appliance.domain.errors import ApplianceError, InvalidParameter
from appliance.engines.llama.examples import Example, tokenizer_of
from appliance.engines.process_bounds import bound_process
from appliance.training.wholes import write_whole

MEMORY_BYTES: Final = 4 << 30
"""That the process may hold of its own, beside its dataset; what it maps of files is not counted."""
MEMORY_OF_DATASET: Final = 8
"""Bytes that it may hold besides for each byte of the dataset: ids, what is learnt, and both once more when kept."""


class Examples(Struct, frozen=True):
    """A dataset, and the tokens that end an answer."""

    examples: tuple[Example, ...]
    ends: frozenset[int]


# --- in the training process -----------------------------------------------------------------------------------------


def prepare(base: Path, dataset: Path, place: Path) -> Examples:
    """Tokenize a dataset in a process of its own, once: ``place`` keeps the result. Raises InvalidParameter."""
    if not place.exists():
        done = subprocess.run(
            [sys.executable, "-m", "appliance.training.prompts", str(base), str(dataset), str(place)],
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip()
            how = f"ended with status {done.returncode}, within {_gib(dataset)} of memory"
            raise InvalidParameter(said or f"tokenizing the dataset {how}; train on a part of it, or on another base")
    return load(place)


def load(place: Path) -> Examples:
    """What ``prepare`` has written."""
    with np.load(place) as kept:
        ends, lengths = kept["ends"], kept["lengths"]
        tokens, learnt = kept["tokens"], kept["learnt"]
    cuts = np.cumsum(lengths)[:-1]
    pairs = zip(np.split(tokens, cuts), np.split(learnt, cuts), strict=True)
    return Examples(tuple(Example(*pair) for pair in pairs), frozenset(int(end) for end in ends))


# --- in the process of its own ---------------------------------------------------------------------------------------


def write(base: Path, dataset: Path, place: Path) -> None:
    """Tokenize and keep. Raises InvalidParameter naming the line."""
    with tokenizer_of(base) as tokenizer:
        found = list(tokenizer.dataset(dataset))
        ends = tokenizer.ends()
    if not found:
        raise InvalidParameter("the dataset has no examples; send one JSON object a line")
    kept = {
        "tokens": np.concatenate([example.tokens for example in found]),
        "learnt": np.concatenate([example.learnt for example in found]),
        "lengths": np.array([len(example.tokens) for example in found], dtype=np.int64),
        "ends": np.array(ends, dtype=np.int32),
    }

    def save(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez(file, **kept)  # type: ignore[arg-type]

    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, save)


def memory_bytes(dataset: Path) -> int:
    """The most that the process may hold for this dataset."""
    return MEMORY_BYTES + MEMORY_OF_DATASET * dataset.stat().st_size


def _gib(dataset: Path) -> str:
    return f"{memory_bytes(dataset) / (1 << 30):.1f} GiB"


def main(arguments: list[str]) -> int:
    """``BASE DATASET PLACE``; what is wrong is said on standard output."""
    base, dataset, place = map(Path, arguments)
    try:
        bound_process(memory_bytes(dataset))
        write(base, dataset, place)
    except ApplianceError as error:
        print(error.message)
        return 1
    except MemoryError:
        needs = f"tokenizing the dataset takes more than {_gib(dataset)} of memory"
        print(f"{needs}; shorten its longest conversations, or train on a part of it")
        return 1
    except (OSError, msgspec.DecodeError, json.JSONDecodeError) as error:
        print(f"the dataset cannot be read: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
