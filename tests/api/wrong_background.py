"""Wrong files, batches and async tasks."""

from __future__ import annotations

from typing import Any

from tests.api.wrong_requests import HELLO, UNKNOWN, Wrong

BOUNDARY = "xxxx"
FORM: dict[str, str | bytes] = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(**fields: str) -> bytes:
    """A multipart form; the field ``file`` is a file."""
    parts = []
    for name, value in fields.items():
        attributes = f'name="{name}"' + ('; filename="../../a.jsonl"' if name == "file" else "")
        parts.append(f"--{BOUNDARY}\r\ncontent-disposition: form-data; {attributes}\r\n\r\n{value}\r\n")
    return ("".join(parts) + f"--{BOUNDARY}--\r\n").encode()


def upload(what: str, status: int, words: tuple[str, ...], content: bytes, headers: Any = None) -> Wrong:
    return Wrong(what, "POST", "/v1/files", status, words, content=content, headers=headers or FORM)


def batch(**body: Any) -> dict[str, Any]:
    """A batch's body with something wrong in it."""
    return {"input_file_id": "file-x", "endpoint": "/v1/completions", "completion_window": "24h", **body}


def task(what: str, status: int, words: tuple[str, ...], body: Any, endpoint: str = "api-chat", **how: Any) -> Wrong:
    return Wrong(what, "POST", f"/v1/async-tasks?model_endpoint_id={endpoint}", status, words, body, **how)


FILES = [
    upload("a form without a file", 422, ("file", "purpose"), form(purpose="batch")),
    upload("a form without a purpose", 422, ("file", "purpose"), form(file="{}")),
    upload("a file for another purpose", 422, ("fine-tune", "batch"), form(file="{}", purpose="fine-tune")),
    upload("an unknown field of a form", 422, ("more",), form(file="{}", purpose="batch", more="1")),
    upload("half a form", 422, ("multipart",), form(file="{}", purpose="batch")[:-20]),
    upload("a form without a boundary", 422, ("multipart",), b"x", {"content-type": "multipart/form-data"}),
    upload("no form", 422, ("file",), b"{}", {"content-type": "application/json"}),
    upload("a purpose twice", 422, ("purpose",), form(purpose="batch") + form(purpose="batch")),
    Wrong("an unknown file", "GET", "/v1/files/file-x", 404, ("file-x",)),
    Wrong("the content of an unknown file", "GET", f"/v1/files/{UNKNOWN}/content", 404),
    Wrong("a file by its path", "GET", "/v1/files/..%2fregistry.db/content", 404),
    Wrong("an unknown file deleted", "DELETE", "/v1/files/file-x", 404),
    Wrong("files after an unknown one", "GET", "/v1/files?after=file-x", 404, ("file-x",)),
    Wrong("too many files at once", "GET", "/v1/files?limit=10001", 422, ("limit",)),
    Wrong("files in an unknown order", "GET", "/v1/files?order=up", 422, ("order",)),
]

STORED = [
    Wrong("a batch of an unknown file", "POST", "/v1/batches", 404, ("file-x",), batch()),
    Wrong("another endpoint", "POST", "/v1/batches", 422, ("endpoint",), batch(endpoint="/v1/rerank")),
    Wrong("another window", "POST", "/v1/batches", 422, ("completion_window",), batch(completion_window="1h")),
    Wrong("a batch without a file", "POST", "/v1/batches", 422, ("input_file_id",), {"endpoint": "/v1/completions"}),
    Wrong("metadata of numbers", "POST", "/v1/batches", 422, ("metadata",), batch(metadata={"a": 1})),
    Wrong("much metadata", "POST", "/v1/batches", 422, ("metadata",), batch(metadata={str(n): "" for n in range(17)})),
    Wrong("an unknown field of a batch", "POST", "/v1/batches", 422, ("more",), batch(more=1)),
    Wrong("an unknown batch", "GET", "/v1/batches/batch_x", 404, ("batch_x",)),
    Wrong("an unknown batch cancelled", "POST", "/v1/batches/batch_x/cancel", 404, ("batch_x",)),
    Wrong("too many batches at once", "GET", "/v1/batches?limit=101", 422, ("limit",)),
    task("a task for nobody", 404, ("nobody",), {"args": {"messages": HELLO}}, "nobody"),
    task("a task without args", 422, ("args",), {}),
    task("args that are a list", 422, ("args",), {"args": []}),
    task("args of another model type", 422, ("texts",), {"args": {"texts": ["a"]}}),
    task("args with a wrong number", 422, ("max_tokens",), {"args": {"messages": HELLO, "max_tokens": -1}}),
    task(
        "args with an unknown binding",
        422,
        ("x",),
        {"args": {"messages": HELLO, "model_request_parameters": {"bindings": {"x": 1}}}},
    ),
    task(
        "args with a tool's turn without a name",
        422,
        ("name",),
        {"args": {"messages": [{"role": "tool", "content": "a"}]}},
    ),
    task("a task with a callback", 422, ("callback_url", "poll"), {"args": {}, "callback_url": "http://x"}),
    task("a task without a key", 401, (), {"args": {}}, key="none"),
    Wrong("an unknown task", "GET", f"/v1/async-tasks/{UNKNOWN}", 404, (UNKNOWN,)),
    Wrong("an unknown task deleted", "DELETE", f"/v1/async-tasks/{UNKNOWN}", 404, (UNKNOWN,)),
]
