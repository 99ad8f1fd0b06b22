"""The parent's side of a training process: heard in any pieces, ended whatever it does, gone when the parent is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from appliance.domain.errors import NotInstalled
from appliance.domain.training import TrainingCheckpoint, TrainingReport
from appliance.lifecycle import tether
from appliance.lifecycle.child_process import LAST_WORDS_BYTES
from appliance.lifecycle.training_process import Ended, TrainingProcess, TrainingProgram


def program(source: str) -> TrainingProgram:
    return TrainingProgram(command=(sys.executable, "-c", source), modules=())


async def heard(folder: Path, source: str, **options: float) -> tuple[list[TrainingReport], Ended]:
    process = await TrainingProcess.start(program(source), folder, 3, **options)
    found = [report async for reports in process.reports() for report in reports]
    return found, await process.end()


SLEEP = "import time; time.sleep(600)"
REPORT = """print('{"type": "checkpoint", "step": 1}', flush=True)"""


async def test_reports_and_last_words(tmp_path):
    """What is no report is passed over; of what it says on the side the end is kept, however much there is."""
    found, ended = await heard(
        tmp_path,
        "import sys, os\n"
        f"{REPORT}\nprint('hello'); print(); print('{{\"type\": \"checkpoint\"')\n{REPORT}\n"
        "sys.stderr.write('x' * 1_000_000 + 'the end'); sys.exit(7)",
    )
    assert found == [TrainingCheckpoint(step=1)] * 2
    assert ended.how == "ended with status 7"
    assert ended.last_words.endswith("the end")
    assert len(ended.last_words) <= LAST_WORDS_BYTES


async def test_how_it_is_started(tmp_path):
    """In its folder, niced, with as many threads as it may have, without the server's secrets, offline."""
    source = (
        "import json, os, sys, pathlib; pathlib.Path('seen').write_text(json.dumps("
        "[os.getcwd(), os.nice(0), dict(os.environ), sys.argv[1], os.getsid(0) == os.getpid()]))"
    )
    os.environ["APPLIANCE_KEY"] = "sk-secret"
    try:
        await heard(tmp_path, source)
    finally:
        del os.environ["APPLIANCE_KEY"]
    cwd, niceness, environment, folder, is_leader = json.loads((tmp_path / "seen").read_text())
    assert (cwd, folder, is_leader) == (str(tmp_path), str(tmp_path), True)
    assert niceness >= 10
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "APPLIANCE_KEY" not in environment


async def test_one_that_is_silent_is_ended(tmp_path):
    """Who hangs is killed."""
    found, ended = await heard(tmp_path, f"import time\n{REPORT}\ntime.sleep(600)", silent_seconds=3)
    assert found == [TrainingCheckpoint(step=1)]
    assert ended.how == "was ended by SIGKILL"


async def test_one_that_writes_without_end_is_ended(tmp_path):
    """A line is bounded."""
    found, ended = await heard(tmp_path, "import sys\nwhile True: sys.stdout.write('x' * 65536)")
    assert found == []
    assert ended.status == -signal.SIGKILL


async def test_pausing(tmp_path):
    """It is asked by SIGTERM; twice is fine, and so is asking one that is gone."""
    source = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        f"{REPORT}\nwhile True: time.sleep(0.01)"
    )
    process = await TrainingProcess.start(program(source), tmp_path, 1)
    async for _ in process.reports():
        process.pause()
        process.pause()
    assert (await process.end()).status == 75
    process.pause()
    process.kill()


async def test_what_it_has_started_ends_with_it(tmp_path):
    """Killing it kills its children as well."""
    source = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
print('{{"type": "checkpoint", "step": ' + str(child.pid) + "}}", flush=True)
time.sleep(600)
"""
    process = await TrainingProcess.start(program(source), tmp_path, 1)
    async for (report,) in process.reports():
        child = psutil.Process(report.step)
        process.kill()
    await process.end()
    await asyncio.to_thread(psutil.wait_procs, [child], 10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_tether(tmp_path):
    """A parent that is killed takes it along; a parent that is gone already is noticed before anything starts."""
    held = f"""
import os, subprocess, sys, time
bound = [sys.executable, "-I", "-S", {str(tether.__file__)!r}, str(os.getpid()), "1"]
print(subprocess.Popen([*bound, sys.executable, "-c", {SLEEP!r}]).pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    while len(child.cmdline()) != 3:  # until it has become the command
        pass
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([child], 10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    late = [sys.executable, "-I", "-S", str(tether.__file__), "1", "1", "/bin/true"]
    assert subprocess.run(late, check=False).returncode == 1


def test_what_is_missing_is_named():
    """Looked for without importing it."""
    missing = TrainingProgram(modules=("json", "no_such_library"))
    assert not missing.is_installed
    with pytest.raises(NotInstalled, match=r"no_such_library missing\); run ./install.sh --with-finetuning"):
        missing.check_installed()
    TrainingProgram(modules=("json",)).check_installed()
