"""The systemd unit is valid, agrees with install.sh, and takes the rights that it says it takes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def unit(checkout: Path) -> str:
    return (checkout / "systemd" / "appliance.service").read_text()


def setting(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit, flags=re.MULTILINE)


def constant(checkout: Path, name: str) -> str:
    found = re.search(rf"\b{name}=(\S+)", (checkout / "install.sh").read_text())
    assert found
    return found[1]


def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    """`systemd-analyze verify` has no complaint, with a program that exists in place of ours."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / "appliance.service"
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit, flags=re.MULTILINE))
    result = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_the_unit_is_what_install_sh_prepares(unit: str, checkout: Path) -> None:
    """User, home and program are those that install.sh makes."""
    assert setting(unit, "User") == [constant(checkout, "SYSTEM_USER")]
    assert setting(unit, "Environment") == [f"APPLIANCE_HOME={constant(checkout, 'SYSTEM_HOME')}"]
    assert setting(unit, "StateDirectory") == [Path(constant(checkout, "SYSTEM_HOME")).name]
    assert setting(unit, "ExecStart") == [f"{constant(checkout, 'SYSTEM_PREFIX')}/bin/appliance serve"]
    assert Path(constant(checkout, "UNIT")).name == "appliance.service"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("OOMPolicy", "continue"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("DevicePolicy", "closed"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX AF_NETLINK"),
    ],
)
def test_the_unit_is_hardened(unit: str, name: str, value: str) -> None:
    """The service can write its home and nothing else, and gains no right."""
    assert setting(unit, name) == [value]
