"""Requests that must be refused, each with the status and the words that its answer owes the caller.

``{name}`` in paths and bodies stands for an id of the stage (``conftest.Stage.names``).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx

UNKNOWN = "00000000-0000-4000-8000-00000000dead"
HELLO = [{"role": "user", "content": "hello"}]
BIG = "x" * 200_000
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class Wrong(NamedTuple):
    """One wrong request. ``words`` must all be in the answer's ``detail``."""

    what: str
    method: str
    path: str
    status: int
    words: tuple[str, ...] = ()
    body: Any = None
    content: bytes | None = None
    headers: dict[str, str | bytes] | None = None
    key: str = "admin"

    def send(self, client: httpx.Client, names: dict[str, str], keys: dict[str, str]) -> httpx.Response:
        """Send it, with the placeholders filled in."""
        headers = {"content-type": "application/json", **(self.headers or {})}
        if self.key in keys:
            headers.setdefault("x-api-key", keys[self.key])
        content = self.content
        if content is None and self.body is not None:
            content = _fill(json.dumps(self.body), names).encode()
        return client.request(self.method, _fill(self.path, names), content=content, headers=headers)


def _fill(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


def chat(**body: Any) -> dict[str, Any]:
    """An OpenAI chat body with something wrong in it."""
    return {"model": "api-chat", "messages": HELLO, "max_tokens": 1, **body}


def model(**body: Any) -> dict[str, Any]:
    """A model body with something wrong in it."""
    sound = {
        "name": "api-wrong",
        "model_type": "CHAT_COMPLETION",
        "model_template_id": "{chat_template}",
        "model_creation_parameters": {"weights": "api-llama"},
    }
    return {**sound, **body}


def template(**body: Any) -> dict[str, Any]:
    """A template body with something wrong in it."""
    sound = {
        "name": "api-wrong",
        "endpoint_type": "SYNC",
        "model_type": "COMPLETION",
        "vendor_configuration": {"bundle_config": {"registry": "local", "image": "llama.cpp", "tag": "1"}},
    }
    return {**sound, **body}


def tool(**parameters: Any) -> list[dict[str, Any]]:
    """A tool whose schema is wrong."""
    return [{"type": "function", "function": {"name": "look", "parameters": parameters}}]


KEYS = [
    Wrong("no key", "GET", "/v3/models", 401, ("x-api-key", "Bearer"), key="none"),
    Wrong("an unknown key", "GET", "/v3/models", 401, ("unknown key",), key="unknown"),
    Wrong("a revoked key", "GET", "/v3/models", 401, ("api-revoked", "revoked"), key="revoked"),
    Wrong("an empty bearer", "GET", "/v3/models", 401, ("no key",), headers={"authorization": "Bearer"}, key="none"),
    Wrong("basic authentication", "GET", "/v1/models", 401, headers={"authorization": "Basic YTpi"}, key="none"),
    Wrong("a key of bytes", "GET", "/v1/models", 401, headers={"x-api-key": b"\xff\xfe"}, key="none"),
    Wrong("an unknown route without a key", "GET", "/nowhere", 404, key="none"),
    Wrong("a member makes a key", "POST", "/admin/keys", 403, ("admin",), {"name": "a", "role": "admin"}, key="member"),
    Wrong("a member lists keys", "GET", "/admin/keys", 403, ("admin",), key="member"),
    Wrong("a member imports", "POST", "/admin/imports", 403, (), {"paths": ["/x"], "name": "x"}, key="member"),
    Wrong("a member deletes weights", "DELETE", "/admin/artifacts/api-llama", 403, key="member"),
    Wrong("a member makes a template", "POST", "/v3/model-templates", 403, (), template(), key="member"),
    Wrong("a member changes a template", "PATCH", "/v3/model-templates/{template}", 403, (), {}, key="member"),
    Wrong("a member deletes a template", "DELETE", "/v3/model-templates/{template}", 403, key="member"),
    Wrong("a member makes an account", "POST", "/accounts", 403, (), {"account_name": "a"}, key="member"),
    Wrong(
        "a member in another account",
        "GET",
        "/v3/models",
        403,
        (UNKNOWN,),
        headers={"x-selected-account-id": UNKNOWN},
        key="member",
    ),
    Wrong("an unknown account", "GET", "/v3/models", 404, (UNKNOWN,), headers={"x-selected-account-id": UNKNOWN}),
]

ROUTES = [
    Wrong("an unknown route", "GET", "/v9/models", 404, ("/v9/models", "/schema")),
    Wrong("an unknown method", "PUT", "/v3/models", 405, ("PUT", "/v3/models")),
    Wrong("a list deleted", "DELETE", "/v3/models", 405, ("DELETE",)),
    Wrong("dots in the path", "GET", "/v3/models/%2e%2e/%2e%2e/etc/passwd", 404),
    Wrong("an encoded slash", "GET", "/v3/models/..%2f..%2fregistry.db", 404),
    Wrong("dots in an asset's path", "GET", "/schema/assets/..%2f..%2f..%2fpyproject.toml", 404),
    Wrong("a very long id", "GET", f"/v3/models/{'a' * 30_000}", 404),
    Wrong("a NUL in an id", "GET", "/v3/models/a%00b", 404),
    Wrong("broken UTF-8 in an id", "GET", "/v3/models/%ff%fe", 404),
    Wrong(
        "another site's host", "GET", "/livez", 400, ("evil.example", "allowed_hosts"), headers={"host": "evil.example"}
    ),
    Wrong("another site's page", "GET", "/livez", 403, ("evil.example",), headers={"origin": "https://evil.example"}),
    Wrong("a page without a site", "GET", "/livez", 403, ("null",), headers={"origin": "null"}),
    Wrong("a limit that is no number", "GET", "/admin/deployments/{chat_id}/calls?limit=x", 422, ("limit",)),
    Wrong("a limit out of range", "GET", "/admin/deployments/{chat_id}/calls?limit=1001", 422, ("limit", "1000")),
]

BODIES = [
    Wrong("an empty body", "POST", "/v2/completions", 422, ("empty", "JSON")),
    Wrong("blanks", "POST", "/v3/models", 422, ("empty",), content=b"  \n"),
    Wrong("no JSON", "POST", "/v1/chat/completions", 422, ("not JSON",), content=b"hello"),
    Wrong("half a JSON", "POST", "/v3/models", 422, ("not JSON",), content=b'{"name": "a'),
    Wrong("two JSONs", "POST", "/v3/models", 422, ("not JSON",), content=b'{"name":"a","model_type":"AGENT"}{}'),
    Wrong(
        "a form",
        "POST",
        "/v2/completions",
        422,
        ("not JSON",),
        content=b"model=a",
        headers={"content-type": "text/plain"},
    ),
    Wrong("a list", "POST", "/v2/completions", 422, ("object", "array"), content=b"[]"),
    Wrong("null", "POST", "{chat}/execute", 422, ("object", "null"), content=b"null"),
    Wrong("broken UTF-8", "POST", "/v2/completions", 422, ("UTF-8",), content=b'{"model":"\xff"}'),
    Wrong("half a surrogate", "POST", "/v2/completions", 422, ("not JSON",), content=b'{"model":"\\ud800"}'),
    Wrong("deep lists", "POST", "/v1/embeddings", 422, ("array",), content=b"[" * 10_000 + b"]" * 10_000),
    Wrong(
        "deep objects in a free field",
        "POST",
        "/v3/models",
        422,
        ("64 deep",),
        content=b'{"name":"a","model_type":"COMPLETION","base_model_metadata":'
        + b'{"a":' * 10_000
        + b"1"
        + b"}" * 10_001,
    ),
    Wrong(
        "65 levels in a free field",
        "POST",
        "{chat}/execute",
        422,
        content=b'{"messages":[],"metadata":' + b"[" * 65 + b"]" * 65 + b"}",
    ),
    Wrong(
        "65 levels in chat_template_kwargs",
        "POST",
        "/v1/chat/completions",
        422,
        ("64 deep",),
        content=b'{"model":"api-chat","messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"a":'
        + b"[" * 65
        + b"]" * 65
        + b"}}",
    ),
    Wrong("NaN", "POST", "/v2/completions", 422, ("not JSON",), content=b'{"model":"a","prompt":NaN}'),
    Wrong("Infinity", "POST", "/v2/completions", 422, ("not JSON",), content=b'{"model":"a","prompt":Infinity}'),
    Wrong(
        "1e999",
        "POST",
        "/v1/chat/completions",
        422,
        ("temperature", "out of range"),
        content=b'{"model":"a","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
    ),
    Wrong(
        "a number of 5,000 digits",
        "POST",
        "/v1/completions",
        422,
        ("max_tokens",),
        content=b'{"model":"a","prompt":"x","max_tokens":' + b"9" * 5000 + b"}",
    ),
]

NUMBERS = [
    Wrong(
        "v3 temperature", "POST", "{chat}/execute", 422, ("temperature", "1.0"), {"messages": HELLO, "temperature": 1.5}
    ),
    Wrong(
        "v2 temperature",
        "POST",
        "/v2/completions",
        422,
        ("model_parameters.temperature", "1.0"),
        {"model": "api-chat", "prompt": "x", "model_parameters": {"temperature": 1.5}},
    ),
    Wrong("temperature", "POST", "/v1/chat/completions", 422, ("temperature", "2.0"), chat(temperature=2.1)),
    Wrong("negative temperature", "POST", "/v1/chat/completions", 422, ("temperature", "0.0"), chat(temperature=-0.1)),
    Wrong("max_tokens 0", "POST", "/v1/chat/completions", 422, ("max_tokens", "1"), chat(max_tokens=0)),
    Wrong("max_tokens -1", "POST", "{chat}/execute", 422, ("max_tokens", "1"), {"messages": HELLO, "max_tokens": -1}),
    Wrong("max_tokens 2^40", "POST", "/v1/chat/completions", 422, ("max_tokens", "1048576"), chat(max_tokens=2**40)),
    Wrong(
        "max_tokens as text", "POST", "/v1/chat/completions", 422, ("max_tokens", "int", "str"), chat(max_tokens="5")
    ),
    Wrong("max_tokens 1.5", "POST", "/v1/chat/completions", 422, ("max_tokens", "int"), chat(max_tokens=1.5)),
    Wrong("temperature true", "POST", "/v1/chat/completions", 422, ("temperature", "bool"), chat(temperature=True)),
    Wrong("stream as text", "POST", "/v1/chat/completions", 422, ("stream", "bool"), chat(stream="true")),
    Wrong("n 17", "POST", "/v1/chat/completions", 422, ("n", "16"), chat(n=17)),
    Wrong("top_p 1.1", "POST", "/v1/chat/completions", 422, ("top_p", "1.0"), chat(top_p=1.1)),
    Wrong("seed 2^63", "POST", "/v1/chat/completions", 422, ("seed",), chat(seed=2**63)),
    Wrong(
        "top_logprobs 21",
        "POST",
        "/v1/chat/completions",
        422,
        ("top_logprobs", "20"),
        chat(logprobs=True, top_logprobs=21),
    ),
    Wrong("top_logprobs alone", "POST", "/v1/chat/completions", 422, ("logprobs",), chat(top_logprobs=2)),
    Wrong("logit bias 101", "POST", "/v1/chat/completions", 422, ("logit_bias", "100"), chat(logit_bias={"5": 101})),
    Wrong("logit bias of a word", "POST", "/v1/chat/completions", 422, ("logit_bias",), chat(logit_bias={"the": 1})),
    Wrong("logit bias of an unknown token", "POST", "/v1/chat/completions", 422, (), chat(logit_bias={"999999": 1})),
    Wrong("5 stop texts", "POST", "/v1/chat/completions", 422, ("stop", "4"), chat(stop=["a", "b", "c", "d", "e"])),
    Wrong("an empty stop text", "POST", "/v1/chat/completions", 422, ("stop",), chat(stop="")),
    Wrong("a long stop text", "POST", "/v1/chat/completions", 422, ("stop", "256"), chat(stop="x" * 257)),
    Wrong(
        "dimensions above the model's",
        "POST",
        "/v1/embeddings",
        422,
        ("1000", "64"),
        {"model": "api-embed", "input": "the", "dimensions": 1000},
    ),
    Wrong(
        "dimensions 0",
        "POST",
        "/v1/embeddings",
        422,
        ("dimensions", "1"),
        {"model": "api-embed", "input": "x", "dimensions": 0},
    ),
    Wrong(
        "top_n 0",
        "POST",
        "/v1/rerank",
        422,
        ("top_n", "1"),
        {"model": "api-embed", "query": "x", "documents": ["a"], "top_n": 0},
    ),
    Wrong("no prompts", "POST", "/v1/completions", 422, ("prompt",), {"model": "api-chat", "prompt": []}),
    Wrong(
        "too many choices in all",
        "POST",
        "/v1/completions",
        422,
        ("320", "256"),
        {"model": "api-chat", "prompt": ["x"] * 20, "n": 16},
    ),
    Wrong("a token id below 0", "POST", "/v1/completions", 422, (), {"model": "api-chat", "prompt": [-1]}),
    Wrong(
        "a token id beyond the vocabulary",
        "POST",
        "/v1/completions",
        422,
        ("999999",),
        {"model": "api-chat", "prompt": [999999]},
    ),
]

FIELDS = [
    Wrong("an unknown field", "POST", "/v1/chat/completions", 422, ("tempreature",), chat(tempreature=1)),
    Wrong("an unknown field in v3", "POST", "/v3/models", 422, ("colour",), model(colour="red")),
    Wrong(
        "an unknown nested field",
        "POST",
        "/v2/completions",
        422,
        ("top_q",),
        {"model": "api-chat", "prompt": "x", "model_parameters": {"top_q": 1}},
    ),
    Wrong("a missing field", "POST", "/v2/completions", 422, ("prompt",), {"model": "api-chat"}),
    Wrong("a missing field of execute", "POST", "{chat}/execute", 422, ("messages",), {}),
    Wrong("another type's body", "POST", "{chat}/execute", 422, ("texts",), {"texts": ["x"]}),
    Wrong(
        "an unknown role",
        "POST",
        "/v1/chat/completions",
        422,
        ("messages[0].role",),
        chat(messages=[{"role": "king", "content": "x"}]),
    ),
    Wrong(
        "a message without content",
        "POST",
        "{chat}/execute",
        422,
        ("messages[0]", "content"),
        {"messages": [{"role": "user"}]},
    ),
    Wrong("no messages", "POST", "/v1/chat/completions", 422, ("messages",), chat(messages=[])),
    Wrong(
        "arguments of a call that are no JSON",
        "POST",
        "{agent}/execute",
        422,
        ("'look'", "not JSON"),
        {"messages": [*HELLO, {"role": "agent", "tool_request": {"name": "look", "arguments": "nope"}}], "tools": []},
    ),
    Wrong(
        "an image",
        "POST",
        "/v1/chat/completions",
        400,
        ("image_url",),
        chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
    ),
    Wrong(
        "images by name",
        "POST",
        "/v2/completions",
        400,
        ("text only",),
        {"model": "api-chat", "prompt": "x", "images": [{"image_url": "u"}]},
    ),
    Wrong("echo", "POST", "/v1/completions", 422, ("echo",), {"model": "api-chat", "prompt": "x", "echo": True}),
    Wrong("a tool named twice", "POST", "/v1/chat/completions", 422, ("look", "twice"), chat(tools=[TOOL, TOOL])),
    Wrong(
        "a tool named badly",
        "POST",
        "/v1/chat/completions",
        422,
        ("tools[0].function.name",),
        chat(tools=[{"type": "function", "function": {"name": "a b"}}]),
    ),
    Wrong("129 tools", "POST", "/v1/chat/completions", 422, ("tools", "128"), chat(tools=[TOOL] * 129)),
    Wrong(
        "a tool that is not offered",
        "POST",
        "/v1/chat/completions",
        422,
        ("other",),
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "other"}}),
    ),
    Wrong("a required tool of none", "POST", "/v1/chat/completions", 422, ("no tools",), chat(tool_choice="required")),
    Wrong(
        "an unsupported schema keyword",
        "POST",
        "/v1/chat/completions",
        422,
        ("tools.0", "'not'"),
        chat(tools=tool(type="object", properties={"a": {"not": {}}})),
    ),
    Wrong(
        "a tool schema that is none",
        "POST",
        "/v1/chat/completions",
        422,
        ("tools.0", "colour"),
        chat(tools=tool(type="object", properties={"a": {"type": "colour"}})),
    ),
    Wrong(
        "response_format of another kind",
        "POST",
        "/v1/chat/completions",
        422,
        ("response_format.type",),
        chat(response_format={"type": "xml"}),
    ),
    Wrong(
        "response_format without its schema",
        "POST",
        "/v1/chat/completions",
        422,
        ("json_schema",),
        chat(response_format={"type": "json_schema"}),
    ),
    Wrong(
        "a schema with an unsupported keyword",
        "POST",
        "/v1/chat/completions",
        422,
        ("dependentRequired",),
        chat(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "object", "dependentRequired": {"a": ["b"]}}},
            }
        ),
    ),
    Wrong(
        "an unknown request parameter",
        "POST",
        "{chat}/execute",
        422,
        ("colour", "top_k"),
        {"messages": HELLO, "model_request_parameters": {"bindings": {"colour": 1}}},
    ),
    Wrong(
        "a mistyped request parameter",
        "POST",
        "{chat}/execute",
        422,
        ("top_k", "int"),
        {"messages": HELLO, "model_request_parameters": {"bindings": {"top_k": "many"}}},
    ),
    Wrong(
        "a request parameter out of range",
        "POST",
        "{chat}/execute",
        422,
        ("top_p",),
        {"messages": HELLO, "model_request_parameters": {"bindings": {"top_p": "1.5"}}},
    ),
    Wrong(
        "an agent's tool named twice",
        "POST",
        "{agent}/execute",
        422,
        ("look", "twice"),
        {"messages": HELLO, "tools": [{"name": "look", "description": "", "arguments": {}}] * 2},
    ),
    Wrong(
        "an agent with a system message only",
        "POST",
        "{agent}/execute",
        422,
        ("messages",),
        {"messages": [{"role": "system", "content": "x"}], "tools": []},
    ),
    Wrong(
        "an agent that keeps 0 messages",
        "POST",
        "{agent}/execute",
        422,
        ("memory_strategy.params.k", "1"),
        {"messages": HELLO, "tools": [], "memory_strategy": {"name": "last_k", "params": {"k": 0}}},
    ),
]

