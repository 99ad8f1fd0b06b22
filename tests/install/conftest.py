"""What the installation tests share: the checkout, the functions of install.sh, one real bundle, and no network."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
WITHOUT_NETWORK = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
WORDS = re.compile(r"  (in place|\.{8}|changed |note    )  |Everything was in place;|.*, SHA-256 [0-9a-f]{64}$")
"""Lines of install.sh itself: what the tools that it calls have to say is not the operator's business."""
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


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that is gone afterwards: bundle and installation are more than a gigabyte."""
    folder = tmp_path_factory.mktemp("install")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def bundle(checkout: Path, work: Path) -> Path:
    """A real bundle of this checkout: about 420 MiB, with all wheels and starters."""
    if not (checkout / ".venv" / ".installed" / "dependencies").exists():
        pytest.skip("install.sh did not make this .venv and should not change it; ./install.sh --test runs this")
    path = work / "bundle.tar"
    command = [checkout / "install.sh", "--bundle", path]
    made = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stderr == ""
    assert [line for line in made.stdout.splitlines() if not WORDS.match(line)] == []
    return path


@pytest.fixture(scope="session")
def bare(work: Path, bundle: Path) -> Path:
    """A folder with nothing but the install.sh out of the bundle."""
    folder = work / "bare"
    folder.mkdir()
    subprocess.run(["tar", "--extract", "--file", bundle, "--directory", folder, "install.sh"], check=True)
    return folder


@pytest.fixture(scope="session")
def without_network() -> list[str]:
    """The command that runs another one in a network namespace without interfaces."""
    tried = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"this kernel forbids network namespaces here: {tried.stderr.strip()}")
    return WITHOUT_NETWORK
