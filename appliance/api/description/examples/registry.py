"""Examples of the chain template → model → deployment → server, and of groups, in v3 and v4."""

from __future__ import annotations

from typing import Any

from appliance.api.description.examples.base import (
    ACCOUNT,
    DEPLOYMENT,
    GROUP,
    MODEL,
    SERVER,
    TEMPLATE,
    Example,
    entity,
    entity_v4,
)
from appliance.api.description.examples.openai import ANSWER, HELLO

_WEIGHTS = {"name": "weights", "type": "str", "description": "an imported artifact", "required": True}
_CONTEXT = {"name": "context_length", "type": "int", "description": "tokens of one request", "required": False}
_SEED = {"name": "seed", "type": "int", "description": "of the random draws", "required": False}
_PARAMETERS = {
    "model_creation_parameters_schema": {"parameters": [_WEIGHTS, _CONTEXT]},
    "model_request_parameters_schema": {"parameters": [_SEED]},
}
_BUNDLE: dict[str, Any] = {
    "vendor": "LAUNCH",
    "bundle_config": {"registry": "local", "image": "llama.cpp", "tag": "any"},
}


def _template(name: str) -> dict[str, Any]:
    kind = {"endpoint_type": "STREAMING", "model_type": "CHAT_COMPLETION"}
    return {"name": name, **kind, "vendor_configuration": _BUNDLE, **_PARAMETERS}


_GIVEN = {"weights": "starter-chat", "context_length": 512}
_SCHEMAS = {"request_schema": {"type": "object"}, "response_schema": {"type": "object"}}


def _shown_model(name: str) -> dict[str, Any]:
    return {
        "model_type": "CHAT_COMPLETION",
        "model_vendor": None,
        "model_creation_parameters": _GIVEN,
        "base_model_id": None,
        "base_model_metadata": None,
        "description": f"the model {name}",
        "model_template_id": TEMPLATE,
        "model_group_id": GROUP,
        "training_data_card": None,
        "model_card": None,
        **_SCHEMAS,
    }


def _model(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "model_type": "CHAT_COMPLETION",
        "description": f"the model {name}",
        "model_template_id": TEMPLATE,
        "model_group_id": GROUP,
        "model_creation_parameters": _GIVEN,
    }


