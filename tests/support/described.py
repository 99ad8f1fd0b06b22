"""The document of a running server, operation by operation: its schemas to hold things against, and requests by it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema

from tests.support.server import Server

REFERENCE = "#/components/schemas/"


class Described:
    """What a server says of itself, and a client with an admin's key."""

    def __init__(self, server: Server) -> None:
        self.client = server.client()
        self.document: dict[str, Any] = self.client.get("/schema/openapi.json").raise_for_status().json()
        self._places = {
            operation["operationId"]: (method, path, operation)
            for path, item in self.document["paths"].items()
            for method, operation in item.items()
        }
        self._open = self.document["components"]["schemas"]
        self._closed = {name: _closed(schema) for name, schema in self._open.items()}

    def body_schema(self, name: str) -> jsonschema.Draft202012Validator:
        """Of an operation's request."""
        (content,) = self._places[name][2]["requestBody"]["content"].values()
        return self._validator(content["schema"], closed=False)

    def answer_schema(self, name: str, *, closed: bool = False) -> jsonschema.Draft202012Validator:
        """Of its success. ``closed``: what is not described is not there."""
        return self._validator(self._success(name)["application/json"]["schema"], closed=closed)

    def piece_schema(self, name: str, *, closed: bool = False) -> jsonschema.Draft202012Validator:
        """Of each event or line of its stream."""
        pieces = [content["x-piece"] for content in self._success(name).values() if "x-piece" in content]
        return self._validator(pieces[0], closed=closed)

    def _success(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._places[name][2]["responses"]["200"]["content"]
        return found

    def _validator(self, schema: dict[str, Any], *, closed: bool) -> jsonschema.Draft202012Validator:
        components = self._closed if closed else self._open
        whole = {**schema, "components": {"schemas": components}}
        return jsonschema.Draft202012Validator(whole)

    def send(self, name: str, body: Any, path: dict[str, str], query: dict[str, str]) -> httpx.Response:
        """An operation's request; a form where it takes one."""
        method, template, operation = self._places[name]
        url = template.format(**path)
        if "multipart/form-data" in operation["requestBody"]["content"]:
            fields = {key: value for key, value in body.items() if key != "file"}
            return self.client.request(method, url, files={"file": ("lines.jsonl", body["file"])}, data=fields)
        return self.client.request(method, url, json=body, params=query)

    def pieces(self, name: str, answer: httpx.Response) -> list[Any]:
        """The JSON values of a streamed answer, which is of the described type."""
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in self._success(name)
        lines = answer.text.replace("\r\n", "\n").split("\n")
        if kind == "text/event-stream":
            lines = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line and line != "[DONE]"]


def _closed(schema: Any) -> Any:
    """The same, with nothing allowed in an object that is not described."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and "additionalProperties" not in found:
        found["additionalProperties"] = False
    return found
