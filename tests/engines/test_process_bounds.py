"""Bounds that a process sets itself: they hold in it, and what may not be raised stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource
from appliance.engines.process_bounds import bound_process
bound_process({first})
try:
    bound_process({second})
    bytearray(1 << 31)
except MemoryError:
    print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_DATA)]))
"""


@pytest.mark.parametrize("second", [1 << 29, 1 << 32])
def test_bounds_hold_and_are_never_raised(second: int) -> None:
    """No core dumps, and what is wanted beyond the bound is a MemoryError; the lowest bound counts."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=1 << 30, second=second)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    lowest = min(1 << 30, second)
    assert json.loads(done.stdout) == [[0, 0], [lowest, lowest]]
