"""What an installation is for, done once with nothing but the standard library. Run by a program, inside a network
namespace without interfaces: make a home, serve, complete by a built-in's name, and template → model → deployment →
execute. Prints one line when all of it worked; anything else is a traceback.

    python main_job.py PREFIX HOME
"""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

PORT = 8080
FIRST_ANSWER_SECONDS = 120


def raise_loopback() -> None:
    """A new network namespace has one interface, `lo`, and it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, 0x8913, request), 16)  # SIOCGIFFLAGS
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP


def call(method: str, path: str, key: str, body: object = None) -> object:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"x-api-key": key, "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=FIRST_ANSWER_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {path} was answered with {error.code}: {error.read().decode()}") from error


def complete_by_name(key: str) -> str:
    body = {"model": "starter-chat", "prompt": "Hello, what can you do?"}
    return call("POST", "/egp/v1/completions", key, body)["completion"]["text"]


def embed_over_v3(key: str) -> int:
    """Template, model, deployment, execute; the number of dimensions."""
    account = call("GET", "/user-info", key)["access_profiles"][0]["account"]["id"]
    shipped = next(t for t in call("GET", "/v3/model-templates", key) if t["name"] == "onnx-embedding")
    kept = ("endpoint_type", "model_type", "vendor_configuration", "model_creation_parameters_schema")
    template = call(
        "POST", "/v3/model-templates", key, {k: shipped[k] for k in kept} | {"name": "own", "account_id": account}
    )
    model = call(
        "POST",
        "/v3/models",
        key,
        {
            "name": "own-embedding",
            "model_type": "EMBEDDING",
            "account_id": account,
            "model_template_id": template["id"],
            "model_creation_parameters": {"weights": "starter-embed"},
        },
    )
    deployments = f"/v3/models/{model['id']}/deployments"
    deployment = call("POST", deployments, key, {"name": "own-embedding", "account_id": account})
    answer = call("POST", f"{deployments}/{deployment['id']}/execute", key, {"texts": ["hello"]})
    return len(answer["embeddings"][0][1])


def main(prefix: Path, home: Path) -> None:
    raise_loopback()
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    program, environment = str(prefix / "bin" / "appliance"), os.environ | {"APPLIANCE_HOME": str(home)}
    key = subprocess.run(
        [program, "init", "--quiet"], env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    server = subprocess.Popen(
        [program, "serve", "--port", str(PORT)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        for line in server.stdout:
            if line.startswith("Serving on"):
                break
        text, dimensions = complete_by_name(key), embed_over_v3(key)
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(timeout=60)
    assert text.strip()
    assert status in (0, -signal.SIGTERM), f"the server ended with {status}"
    print(f"main job done: {len(text)} characters, {dimensions} dimensions")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
