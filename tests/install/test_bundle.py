"""A bundle made here installs and works where there is no network; one that is not as it was made is refused."""

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

MAIN_JOB = Path(__file__).with_name("main_job.py")

Members = dict[str, bytes]


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def prefix(work: Path, bare: Path, bundle: Path, without_network: list[str]) -> Path:
    """An installation from the bundle, made without a network and without a compiler."""
    folder, compiler, asked = work / "prefix", work / "compiler", work / "asked"
    compiler.write_text(f"#!/bin/sh\necho $@ >>{asked}; exit 1\n")
    compiler.chmod(0o755)
    environment = os.environ | {"CC": str(compiler), "CXX": str(compiler)}
    command = [*without_network, bare / "install.sh", "--offline", bundle, "--prefix", folder]
    installed = run(*command, env=environment)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert not asked.exists()
    return folder


@pytest.fixture(scope="module")
def kernels(prefix: Path) -> Path:
    """The project's own kernels, as the bundle brought them."""
    (library,) = prefix.glob("lib/python3*/site-packages/appliance/engines/llama/kernels/_kernels*.so")
    return library


@pytest.mark.timeout(600)
def test_the_main_job_runs_without_a_network(prefix: Path, work: Path, without_network: list[str]) -> None:
    """Installed from a bundle and without an interface, it serves a built-in and a deployment of one's own."""
    done = run(*without_network, prefix / "bin" / "python", MAIN_JOB, prefix, work / "home")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "main job done" in done.stdout
    assert "384 dimensions" in done.stdout


@pytest.mark.timeout(600)
def test_a_bundle_brings_the_matrix_kernels(prefix: Path, kernels: Path) -> None:
    """What was compiled where the bundle was made can be loaded where it is installed."""
    program = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).appliance_kernels_computed())"
    assert run(prefix / "bin" / "python", "-c", program, kernels).stdout == "0\n"


@pytest.mark.timeout(600)
def test_the_matrix_kernels_name_no_folder(kernels: Path) -> None:
    """No path of the machine that compiled them is in them, neither of the sources nor to look for libraries in."""
    printable = re.findall(rb"[\x20-\x7e]{4,}", kernels.read_bytes())
    assert b"appliance_kernels_computed" in printable
    assert [text for text in printable if b"/" in text] == []


@pytest.mark.timeout(600)
def test_the_second_run_changes_nothing(bare: Path, bundle: Path, prefix: Path, without_network: list[str]) -> None:
    """Installing from the same bundle again says that nothing was changed, and nothing was."""
    before = {path: path.lstat().st_mtime_ns for path in prefix.rglob("*") if "__pycache__" not in path.parts}
    again = run(*without_network, bare / "install.sh", "--offline", bundle, "--prefix", prefix)
    after = {path: path.lstat().st_mtime_ns for path in prefix.rglob("*") if "__pycache__" not in path.parts}
    assert again.returncode == 0
    assert "nothing was changed" in again.stdout
    assert "  changed" not in again.stdout
    assert after == before


@pytest.mark.timeout(600)
def test_a_bundle_made_again_is_the_same_file(checkout: Path, bundle: Path, work: Path) -> None:
    """Order, times and owners leave no trace, and the set-up that is already there is left alone."""
    again = work / "again.tar"
    made = run(checkout / "install.sh", "--bundle", again)
    assert made.returncode == 0
    assert "nothing was changed" in made.stdout
    assert run("cmp", bundle, again).stdout == ""
    again.unlink()


def described(**changes: str) -> bytes:
    machine = {"python": f"3.{sys.version_info.minor}", "machine": platform.machine(), "glibc": "2.17"}
    return "".join(f"{key}={value}\n" for key, value in ({"format": "1"} | machine | changes).items()).encode()


def manifest_of(members: Members) -> bytes:
    return "".join(f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in sorted(members)).encode()