TARGETS = [
    Wrong("an unknown name", "POST", "/v1/chat/completions", 404, ("nobody", "/v1/models"), chat(model="nobody")),
    Wrong(
        "a name of blanks and slashes", "POST", "/v1/chat/completions", 404, ("../../",), chat(model="../../etc/passwd")
    ),
    Wrong("a name with a NUL", "POST", "/v2/completions", 422, ("model",), {"model": "a\0", "prompt": "x"}),
    Wrong("a name too long", "POST", "/v2/completions", 422, ("model", "128"), {"model": "x" * 129, "prompt": "x"}),
    Wrong(
        "an unknown deployment", "POST", f"/v3/models/{{chat_model}}/deployments/{UNKNOWN}/execute", 404, (UNKNOWN,), {}
    ),
    Wrong("another model's deployment", "POST", "/v3/models/{embed_model}/deployments/{chat_id}/execute", 404, (), {}),
    Wrong("an unknown model", "GET", f"/v3/models/{UNKNOWN}", 404, (UNKNOWN,)),
    Wrong("an unknown template", "GET", f"/v3/model-templates/{UNKNOWN}", 404, (UNKNOWN,)),
    Wrong("an unknown group", "GET", f"/v3/model-groups/{UNKNOWN}", 404, (UNKNOWN,)),
    Wrong("an unknown job", "GET", f"/admin/jobs/{UNKNOWN}", 404, (UNKNOWN,)),
    Wrong("an unknown key's id", "DELETE", f"/admin/keys/{UNKNOWN}", 404, (UNKNOWN,)),
    Wrong("an unknown artifact", "DELETE", "/admin/artifacts/nothing", 404, ("nothing",)),
    Wrong("an unknown user", "GET", f"/users/{UNKNOWN}", 404, (UNKNOWN,)),
    Wrong(
        "chat with an embedding model",
        "POST",
        "/v1/chat/completions",
        400,
        ("api-embed", "EMBEDDING"),
        chat(model="api-embed"),
    ),
    Wrong(
        "vectors of a chat model",
        "POST",
        "/v1/embeddings",
        400,
        ("api-chat", "CHAT_COMPLETION"),
        {"model": "api-chat", "input": "x"},
    ),
    Wrong(
        "a chat prompt too long",
        "POST",
        "{chat}/execute",
        400,
        ("tokens", "512"),
        {"messages": [{"role": "user", "content": "the " * 3000}]},
    ),
    Wrong("a prompt too long", "POST", "/v2/completions", 400, ("tokens", "512"), {"model": "api-chat", "prompt": BIG}),
    Wrong(
        "a streamed prompt too long",
        "POST",
        "/v2/completions",
        400,
        ("tokens", "512"),
        {"model": "api-chat", "prompt": BIG, "stream": True},
    ),
    Wrong(
        "one of two prompts too long",
        "POST",
        "/v1/completions",
        400,
        ("tokens", "512"),
        {"model": "api-chat", "prompt": ["x", BIG], "stream": True},
    ),
    Wrong(
        "a text too long",
        "POST",
        "/v1/embeddings",
        400,
        ("tokens", "128"),
        {"model": "api-embed", "input": ["a", "the " * 3000]},
    ),
    Wrong("a name taken in chat", "POST", "/v3/models", 409, ("api-chat",), model(name="api-chat")),
]

