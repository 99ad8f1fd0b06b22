"""What the installation tests share: the checkout, the script, and a way to call its functions one at a time."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture
def function() -> Run:
    """Run one shell line with the functions of install.sh at hand; nothing is installed."""

    def call(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"source {CHECKOUT}/install.sh; {line}"],
            env={"PATH": "/usr/bin:/bin"} | environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    return call
