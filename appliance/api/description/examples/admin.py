"""Examples of what administrators do."""

from __future__ import annotations

from appliance.api.description.examples.base import ACCOUNT, CHAT_DEPLOYMENT, DEPLOYMENT, KEY, WHEN, Example

_POINT = {
    "clients": 4,
    "requests": 32,
    "prompt_tokens": 128,
    "response_tokens": 64,
    "first_token_seconds": 0.21,
    "prompt_tokens_per_second": 1800.0,
    "response_tokens_per_second": 240.0,
}

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "createAccount": (Example(body={"account_name": "research"}, makes=ACCOUNT, answer={"account_id": ACCOUNT}),),
    "adminCreateKey": (
        Example(
            body={"name": "notebook", "role": "member"},
            makes=KEY,
            answer={
                "key": {
                    "id": KEY,
                    "name": "notebook",
                    "role": "member",
                    "account_id": ACCOUNT,
                    "prefix": "sk-abcd",
                    "created_at": WHEN,
                    "revoked_at": None,
                    "limits": {
                        "requests_per_minute": None,
                        "tokens_per_day": None,
                        "allowed_models": None,
                        "expires_at": None,
                    },
                },
                "secret": "sk-abcdefghijklmnop",
            },
        ),
        Example(
            name="limits",
            summary="With limits, for another account.",
            body={
                "name": "demo",
                "role": "member",
                "account_id": ACCOUNT,
                "limits": {"requests_per_minute": 60, "tokens_per_day": 100_000, "allowed_models": ["starter-chat"]},
            },
        ),
    ),
    "adminLimitKey": (
        Example(
            path={"key_id": KEY},
            body={"limits": {"requests_per_minute": 10, "tokens_per_day": None}},
            summary="What is left out stays; null takes a limit away.",
        ),
    ),
    "adminLimitAccount": (
        Example(
            path={"account_id": ACCOUNT},
            body={"limits": {"tokens_per_day": 1_000_000}},
            summary="What is left out stays.",
        ),
    ),
    "adminPlan": (Example(body={"deployment": "starter-chat"}, summary="What a call of it would do to memory now."),),
    "adminUpdateDeployment": (
        Example(
            path={"deployment_id": CHAT_DEPLOYMENT},
            body={"call_content": "digest"},
            answer={"call_content": "digest", "id": CHAT_DEPLOYMENT, "name": "starter-chat"},
        ),
    ),
    "adminImport": (
        Example(
            body={"paths": ["/srv/weights/qwen2.5-0.5b-instruct-q8_0.gguf"], "name": "qwen-small"},
            runs=False,  # the file is not there
        ),
    ),
    "adminKeepBenchmark": (
        Example(
            body={"deployment_id": DEPLOYMENT, "loaded_at": WHEN, "points": [_POINT]},
            runs=False,  # nothing was loaded at that moment
        ),
    ),
    "adminCreateUpstream": (
        Example(
            body={"name": "cluster", "base_url": "https://cluster.example/v1", "key": "secret", "vendor": "OPENAI"},
            runs=False,  # the host has to be allowed in the configuration
        ),
    ),
    "adminRekeyUpstream": (Example(path={"name": "cluster"}, body={"key": "another"}, runs=False),),
}
