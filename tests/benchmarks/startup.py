"""How long until the appliance serves, what it holds while idle, and what the first call of each starter costs.

    .venv/bin/python -m tests.benchmarks.startup [--turns 5]

Starts a real server on a home that was made before (warm disk), waits for a 200 of /readyz, reads the resident memory,
then calls each starter twice. Prints medians. Not a test: machines differ, numbers belong beside their machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.server import Server

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "starter-chat": ("/v1/completions", {"prompt": "Hello", "max_tokens": 1}),
    "starter-embed": ("/v1/embeddings", {"input": "Hello"}),
    "starter-rerank": ("/v1/rerank", {"query": "Hello", "documents": ["world"]}),
}


def main() -> None:
    """Run the turns and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "home")
        server.start()
        server.stop()
        found = [measure(server) for _ in range(turns)]
    print("| what | median | worst |\n| --- | --- | --- |")
    for name in found[0]:
        values = [turn[name] for turn in found]
        print(f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} |")


def measure(server: Server) -> dict[str, float]:
    """One start, one look at the memory, two calls of each starter."""
    started = time.monotonic()
    server.start()
    while httpx.get(f"{server.url}/readyz").status_code != 200:
        pass
    found = {"ready, seconds after `appliance serve`": time.monotonic() - started}
    assert server.process is not None
    found["resident memory when idle, MiB"] = psutil.Process(server.process.pid).memory_info().rss / 2**20
    with server.client() as client:
        for model, (path, body) in CALLS.items():
            found[f"{model}, first call (loads), seconds"] = seconds_of(client, path, {"model": model, **body})
            found[f"{model}, second call, seconds"] = seconds_of(client, path, {"model": model, **body})
    server.stop()
    return found


def seconds_of(client: httpx.Client, path: str, body: dict[str, Any]) -> float:
    """How long a request takes."""
    started = time.monotonic()
    client.post(path, json=body).raise_for_status()
    return time.monotonic() - started


if __name__ == "__main__":
    main()
