"""The C source of the kernels: compiled with all warnings as errors, for this processor and for others."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
(EXTENSION,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
SOURCES = [ROOT / name for name in EXTENSION["sources"]]
STRICT = ["-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
IF_X86 = "#if defined(__x86_64__)"
PLACES = {"llamafile_sgemm", "ggml_compute_forward_mul_mat_tiled", "ggml_compute_forward_flash_attn_ext"}
"""Functions of ggml that they stand in for."""
FOR_PYTHON = re.compile(r"appliance_[a-z_]+")


def compiled(sources: Sequence[Path], folder: Path) -> Path:
    """The library that the installation would make of them, in a folder of the test's own."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if not shutil.which(compiler[0]):
        pytest.skip(f"there is no C compiler {compiler[0]}")
    library = folder / "library.so"
    command = [*compiler, *EXTENSION["extra-compile-args"], *STRICT, *map(str, sources), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return library


def test_they_compile_without_a_warning(tmp_path: Path) -> None:
    """With the installation's own flags and warnings as errors the compiler has nothing to say; and no function is
    visible but those for ggml and for Python, so that no other can take a place that it is not meant to take."""
    library = compiled(SOURCES, tmp_path)
    if not shutil.which("nm"):
        pytest.skip("there is no nm to list what the library exports")
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert names >= PLACES
    assert [name for name in names - PLACES if not FOR_PYTHON.fullmatch(name)] == []


def test_they_compile_for_processors_that_they_have_no_kernels_for(tmp_path: Path) -> None:
    """An installation on aarch64 compiles the same files: there everything is left to llama.cpp."""
    sources = [*SOURCES, *(ROOT / name for name in EXTENSION["depends"])]
    for source in sources:
        text = source.read_text(encoding="utf-8")
        (tmp_path / source.name).write_text(text.replace(IF_X86, "#if 0"), encoding="utf-8")
    if platform.machine() == "x86_64":
        assert any(IF_X86 in source.read_text(encoding="utf-8") for source in sources)
    assert compiled([tmp_path / source.name for source in SOURCES], tmp_path).exists()


def test_every_c_file_is_compiled_with_the_project() -> None:
    """No C source lies in the packages that pyproject.toml does not name: it would ship without being compiled."""
    assert sorted((ROOT / "appliance").rglob("*.c")) == sorted(SOURCES)
    assert sorted((ROOT / "appliance").rglob("*.h")) == sorted(ROOT / name for name in EXTENSION["depends"])
