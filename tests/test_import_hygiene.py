"""What is loaded when: commands start without the server's libraries, the server without its engines' native code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import chain
from tests.support.server import Server, running_server
from tests.support.tiny_models import write_llama

NATIVE = ("libllama", "onnxruntime")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "appliance.cli",
            ("litestar", "uvicorn", "textual", "llama_cpp", "onnxruntime", "numpy", "tokenizers", "torch"),
        ),
        ("appliance.lifecycle.workshop", ("litestar", "uvicorn", "textual", "llama_cpp", "onnxruntime", "torch")),
        ("appliance.app", ("llama_cpp", "onnxruntime", "tokenizers", "textual", "torch", "httpx")),
        ("appliance.training.__main__", ("torch", "transformers", "peft", "llama_cpp", "onnxruntime", "numpy")),
        ("appliance.training.prompts", ("torch", "transformers", "peft", "llama_cpp", "onnxruntime")),
        ("appliance.engines.token_counts", ("torch", "litestar", "llama_cpp", "onnxruntime", "tokenizers", "numpy")),
        ("tui.app", ("litestar", "llama_cpp", "onnxruntime", "numpy", "sqlite3", "torch")),
    ],
)
def test_an_import_loads_no_more_than_it_needs(module: str, unwanted: tuple[str, ...]) -> None:
    """Importing an entry point leaves the libraries of the others alone."""
    program = f"import sys, {module}; print(*sorted(set({unwanted!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.split() == []


def mapped(server: Server) -> set[str]:
    """Native libraries of the engines in the server's memory."""
    assert server.process is not None
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    return {name for name in NATIVE if name in maps}


def test_a_server_loads_its_engines_on_the_first_call(tmp_path: Path) -> None:
    """Until somebody calls a model neither llama.cpp nor ONNX Runtime is in the server's memory; counting a dataset's
    tokens, which reads the weights' vocabulary, brings neither into it."""
    with running_server(tmp_path / "home") as server, server.client() as client:
        client.get("/v1/models").raise_for_status()
        client.get("/admin/state").raise_for_status()
        path = write_llama(server.home / "import" / "tiny.gguf")
        chain.import_weights(client, path, "tiny")
        assert mapped(server) == set()
        form = {"name": "chats", "schema_type": "GENERATION"}
        file = {"file": ("chats.jsonl", '{"input": "a", "output": "b"}')}
        dataset = client.post("/v4/training-datasets", data=form, files=file).raise_for_status().json()
        path = f"/admin/training-datasets/{dataset['id']}/tokens"
        counted = client.get(path, params={"base_model": "starter-chat"}).raise_for_status().json()
        assert counted["examples"] == 1
        assert mapped(server) == set()

        chain.deploy(client, chain.CHAT, "tiny", "tiny")
        assert mapped(server) == {"libllama"}