REGISTRY = [
    Wrong(
        "a template's name taken", "POST", "/v3/model-templates", 409, ("api-template",), template(name="api-template")
    ),
    Wrong(
        "a built-in's name", "POST", "/v3/model-templates", 409, ("llama-cpp-agent",), template(name="llama-cpp-agent")
    ),
    Wrong("a group's name taken", "POST", "/v3/model-groups", 409, ("api-group",), {"name": "api-group"}),
    Wrong(
        "a deployment's name taken",
        "POST",
        "/v3/models/{chat_model}/deployments",
        409,
        ("api-chat",),
        {"name": "api-chat"},
    ),
    Wrong(
        "a zoo model's name",
        "POST",
        "/v3/models/{chat_model}/deployments",
        409,
        ("starter-chat",),
        {"name": "starter-chat"},
    ),
    Wrong(
        "an artifact's name taken",
        "POST",
        "/admin/imports",
        409,
        ("api-llama",),
        {"paths": ["{import}/api-llama.gguf"], "name": "api-llama"},
    ),
    Wrong("renamed to a taken name", "PATCH", "{chat}", 409, ("api-embed",), {"name": "api-embed"}),
    Wrong("an empty name", "POST", "/v3/model-groups", 422, ("name", "1"), {"name": ""}),
    Wrong("a name of blanks", "POST", "/v3/model-groups", 422, ("name",), {"name": "  "}),
    Wrong("null for a name", "PATCH", "{chat}", 422, ("name", "null"), {"name": None}),
    Wrong("a name with a line break", "POST", "/v3/model-groups", 422, ("name",), {"name": "a\nb"}),
    Wrong("a name that ends in a line break", "POST", "/v3/model-groups", 422, ("name",), {"name": "a\n"}),
    Wrong(
        "an unknown backend",
        "POST",
        "/v3/model-templates",
        422,
        ("vllm", "llama.cpp"),
        template(vendor_configuration={"bundle_config": {"registry": "local", "image": "vllm", "tag": "1"}}),
    ),
    Wrong(
        "a parameter declared twice",
        "POST",
        "/v3/model-templates",
        422,
        ("a",),
        template(
            model_creation_parameters_schema={"parameters": [{"name": "a", "type": "str", "description": ""}] * 2}
        ),
    ),
    Wrong(
        "a parameter of another type",
        "POST",
        "/v3/model-templates",
        422,
        ("parameters[0].type",),
        template(model_creation_parameters_schema={"parameters": [{"name": "a", "type": "list", "description": ""}]}),
    ),
    Wrong(
        "a built-in template changed",
        "PATCH",
        "/v3/model-templates/{builtin_template}",
        409,
        ("built in",),
        {"name": "mine"},
    ),
    Wrong("a built-in template deleted", "DELETE", "/v3/model-templates/{builtin_template}", 409, ("built in",)),
    Wrong(
        "a built-in model changed", "PATCH", "/v3/models/{builtin_model}", 409, ("built in",), {"description": "mine"}
    ),
    Wrong("a built-in model deleted", "DELETE", "/v3/models/{builtin_model}", 409, ("built in",)),
    Wrong(
        "a built-in deployment changed",
        "PATCH",
        "/v3/models/{builtin_model}/deployments/{builtin_deployment}",
        409,
        ("built in",),
        {"name": "mine"},
    ),
    Wrong(
        "a built-in deployment deleted",
        "DELETE",
        "/v3/models/{builtin_model}/deployments/{builtin_deployment}",
        409,
        ("built in",),
    ),
    Wrong(
        "a built-in swapped",
        "POST",
        "/admin/deployments/{builtin_deployment}/swap",
        409,
        ("built in",),
        {"model_id": "{embed_model}"},
    ),
    Wrong("a starter's weights deleted", "DELETE", "/admin/artifacts/starter-embed", 409, ("starter",)),
    Wrong("a template in use", "DELETE", "/v3/model-templates/{template}", 409, ("api-model",)),
    Wrong(
        "a used template's type",
        "PATCH",
        "/v3/model-templates/{template}",
        409,
        ("api-model",),
        {"model_type": "AGENT"},
    ),
    Wrong("a group in use", "DELETE", "/v3/model-groups/{group}", 409, ("api-model",)),
    Wrong("a deployed model deleted", "DELETE", "/v3/models/{chat_model}", 409, ("api-chat",)),
    Wrong(
        "a deployed model's weights",
        "PATCH",
        "/v3/models/{chat_model}",
        409,
        ("api-chat",),
        {"model_creation_parameters": {"weights": "api-llama", "threads": 1}},
    ),
    Wrong("weights in use", "DELETE", "/admin/artifacts/api-llama", 409, ("api-chat",)),
    Wrong("an unknown template for a model", "POST", "/v3/models", 404, (UNKNOWN,), model(model_template_id=UNKNOWN)),
    Wrong("no template", "POST", "/v3/models", 422, ("model_template_id",), model(model_template_id=None)),
    Wrong("an unknown group for a model", "POST", "/v3/models", 404, (UNKNOWN,), model(model_group_id=UNKNOWN)),
    Wrong(
        "another type than the template's",
        "POST",
        "/v3/models",
        422,
        ("CHAT_COMPLETION", "EMBEDDING"),
        model(model_type="EMBEDDING"),
    ),
    Wrong(
        "unknown weights",
        "POST",
        "/v3/models",
        422,
        ("weights", "nothing"),
        model(model_creation_parameters={"weights": "nothing"}),
    ),
    Wrong(
        "an unknown adapter",
        "POST",
        "/v3/models",
        422,
        ("adapter", "nothing"),
        model(model_creation_parameters={"weights": "api-llama", "adapter": "nothing"}),
    ),
    Wrong(
        "an unknown creation parameter",
        "POST",
        "/v3/models",
        422,
        ("wieghts", "threads"),
        model(model_creation_parameters={"wieghts": "api-llama"}),
    ),
    Wrong(
        "a mistyped creation parameter",
        "POST",
        "/v3/models",
        422,
        ("context_length", "int"),
        model(model_creation_parameters={"weights": "api-llama", "context_length": "long"}),
    ),
    Wrong(
        "a nested creation parameter",
        "POST",
        "/v3/models",
        422,
        ("model_creation_parameters",),
        model(model_creation_parameters={"weights": {"a": 1}}),
    ),
    Wrong(
        "missing weights",
        "POST",
        "/v3/models/{bare_model}/deployments",
        422,
        ("missing", "weights"),
        {"name": "api-wrong"},
    ),
    Wrong(
        "an unknown parameter of a deployment",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("colour",),
        {"name": "api-wrong", "model_creation_parameters": {"colour": "red"}},
    ),
    Wrong(
        "unknown weights of a deployment",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("nothing",),
        {"name": "api-wrong", "model_creation_parameters": {"weights": "nothing"}},
    ),
    Wrong(
        "embedding weights in a chat deployment",
        "POST",
        "/v3/models/{chat_model}/deployments",
        400,
        ("bert",),
        {"name": "api-wrong", "model_creation_parameters": {"weights": "api-bert"}},
    ),
    Wrong(
        "ONNX weights in a chat deployment",
        "POST",
        "/v3/models/{chat_model}/deployments",
        400,
        ("onnx",),
        {"name": "api-wrong", "model_creation_parameters": {"weights": "starter-embed"}},
    ),
    Wrong(
        "min above max",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("min_workers", "2", "max_workers", "1"),
        {"name": "api-wrong", "vendor_configuration": {"min_workers": 2, "max_workers": 1}},
    ),
    Wrong(
        "per_worker 0",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("per_worker", "1"),
        {"name": "api-wrong", "vendor_configuration": {"per_worker": 0}},
    ),
    Wrong(
        "per_worker 257",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("per_worker", "256"),
        {"name": "api-wrong", "vendor_configuration": {"per_worker": 257}},
    ),
    Wrong(
        "context above the trained one",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("context_length", "513", "512"),
        {"name": "api-wrong", "model_creation_parameters": {"context_length": 513}},
    ),
    Wrong(
        "context 0",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("context_length",),
        {"name": "api-wrong", "model_creation_parameters": {"context_length": 0}},
    ),
    Wrong(
        "threads -1",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("threads",),
        {"name": "api-wrong", "model_creation_parameters": {"threads": -1}},
    ),
    Wrong(
        "threads 2^40",
        "POST",
        "/v3/models/{chat_model}/deployments",
        422,
        ("threads",),
        {"name": "api-wrong", "model_creation_parameters": {"threads": 2**40}},
    ),
    Wrong(
        "an unknown pooling",
        "POST",
        "/v3/models/{embed_model}/deployments",
        422,
        ("pooling", "max"),
        {"name": "api-wrong", "model_creation_parameters": {"pooling": "max"}},
    ),
    Wrong(
        "a patch out of range",
        "PATCH",
        "{chat}",
        422,
        ("context_length",),
        {"model_creation_parameters": {"context_length": 99999}},
    ),
    Wrong(
        "a swap to another type",
        "POST",
        "/admin/deployments/{chat_id}/swap",
        422,
        ("EMBEDDING",),
        {"model_id": "{embed_model}"},
    ),
    Wrong("a swap to nothing", "POST", "/admin/deployments/{chat_id}/swap", 404, (UNKNOWN,), {"model_id": UNKNOWN}),
    Wrong("a key of another role", "POST", "/admin/keys", 422, ("role",), {"name": "a", "role": "king"}),
    Wrong(
        "a key for nobody",
        "POST",
        "/admin/keys",
        404,
        (UNKNOWN,),
        {"name": "a", "role": "member", "account_id": UNKNOWN},
    ),
    Wrong("an account's name taken", "POST", "/accounts", 409, ("default",), {"account_name": "default"}),
]

