"""What becomes of the fields of each body: served, of no effect here, or refused when they ask for what is not served.

``docs/api.md`` prints these tables; a test holds them to the parameters of the official client, so that no documented
field is forgotten. A field that is in neither table of its body is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from appliance.domain.errors import Unsupported
from appliance.wire import openai as wire
from appliance.wire import openai_responses as responses


class Refused(Struct, frozen=True):
    """Why a field is not served, and values of it that ask for nothing."""

    why: str
    harmless: tuple[Any, ...] = ()


BODIES: Final[Mapping[str, type[Struct]]] = {
    "/v1/chat/completions": wire.ChatCompletionCreate,
    "/v1/completions": wire.CompletionCreate,
    "/v1/responses": responses.ResponseCreate,
    "/v1/embeddings": wire.EmbeddingsCreate,
    "/v1/rerank": wire.RerankCreate,
}
"""The body of each path that is told about here."""

ONE_MACHINE: Final = "there is one machine and one queue"
PREFIXES: Final = "prefixes are cached by themselves, inside one account"
LABEL: Final = "a label of the caller's"

_CHAT_NO_EFFECT: Final = {
    "user": LABEL,
    "metadata": LABEL,
    "safety_identifier": LABEL,
    "store": "answers are not kept for retrieval",
    "service_tier": ONE_MACHINE,
    "prompt_cache_key": PREFIXES,
    "prompt_cache_options": PREFIXES,
    "prompt_cache_retention": PREFIXES,
    "prediction": "it could only make the same answer faster",
}

_RESPONSE_NO_EFFECT: Final = {
    "user": LABEL,
    "metadata": f"{LABEL}, and comes back",
    "safety_identifier": LABEL,
    "service_tier": ONE_MACHINE,
    "prompt_cache_key": PREFIXES,
    "prompt_cache_options": PREFIXES,
    "prompt_cache_retention": PREFIXES,
    "max_tool_calls": "it counts calls of hosted tools, and there are none",
    "stream_options": "events are not padded",
}

NO_EFFECT: Final[Mapping[type[Struct], Mapping[str, str]]] = {
    wire.ChatCompletionCreate: _CHAT_NO_EFFECT,
    wire.CompletionCreate: {"user": LABEL},
    responses.ResponseCreate: _RESPONSE_NO_EFFECT,
    wire.EmbeddingsCreate: {"user": LABEL},
    wire.RerankCreate: {"priority": ONE_MACHINE},
}

_CHAT_REFUSED: Final = {
    "audio": Refused("answers are text"),
    "modalities": Refused("answers are text; leave it out, or send ['text']", (["text"],)),
    "functions": Refused("send 'tools', which took its place"),
    "function_call": Refused("send 'tool_choice', which took its place"),
    "moderation": Refused("nothing is moderated here"),
    "verbosity": Refused("say in the prompt how long the answer should be", ("medium",)),
    "web_search_options": Refused("there is no network to search"),
}

_KEPT: Final = "no answer is kept here; send the whole conversation as 'input'"

_RESPONSE_REFUSED: Final = {
    "store": Refused("no answer is kept here; leave it out, or send false", (False,)),
    "previous_response_id": Refused(_KEPT),
    "conversation": Refused(_KEPT),
    "background": Refused("send async tasks or batches for answers that are fetched later", (False,)),
    "background_options": Refused("send async tasks or batches for answers that are fetched later"),
    "context_management": Refused("nothing is compacted; shorten the conversation"),
    "prompt": Refused("no prompts are kept here; send the text as 'instructions' and 'input'"),
    "truncation": Refused("nothing is ever cut; shorten the conversation", ("disabled",)),
    "moderation": Refused("nothing is moderated here"),
    "image": Refused("input is text"),
    "access_programs": Refused("there are no such programs"),
}

REFUSED: Final[Mapping[type[Struct], Mapping[str, Refused]]] = {
    wire.ChatCompletionCreate: _CHAT_REFUSED,
    responses.ResponseCreate: _RESPONSE_REFUSED,
    responses.TextConfig: {"verbosity": Refused("say in the prompt how long the answer should be", ("medium",))},
    responses.Reasoning: {
        "summary": Refused("thoughts come whole, not summed up", ("auto",)),
        "generate_summary": Refused("thoughts come whole, not summed up", ("auto",)),
        "context": Refused("thoughts of earlier turns are treated as the chat template does", ("auto",)),
        "mode": Refused("there is one way of thinking", ("standard",)),
    },
    wire.RerankCreate: {
        "max_tokens_per_doc": Refused("no document is ever cut; shorten those that are too long"),
        "max_chunks_per_doc": Refused("no document is ever cut; shorten those that are too long"),
    },
    wire.Message: {
        "audio": Refused("messages are text"),
        "function_call": Refused("send 'tool_calls', which took its place"),
    },
}


def check(body: Struct, where: str = "") -> None:
    """Raise Unsupported for the first field that asks for what is not served; ``where`` comes before its name."""
    for name, refused in REFUSED.get(type(body), {}).items():
        value = getattr(body, name)
        if value is not None and value not in refused.harmless:
            raise not_served(where + name, refused.why)


def not_served(field: str, why: str) -> Unsupported:
    """The error for a field."""
    message = f"{field} is not served: {why}"
    return Unsupported(message, errors=[((field,), message)])
