"""The other side of ``onnx_throughput``: the best loop of ``session.run`` over texts that were tokenized before.

    .venv/bin/python -m tests.benchmarks.onnx_raw models_store/weights/starter-embed 2

Takes a ``Question`` per line of standard input and answers each with one line: tokens a second, padding not counted,
for every way. Texts are tokenized, sorted by length and laid out in batches before the clock starts; there are no
requests, no pooling and no answers. A child process, so that its threads and its memory are not the server's; its
session ends with each way, so that no thread is left spinning while the server is measured.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import onnxruntime as ort
from msgspec import Struct

from appliance.engines.onnx.tasks import EncodedText, TokenBatch, pad
from appliance.engines.onnx.text import Tokenizer


class Way(Struct, frozen=True, array_like=True):
    """How to run a loop."""

    budget: int
    """Tokens of a batch, padding included; 0 is one text a run."""
    spinning: bool
    """The runtime's default for threads that wait."""


class Question(Struct, frozen=True):
    """What to measure."""

    texts: list[str]
    ways: list[Way]
    seconds: float


class RawLoop:
    """The child process. A context manager."""

    def __init__(self, folder: Path, threads: int) -> None:
        command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, str(folder), str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def rates(self, texts: Sequence[str], ways: Sequence[Way], seconds: float) -> list[float]:
        """Tokens a second in each of the ways, one after the other."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(Question(list(texts), list(ways), seconds)) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=list[float])

    def __enter__(self) -> RawLoop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()


def main() -> None:
    """Answer questions until standard input ends."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    tokenizer = Tokenizer(folder / "tokenizer.json", max_tokens=512, vocabulary_size=None)
    for line in sys.stdin.buffer:
        asked = msgspec.json.decode(line, type=Question)
        texts = tokenizer.encode(asked.texts, "text {index}")
        sys.stdout.buffer.write(msgspec.json.encode([_rate(folder, threads, texts, way, asked) for way in asked.ways]))
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()


def _rate(folder: Path, threads: int, texts: Sequence[EncodedText], way: Way, asked: Question) -> float:
    session = open_session(folder / "model.onnx", threads, spinning=way.spinning)
    return rate(session, texts, way.budget, asked.seconds)


def open_session(model: Path, threads: int, *, spinning: bool) -> Any:
    """A session as most people open one."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def rate(session: Any, texts: Sequence[EncodedText], budget: int, seconds: float) -> float:
    """Tokens a second over whole rounds of all batches, for at least ``seconds``."""
    batches = lay_out(texts, budget)
    feeds = [_feeds(pad(batch, pad_id=0)) for batch in batches]
    tokens = sum(map(len, texts))
    _run_all(session, feeds[:4])
    rounds, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        _run_all(session, feeds)
        rounds += 1
    return rounds * tokens / passed


def lay_out(texts: Sequence[EncodedText], budget: int) -> list[list[EncodedText]]:
    """Batches of neighbours in length, padded inside the budget."""
    batches: list[list[EncodedText]] = []
    for text in sorted(texts, key=len, reverse=True):
        if batches and len(batches[-1][0]) * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(text)
        else:
            batches.append([text])
    return batches


def _feeds(batch: TokenBatch) -> dict[str, Any]:
    return {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.type_ids}


def _run_all(session: Any, feeds: Sequence[dict[str, Any]]) -> None:
    for each in feeds:
        session.run(["last_hidden_state"], each)


if __name__ == "__main__":
    main()
