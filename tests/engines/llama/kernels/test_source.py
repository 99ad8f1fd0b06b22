"""The C source of the matrix kernels: compiled with all warnings as errors, for this processor and for others."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
(EXTENSION,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
SOURCES = [ROOT / name for name in EXTENSION["sources"]]
STRICT = ["-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
IF_X86 = "#if defined(__x86_64__)"
EXPORTED = re.compile(r"llamafile_sgemm|appliance_matmul_[a-z]+")


def compiled(source: Path, folder: Path) -> Path:
    """The library that the installation would make of one source, in a folder of the test's own."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if not shutil.which(compiler[0]):
        pytest.skip(f"there is no C compiler {compiler[0]}")
    library = folder / f"{source.stem}.so"
    command = [*compiler, *EXTENSION["extra-compile-args"], *STRICT, str(source), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return library


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_it_compiles_without_a_warning(source: Path, tmp_path: Path) -> None:
    """With the installation's own flags and warnings as errors the compiler has nothing to say; and no function is
    visible but those for ggml and for Python, so that no other can take a place that it is not meant to take."""
    library = compiled(source, tmp_path)
    if not shutil.which("nm"):
        pytest.skip("there is no nm to list what the library exports")
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in listed.stdout.splitlines()]
    assert "llamafile_sgemm" in names
    assert [name for name in names if not EXPORTED.fullmatch(name)] == []


def test_it_compiles_for_processors_that_it_has_no_kernels_for(tmp_path: Path) -> None:
    """An installation on aarch64 compiles the same file: there everything is left to llama.cpp."""
    (text,) = (path.read_text(encoding="utf-8") for path in SOURCES)
    if platform.machine() == "x86_64":
        assert text.count(IF_X86) == 1
        text = text.replace(IF_X86, "#if 0")
    other = tmp_path / "other.c"
    other.write_text(text, encoding="utf-8")
    assert compiled(other, tmp_path).exists()


def test_every_c_file_is_compiled_with_the_project() -> None:
    """No C source lies in the packages that pyproject.toml does not name: it would ship without being compiled."""
    assert sorted((ROOT / "appliance").rglob("*.c")) == sorted(SOURCES)