_SHOWN_DEPLOYMENT = {
    "model_creation_parameters": None,
    "vendor_configuration": {"vendor": "LAUNCH", "min_workers": 0, "max_workers": 1, "per_worker": 4},
    "model_instance_id": MODEL,
    "status": "READY",
    "status_reason": None,
}
_WORKERS = {"vendor_configuration": {"vendor": "LAUNCH", "per_worker": 4}}
_SHOWN_SERVER = {
    "account_id": ACCOUNT,
    "model_server_id": SERVER,
    "name": "support",
    "alias": "support",
    "model_deployment_id": DEPLOYMENT,
    "pending_model_deployment_id": None,
    "swap_error": None,
}

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "v3CreateModelTemplate": (
        Example(
            body=_template("short-chats"),
            makes=TEMPLATE,
            answer=entity(TEMPLATE, "short-chats", _template("short-chats"), {"endpoint_protocol": None}),
        ),
    ),
    "v3UpdateModelTemplate": (
        Example(path={"template_id": TEMPLATE}, body={"name": "chats"}, summary="What is left out stays."),
    ),
    "v3CreateModelGroup": (
        Example(
            body={"name": "support", "description": "all that answer customers"},
            makes=GROUP,
            answer=entity(GROUP, "support", {"description": "all that answer customers"}),
        ),
    ),
    "v3UpdateModelGroup": (
        Example(path={"group_id": GROUP}, body={"description": "all of them"}, summary="What is left out stays."),
    ),
    "v3CreateModel": (
        Example(
            body=_model("support-chat"), makes=MODEL, answer=entity(MODEL, "support-chat", _shown_model("support-chat"))
        ),
    ),
    "v3UpdateModel": (
        Example(path={"model_id": MODEL}, body={"description": "v1"}, summary="What is left out stays."),
    ),
    "v3CreateModelDeployment": (
        Example(
            path={"model_id": MODEL},
            body={"name": "support-chat", **_WORKERS},
            makes=DEPLOYMENT,
            answer=entity(DEPLOYMENT, "support-chat", _SHOWN_DEPLOYMENT),
        ),
    ),
    "v3UpdateModelDeployment": (
        Example(
            path={"model_id": MODEL, "deployment_id": DEPLOYMENT},
            body={"name": "support-1"},
            summary="What is left out stays.",
        ),
    ),
    "v4CreateModelTemplate": (
        Example(
            body=_template("short-chats-v4"),
            makes=TEMPLATE,
            answer=entity_v4(TEMPLATE, "short-chats-v4", _template("short-chats-v4"), {"endpoint_protocol": None}),
        ),
    ),
    "v4UpdateModelTemplate": (
        Example(path={"model_template_id": TEMPLATE}, body={"name": "chats-v4"}, summary="What is left out stays."),
    ),
    "v4CreateModelGroup": (
        Example(body={"name": "support-v4"}, makes=GROUP, answer=entity_v4(GROUP, "support-v4", {"description": None})),
    ),
    "v4UpdateModelGroup": (
        Example(path={"model_group_id": GROUP}, body={"description": "all of them"}, summary="What is left out stays."),
    ),
    "v4CreateModel": (
        Example(
            body=_model("support-chat-v4"),
            makes=MODEL,
            answer=entity_v4(
                MODEL,
                "support-chat-v4",
                _shown_model("support-chat-v4"),
                {
                    "display_name": None,
                    "deployment_count": 0,
                    "supports_multi_turn": True,
                    "deployments": None,
                    "model_group": None,
                },
            ),
        ),
    ),
    "v4UpdateModel": (
        Example(
            path={"model_id": MODEL},
            body={"display_name": "Support", "base_model_metadata": {"model_developer": "us", "modelDetails": None}},
            summary="What is left out stays.",
        ),
    ),
    "v4CreateModelDeployment": (
        Example(
            path={"model_instance_id": MODEL},
            body={
                "name": "support-chat-v4",
                "deployment_metadata": {"team": "support"},
                "wait_for_ready": True,
                **_WORKERS,
            },
            makes=DEPLOYMENT,
            answer=entity_v4(
                DEPLOYMENT,
                "support-chat-v4",
                _SHOWN_DEPLOYMENT,
                {"deployment_metadata": {"team": "support"}, "model_endpoint_id": DEPLOYMENT},
            ),
        ),
    ),
    "v4UpdateModelDeployment": (
        Example(
            path={"model_instance_id": MODEL, "deployment_id": DEPLOYMENT},
            body={"deployment_metadata": None, "wait_for_ready": False},
            summary="What is left out stays; null empties.",
        ),
    ),
    "v4CreateModelServer": (
        Example(
            body={"name": "support", "alias": "support", "model_deployment_id": DEPLOYMENT},
            makes=SERVER,
            answer=_SHOWN_SERVER,
        ),
    ),
    "v4UpdateModelServerBackend": (
        Example(
            path={"model_server_id": SERVER},
            body={"new_model_deployment_id": DEPLOYMENT},
            summary="Loaded and probed first; the old one serves until then.",
            runs=False,  # it is the backend already
        ),
    ),
    "v4ExecuteModelServer": (
        Example(
            path={"model_server_id": SERVER},
            body={"messages": HELLO, "max_tokens": 8},
            answer={"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"},
        ),
    ),
    "v4ExecuteModelServerByAlias": (
        Example(
            path={"alias": "support"},
            body={"messages": HELLO, "max_tokens": 8, "stream": True},
            summary="In pieces.",
            name="stream",
        ),
    ),
    "adminSwap": (
        Example(
            path={"deployment_id": DEPLOYMENT},
            body={"model_id": MODEL},
            summary="The model that it should serve from now on.",
            runs=False,  # it serves that one already
        ),
    ),
}
