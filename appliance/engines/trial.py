"""The first load of unknown weights, in a child process.

What a C abort, a runaway allocation or an exploit in native code can hit is then a process that holds no keys and
serves nobody. The parent sends an ``EngineSpec`` as JSON on standard input and reads one JSON line back.

The child runs in RAM and sees no GPUs. Weights that were not imported yet it loads as an engine would (``try_load``).
Weights and adapter that were not seen together yet it tries as ``mapped``: beside those who have the weights in memory,
and where a GPU is to have them, nobody has booked RAM for a copy.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from appliance.config import KERNELS_VARIABLE
from appliance.domain.errors import ApplianceError, BadWeights, CannotFit, InvalidParameter, NotReady, WrongWeights
from appliance.engines.base import Backend, EngineSpec
from appliance.engines.probe import probe

TIMEOUT_SECONDS = 600
"""Of a trial that nobody watches."""
TRIAL_CONTEXT_TOKENS = 512
"""Of the smallest engine that proves weights."""
RETURNED = {error.code: error for error in (BadWeights, WrongWeights, CannotFit, InvalidParameter)}


class ChildTrial:
    """``appliance.engines.base.Trial``. ``passed`` is called in the thread of ``run``, if all went well."""

    def __init__(self, backend_name: str, spec: EngineSpec, passed: Callable[[], None] = lambda: None) -> None:
        self._backend_name = backend_name
        self._spec = spec
        self._passed = passed
        self._lock = threading.Lock()
        """Around start and end, so that no process is started after the end."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def run(self, timeout_seconds: float | None = None) -> None:
        """Load the weights and run one tiny request in a child process; blocks until there is none any more.

        Raises what the load raised there, BadWeights naming the signal or exit status that ended the child, and
        NotReady when it was ended before.
        """
        with self._start() as process:
            try:
                output, _ = process.communicate(msgspec.json.encode(self._spec, enc_hook=str), timeout=timeout_seconds)
            except subprocess.TimeoutExpired:
                raise BadWeights(f"the weights did not load within {timeout_seconds} s in a trial process") from None
            finally:
                process.kill()
        if self._ended:
            raise NotReady("the trial was ended before it had a result")
        _raise_outcome(process.returncode, output)
        self._passed()

    def end(self) -> None:
        """Kill the child, or start none. Never waits; twice is fine."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()  # of one that was waited for already it does nothing

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "appliance.engines.trial", self._backend_name]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LC_ALL": "C.UTF-8",
            "CUDA_VISIBLE_DEVICES": "",
            KERNELS_VARIABLE: os.environ.get(KERNELS_VARIABLE, ""),
        }
        with self._lock:
            if self._ended:
                raise NotReady("the trial was ended before it began")
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        return self._process


def try_load(backend_name: str, spec: EngineSpec) -> None:
    """One trial that may take ``TIMEOUT_SECONDS``; blocks. Raises what ``ChildTrial.run`` raises."""
    ChildTrial(backend_name, spec).run(TIMEOUT_SECONDS)


def _raise_outcome(status: int, output: bytes) -> None:
    try:
        outcome = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        raise BadWeights(f"loading these weights ended the trial process with {how}; the file was refused") from None
    if not outcome["ok"]:
        raise RETURNED.get(outcome["code"], BadWeights)(outcome["message"])


def _main(backend_name: str) -> int:
    """The child: no core dumps, one load, one request, one line."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer_to, sys.stdout = sys.stdout, sys.stderr
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=EngineSpec, dec_hook=_decode)
    try:
        engine = _backends()[backend_name].load(spec)
        asyncio.run(probe(engine))
        engine.close()
        outcome: dict[str, object] = {"ok": True}
    except ApplianceError as error:
        outcome = {"ok": False, "code": error.code, "message": error.message}
    print(json.dumps(outcome), file=answer_to, flush=True)
    return 0


def _backends() -> Mapping[str, Backend]:
    from appliance.engines.backends import all_backends  # here only: the parent must not load native libraries

    return all_backends(untried=True)


def _decode(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise TypeError(f"cannot decode {kind}")


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
