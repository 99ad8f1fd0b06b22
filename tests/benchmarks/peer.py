"""llama-server out of the very llama.cpp that the appliance embeds, to be compared with.

    .venv/bin/python -m tests.benchmarks.peer --folder PEER

fetches the source package of the pinned llama-cpp-python, which carries all of llama.cpp, and compiles the target
``llama-server`` for this very processor, as whoever runs it would. Needs cmake, ninja and a C++ compiler; about ten
minutes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.load import Endpoint

FLAGS = ("-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DBUILD_SHARED_LIBS=OFF")
START_SECONDS = 120


def source(folder: Path) -> Path:
    """llama.cpp's source tree inside the folder."""
    return next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))


def vocabulary(folder: Path) -> Path:
    """A tokenizer of 152 thousand tokens."""
    return source(folder) / "models" / "ggml-vocab-qwen2.gguf"


def program(folder: Path) -> Path:
    """The compiled server."""
    return folder / "build" / "bin" / "llama-server"


def build(folder: Path) -> Path:
    """Fetch and compile what is not there yet; the program."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("llama_cpp_python-*/vendor")):
        package = f"llama-cpp-python=={importlib.metadata.version('llama-cpp-python')}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", package]
        subprocess.run([*command, "-d", folder], check=True)
        with tarfile.open(next(folder.glob("llama_cpp_python-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
    if not program(folder).exists():
        made = str(folder / "build")
        configure = ["cmake", "-S", str(source(folder)), "-B", made, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]
        subprocess.run([*configure, *FLAGS], check=True)
        subprocess.run(["cmake", "--build", made, "--target", "llama-server"], check=True)
    return program(folder)


@contextmanager
def serving(
    folder: Path, weights: Path, *, threads: int, slots: int, context_tokens: int, port: int
) -> Iterator[Endpoint]:
    """A running llama-server whose slots share one cache, as ours do."""
    command = [
        program(folder),
        "-m",
        weights,
        "--port",
        port,
        "-np",
        slots,
        "-c",
        context_tokens,
        "-kvu",
        "-t",
        threads,
    ]
    with (folder / "llama-server.log").open("w") as log:
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process)
        yield Endpoint(url=url, model="m")
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"llama-server ended with status {process.returncode}; see llama-server.log")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"llama-server was not ready within {START_SECONDS} s; see llama-server.log")


def main() -> None:
    """Build it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    print(build(parser.parse_args().folder))


if __name__ == "__main__":
    main()
