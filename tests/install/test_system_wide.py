"""As root, install.sh makes a user, a home, a program that this user can run, and the unit; twice changes nothing.

The machine stays as it is: /etc, /opt, /run and /var/lib are this test's own, in a mount namespace without a network.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

OWN_FOLDERS = """
set -e
mount --bind {work}/etc /etc
mount --bind {work}/opt /opt
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
"""
INSTALL = "{bare}/install.sh --offline {bundle}"
LOOK = "stat -c '%U %a %n' /opt/appliance /var/lib/appliance /etc/systemd/system/appliance.service"
KERNELS = "ls /opt/appliance/lib/python3*/site-packages/appliance/engines/llama/kernels/_kernels*.so"
USE = "cd / && runuser -u appliance -- /opt/appliance/bin/appliance zoo list --home /var/lib/appliance --json"


@pytest.mark.timeout(600)
def test_a_system_wide_installation(bare: Path, bundle: Path, work: Path, without_network: list[str]) -> None:
    """The key is shown once, the service's user owns its home alone and can run the program, all by the second run."""
    if os.geteuid() != 0:
        pytest.skip("a system-wide installation needs root")
    shutil.copytree("/etc", work / "etc", symlinks=True)
    (work / "opt").mkdir()
    steps = [OWN_FOLDERS, INSTALL, "echo '--- again'", INSTALL, "echo '--- look'", LOOK, KERNELS, USE]
    script = "\n".join(steps).format(work=work, bare=bare, bundle=bundle)
    result = subprocess.run(
        [*without_network, "--mount", "bash", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if "where the service's user may not go" in result.stderr:
        pytest.skip("the Python of this environment is private to root")
    assert result.returncode == 0, result.stdout + result.stderr
    first, again, look = re.split(r"--- (?:again|look)\n", result.stdout)
    assert first.count("Admin key") == 1
    assert "Admin key" not in again
    assert "nothing was changed" in again
    assert look.splitlines()[:3] == [
        "root 755 /opt/appliance",
        "appliance 750 /var/lib/appliance",
        "root 644 /etc/systemd/system/appliance.service",
    ]
    assert '"starter-embed"' in look
