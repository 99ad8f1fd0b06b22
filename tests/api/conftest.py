"""A stage for wrong requests: tiny weights, a chat model, an embedding model, and things that stand on each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.server import Server, running_server
from tests.support.tiny_models import write_bert, write_llama

CONTEXT_TOKENS = 512


class Stage:
    """Names to be put into the paths and bodies of wrong requests."""

    def __init__(self, server: Server, client: httpx.Client) -> None:
        self.server = server
        folder = server.home / "import"
        chain.import_weights(client, write_llama(folder / "api-llama.gguf", context_length=CONTEXT_TOKENS), "api-llama")
        chain.import_weights(client, write_bert(folder / "api-bert.gguf"), "api-bert")
        self.chat = chain.deploy(client, chain.CHAT, "api-llama", "api-chat")
        self.embed = chain.deploy(client, chain.EMBEDDING, "api-bert", "api-embed", "EMBEDDING")
        self.agent = chain.deploy(client, "llama-cpp-agent", "api-llama", "api-agent", "AGENT")
        self.template_id = self._make(client, "/v3/model-templates", template_body("api-template"))
        self.group_id = self._make(client, "/v3/model-groups", {"name": "api-group"})
        self.model_id = self._make(client, "/v3/models", self._model_body("api-model", {"weights": "api-llama"}))
        self.bare_model_id = self._make(client, "/v3/models", self._model_body("api-bare", None))
        revoked = client.post("/admin/keys", json={"name": "api-revoked", "role": "member"}).json()
        client.delete(f"/admin/keys/{revoked['key']['id']}").raise_for_status()
        self.keys = {
            "admin": server.admin_key,
            "member": server.member_key,
            "revoked": revoked["secret"],
            "unknown": "sk-" + "x" * 43,
        }

    @staticmethod
    def _make(client: httpx.Client, path: str, body: dict[str, Any]) -> str:
        return str(client.post(path, json=body).raise_for_status().json()["id"])

    def _model_body(self, name: str, parameters: dict[str, str] | None) -> dict[str, Any]:
        return {
            "name": name,
            "model_type": "COMPLETION",
            "model_template_id": self.template_id,
            "model_group_id": self.group_id,
            "model_creation_parameters": parameters,
        }

    def names(self, client: httpx.Client) -> dict[str, str]:
        """What a placeholder in a wrong request stands for."""
        models = {m["name"]: m["id"] for m in client.get("/v3/models").json()}
        templates = {t["name"]: t["id"] for t in client.get("/v3/model-templates").json()}
        deployments = {d["name"]: d["id"] for d in client.get("/admin/state").json()["deployments"]}
        return {
            "chat": self.chat.path,
            "chat_id": self.chat.deployment_id,
            "chat_model": self.chat.model_id,
            "embed": self.embed.path,
            "embed_model": self.embed.model_id,
            "agent": self.agent.path,
            "bare_model": self.bare_model_id,
            "model": self.model_id,
            "template": self.template_id,
            "group": self.group_id,
            "builtin_model": models["starter-embed"],
            "builtin_deployment": deployments["starter-embed"],
            "builtin_template": templates[chain.CHAT],
            "chat_template": templates[chain.CHAT],
            "completion_template": templates[chain.COMPLETION],
            "embed_template": templates[chain.EMBEDDING],
            "onnx_template": templates["onnx-embedding"],
        }

    def remove(self, client: httpx.Client) -> None:
        """Leave the server as it was found."""
        chain.remove(client, self.chat)
        chain.remove(client, self.embed)
        chain.remove(client, self.agent)
        client.delete(f"/v3/models/{self.model_id}").raise_for_status()
        client.delete(f"/v3/models/{self.bare_model_id}").raise_for_status()
        client.delete(f"/v3/model-templates/{self.template_id}").raise_for_status()
        client.delete(f"/v3/model-groups/{self.group_id}").raise_for_status()
        for name in ("api-llama", "api-bert"):
            client.delete(f"/admin/artifacts/{name}").raise_for_status()


def template_body(name: str) -> dict[str, Any]:
    """A sound template."""
    return {
        "name": name,
        "endpoint_type": "STREAMING",
        "model_type": "COMPLETION",
        "vendor_configuration": {"bundle_config": {"registry": "local", "image": "llama.cpp", "tag": "any"}},
        "model_creation_parameters_schema": {
            "parameters": [{"name": "weights", "type": "str", "description": "an artifact", "required": True}]
        },
    }


@pytest.fixture(scope="session")
def stage(server: Server) -> Iterator[Stage]:
    """Set once for all tests of this folder."""
    with server.client() as client:
        made = Stage(server, client)
        yield made
        made.remove(client)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for those who leave things behind; names are theirs, and nothing is counted."""
    with running_server(tmp_path_factory.mktemp("fresh") / "home") as running:
        yield running