IMPORTS = [
    Wrong(
        "an import from outside",
        "POST",
        "/admin/imports",
        422,
        ("/etc/passwd", "import"),
        {"paths": ["/etc/passwd"], "name": "api-wrong"},
    ),
    Wrong(
        "an import that climbs out",
        "POST",
        "/admin/imports",
        422,
        (),
        {"paths": ["{import}/../registry.db"], "name": "api-wrong"},
    ),
    Wrong(
        "an import of a link", "POST", "/admin/imports", 422, (), {"paths": ["{import}/api-link"], "name": "api-wrong"}
    ),
    Wrong(
        "an import of nothing",
        "POST",
        "/admin/imports",
        422,
        ("missing.gguf",),
        {"paths": ["{import}/missing.gguf"], "name": "api-wrong"},
    ),
    Wrong("an import of a NUL", "POST", "/admin/imports", 422, (), {"paths": ["{import}/a\0b"], "name": "api-wrong"}),
    Wrong("an import of no files", "POST", "/admin/imports", 422, ("paths", "1"), {"paths": [], "name": "api-wrong"}),
    Wrong(
        "weights named with a slash",
        "POST",
        "/admin/imports",
        422,
        ("a/b",),
        {"paths": ["{import}/api-llama.gguf"], "name": "a/b"},
    ),
    Wrong(
        "weights named with dots",
        "POST",
        "/admin/imports",
        422,
        ("..",),
        {"paths": ["{import}/api-llama.gguf"], "name": ".."},
    ),
]

WRONG = [*KEYS, *ROUTES, *BODIES, *NUMBERS, *FIELDS, *TARGETS, *REGISTRY, *IMPORTS]
