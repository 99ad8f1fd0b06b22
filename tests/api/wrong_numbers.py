"""Wrong numbers in requests for an answer."""

from __future__ import annotations

from tests.api.wrong_requests import HELLO, Wrong, chat

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