def write(path: Path, members: Members, extra: Callable[[tarfile.TarFile], None] | None = None) -> Path:
    """A small bundle; `extra` adds to it what its manifest does not know."""
    with tarfile.open(path, "w") as tar:
        for name, content in {"MANIFEST.sha256": manifest_of(members), **members}.items():
            add(tar, name, content)
        if extra:
            extra(tar)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **attributes: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in attributes.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(content))


def add_link(tar: tarfile.TarFile) -> None:
    add(tar, "wheels/link", type=tarfile.SYMTYPE, linkname="/etc/passwd")


@pytest.fixture
def refuse(tmp_path: Path, checkout: Path) -> Callable[[Path], str]:
    """Offer a bundle to a bare install.sh; its message, when it refused and installed nothing."""

    def offer(path: Path) -> str:
        shutil.copy(checkout / "install.sh", tmp_path)
        result = run(tmp_path / "install.sh", "--offline", path, "--prefix", tmp_path / "prefix")
        assert result.returncode == 1, result.stdout + result.stderr
        assert not (tmp_path / "prefix").exists()
        return result.stderr

    return offer


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (lambda tar: add(tar, "../outside"), "the member name ../outside is not a plain path"),
        (lambda tar: add(tar, "wheels/../../outside"), "is not a plain path"),
        (lambda tar: add(tar, "/etc/outside"), "the member name /etc/outside is not a plain path"),
        (lambda tar: add(tar, "two\nlines"), "is not a plain path"),
        (add_link, "not a plain file"),
        (lambda tar: add(tar, "pipe", type=tarfile.FIFOTYPE), "not a plain file"),
        (lambda tar: add(tar, "wheels", type=tarfile.DIRTYPE), "is refused"),
        (lambda tar: add(tar, "BUNDLE", b"other"), "holds BUNDLE more than once"),
        (lambda tar: add(tar, "surplus"), "its files are not those that its MANIFEST.sha256 names"),
    ],
)
def test_a_bundle_with_something_else_in_it(
    tmp_path: Path, refuse: Callable[[Path], str], extra: Callable[[tarfile.TarFile], None], reason: str
) -> None:
    """A path that leads outside, a link, a second copy or an unnamed file: refused before anything is used."""
    assert reason in refuse(write(tmp_path / "bad.tar", {"BUNDLE": described()}, extra))
    assert not (tmp_path / "outside").exists()


def test_a_damaged_bundle(tmp_path: Path, refuse: Callable[[Path], str]) -> None:
    """One changed byte is found, and the file it is in is named."""
    path = write(tmp_path / "bad.tar", {"BUNDLE": described(), "wheels/a.whl": b"as it was made"})
    path.write_bytes(path.read_bytes().replace(b"as it was made", b"as it is today"))
    message = refuse(path)
    assert "is damaged" in message
    assert "wheels/a.whl: FAILED" in message


def test_a_bundle_without_a_manifest(tmp_path: Path, refuse: Callable[[Path], str]) -> None:
    """Any other tar file is refused."""
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "BUNDLE", described())
    assert "it has no MANIFEST.sha256" in refuse(path)


def test_a_file_that_is_no_tar(tmp_path: Path, refuse: Callable[[Path], str]) -> None:
    """Something that is not a tar file at all is refused in words."""
    path = tmp_path / "bad.tar"
    path.write_bytes(b"not a tar file " * 100)
    assert "is not a readable tar file" in refuse(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"machine": "riscv64"}, "was made for riscv64; this machine is"),
        ({"python": "3.99"}, "needs Python 3.99; found:"),
        ({"glibc": "9.99"}, "needs glibc 9.99 or newer; this system has"),
        ({"format": "2"}, "has a format that this install.sh does not know"),
    ],
)
def test_a_bundle_for_another_machine(
    tmp_path: Path, refuse: Callable[[Path], str], changes: dict[str, str], reason: str
) -> None:
    """A bundle for another processor, Python or C library is refused with both names."""
    assert reason in refuse(write(tmp_path / "other.tar", {"BUNDLE": described(**changes)}))
