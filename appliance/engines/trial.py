"""The first load of unknown weights, in a child process.

What a C abort, a runaway allocation or an exploit in native code can hit is then a process that holds no keys and
serves nobody. The parent sends an ``EngineSpec`` as JSON on standard input and reads one JSON line back.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.domain.errors import ApplianceError, BadWeights, CannotFit, InvalidParameter, WrongWeights
from appliance.engines.base import Backend, EngineSpec
from appliance.engines.probe import probe

TIMEOUT_SECONDS = 600
TRIAL_CONTEXT_TOKENS = 512
"""Of the smallest engine that proves weights."""
RETURNED = {error.code: error for error in (BadWeights, WrongWeights, CannotFit, InvalidParameter)}


def try_load(backend_name: str, spec: EngineSpec) -> None:
    """Load the weights and run one tiny request in a child process; blocks.

    Raises what the load raised there, or BadWeights naming the signal or exit status that ended the child.
    """
    command = [sys.executable, "-m", "appliance.engines.trial", backend_name]
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(sys.path), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            input=msgspec.json.encode(spec, enc_hook=str),
            capture_output=True,
            env=environment,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadWeights(f"the weights did not load within {TIMEOUT_SECONDS} s in a trial process") from None
    _raise_outcome(done.returncode, done.stdout)


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
