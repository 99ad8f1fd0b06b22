"""Wrong before anything is asked: keys, routes, bodies."""

from __future__ import annotations

from tests.api.wrong_requests import UNKNOWN, Wrong, template

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
    Wrong("a member lists upstreams", "GET", "/admin/upstreams", 403, ("admin",), key="member"),
    Wrong("a member deletes an upstream", "DELETE", "/admin/upstreams/a", 403, ("admin",), key="member"),
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
