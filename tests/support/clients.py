"""The official clients, method by method, read off their classes: what there is to cover, and what is out of scope."""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import anthropic
import ollama
import openai
import scale_gp
import scale_gp_beta
from pydantic import PydanticDeprecatedSince20
from scale_egp.sdk.client import EGPClient
from scale_egp.utils.api_utils import APIEngine

with warnings.catch_warnings():
    # the client's fine-tuning types call pydantic 2's Field the way pydantic 1 took it
    warnings.simplefilter("ignore", PydanticDeprecatedSince20)
    from scale_egp.cli import collections as commands
    from scale_egp.sdk.collections.fine_tuning import FineTuningJobCollection, TrainingDatasetCollection

Place: TypeAlias = tuple[type, str]
"""A class and the name of a function on it."""
Methods: TypeAlias = dict[str, list[Place]]
"""Methods as one writes them behind a client, with the classes that have them: the plain one and the asynchronous."""

_NO_KEY = "not sent"


def _resources(client: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The resources behind a client and behind each other, those nearest to it first."""
    inside = []
    for name in dir(type(client)):
        static = inspect.getattr_static(type(client), name)
        if name.startswith(("_", "with_")) or not hasattr(static, "__get__") or inspect.isfunction(static):
            continue
        found = getattr(client, name)
        if hasattr(found, "_client") and type(found).__module__.partition(".")[0] == _package(client):
            inside.append(((*path, name), found))
    yield from inside
    for deeper, found in inside:
        yield from _resources(found, deeper)


def _package(thing: Any) -> str:
    return type(thing).__module__.partition(".")[0]


def _functions(kind: type) -> list[str]:
    return [
        name
        for name in dir(kind)
        if not name.startswith(("_", "with_")) and inspect.isfunction(inspect.getattr_static(kind, name))
    ]


def _generated(*clients: Any) -> Methods:
    """Of clients made by a generator. One class at two places counts at the first: ``beta`` repeats some."""
    methods: Methods = defaultdict(list)
    for client in clients:
        seen: set[type] = set()
        for path, resource in sorted(_resources(client), key=lambda each: len(each[0])):
            if type(resource) not in seen:
                seen.add(type(resource))
                for name in _functions(type(resource)):
                    methods[".".join((*path, name))].append((type(resource), name))
    return dict(methods)


def _openai() -> Methods:
    return _generated(openai.OpenAI(api_key=_NO_KEY), openai.AsyncOpenAI(api_key=_NO_KEY))


def _anthropic() -> Methods:
    return _generated(anthropic.Anthropic(api_key=_NO_KEY), anthropic.AsyncAnthropic(api_key=_NO_KEY))


def _scale_gp() -> Methods:
    return _generated(scale_gp.SGPClient(api_key=_NO_KEY), scale_gp.AsyncSGPClient(api_key=_NO_KEY))


def _scale_gp_beta() -> Methods:
    given = {"api_key": _NO_KEY, "account_id": _NO_KEY}
    return _generated(scale_gp_beta.SGPClient(**given), scale_gp_beta.AsyncSGPClient(**given))


def _ollama() -> Methods:
    kinds: tuple[type, ...] = (ollama.Client, ollama.AsyncClient)
    names = [name for name in _functions(ollama.Client) if name != "close"]
    return {name: [(kind, name) for kind in kinds if hasattr(kind, name)] for name in names}


def _scale_egp() -> Methods:
    """Collections behind the client, with two that it has no door to; their users build them by hand."""
    client = EGPClient(api_key=_NO_KEY, account_id=_NO_KEY)
    found: dict[str, Any] = {name: getattr(client, name)() for name in _functions(EGPClient) if name != "user_info"}
    found |= {
        "fine_tuning_jobs": FineTuningJobCollection(client),
        "training_datasets": TrainingDatasetCollection(client),
    }
    methods: Methods = {"user_info": [(EGPClient, "user_info")]}
    for path, collection in _collections(found):
        for name in _own_functions(type(collection)):
            methods[f"{path}.{name}"] = [(type(collection), name)]
    return methods


def _collections(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, collection in found.items():
        yield path, collection
        doors = _own_functions(type(collection), is_door=True)
        yield from _collections({f"{path}.{name}": getattr(collection, name)() for name in doors})


def _own_functions(kind: type, *, is_door: bool = False) -> list[str]:
    """Functions of a collection that ask the server, or those that open another collection."""
    return [name for name in _functions(kind) if not hasattr(APIEngine, name) and _is_door(kind, name) == is_door]


def _is_door(kind: type, name: str) -> bool:
    signature = inspect.signature(getattr(kind, name))
    return len(signature.parameters) == 1 and "Collection" in str(signature.return_annotation)


def _scale_egp_command_line() -> Methods:
    groups = [
        kind
        for kind in vars(commands).values()
        if inspect.isclass(kind)
        and issubclass(kind, commands.GenericCommands)
        and kind.command_group_name not in ("generic", "CRUD")
    ]
    return {f"{kind.command_group_name} {name}": [(kind, name)] for kind in groups for name in _functions(kind)}


_READERS: dict[str, Callable[[], Methods]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "ollama": _ollama,
    "scale-gp": _scale_gp,
    "scale-gp-beta": _scale_gp_beta,
    "scale-egp": _scale_egp,
    "scale-egp command line": _scale_egp_command_line,
}
CLIENTS = tuple(_READERS)


def methods_of(client: str) -> Methods:
    """Every method of a client."""
    return _READERS[client]()


_KEEPS_NOTHING = "keeps answers or conversations on the server; nothing is kept here"
_AGENTS = "agents, sessions and environments that run at the vendor"
_ORGANIZATION = "the vendor's own organizations, keys, billing and compliance"
_MEDIA = "models that make sound, images or video"
_APPLICATIONS = "applications and their dashboards, threads and reports; not the models family"
_EVALUATIONS = "evaluations, their datasets, questions and reports; not the models family"
_KNOWLEDGE = "knowledge bases and vector stores; not the models family"
_TRAINING = "fine-tuning in OpenAI's shape; it is served in SGP's"
_BATCHES_OF_THEIR_OWN = "batches are served in OpenAI's shape"
_STORE = "always refused, with how it is done here"
_WEB = "asks ollama.com, not the server"

OUT_OF_SCOPE: dict[str, dict[str, str]] = {
    "openai": {
        "admin": _ORGANIZATION,
        "audio": _MEDIA,
        "beta.agents": _AGENTS,
        "beta.assistants": _KEEPS_NOTHING,
        "beta.chatkit": _AGENTS,
        "beta.realtime": _MEDIA,
        "beta.responses": "the same as responses, of which the stateless core is served",
        "beta.threads": _KEEPS_NOTHING,
        "chat.completions.delete": _KEEPS_NOTHING,
        "chat.completions.list": _KEEPS_NOTHING,
        "chat.completions.messages": _KEEPS_NOTHING,
        "chat.completions.retrieve": _KEEPS_NOTHING,
        "chat.completions.update": _KEEPS_NOTHING,
        "containers": _AGENTS,
        "content_provenance_checks": _MEDIA,
        "conversations": _KEEPS_NOTHING,
        "decisions": _AGENTS,
        "evals": _EVALUATIONS,
        "fine_tuning": _TRAINING,
        "images": _MEDIA,
        "live": _MEDIA,
        "models.delete": "models are made and deleted in the SGP dialects",
        "moderations": "no moderation model is shipped",
        "realtime": _MEDIA,
        "responses.cancel": _KEEPS_NOTHING,
        "responses.compact": _KEEPS_NOTHING,
        "responses.connect": "a web socket for conversations that are kept",
        "responses.delete": _KEEPS_NOTHING,
        "responses.input_items": _KEEPS_NOTHING,
        "responses.retrieve": _KEEPS_NOTHING,
        "safety": _ORGANIZATION,
        "skills": _AGENTS,
        "uploads": "uploads in parts; a file is sent in one piece",
        "vector_stores": _KNOWLEDGE,
        "videos": _MEDIA,
        "webhooks": "nothing is called back",
    },
    "anthropic": {
        "beta.agents": _AGENTS,
        "beta.compliance": _ORGANIZATION,
        "beta.deployment_runs": _AGENTS,
        "beta.deployments": _AGENTS,
        "beta.dreams": _AGENTS,
        "beta.environments": _AGENTS,
        "beta.files": "files for the vendor's own tools",
        "beta.memory_stores": _KEEPS_NOTHING,
        "beta.messages.batches": _BATCHES_OF_THEIR_OWN,
        "beta.messages.thread": _KEEPS_NOTHING,
        "beta.messages.tool_runner": "a loop in the client around `beta.messages.create`, which is covered",
        "beta.organization": _ORGANIZATION,
        "beta.sessions": _AGENTS,
        "beta.skills": _AGENTS,
        "beta.tunnels": _AGENTS,
        "beta.user_profiles": _ORGANIZATION,
        "beta.vaults": _AGENTS,
        "beta.webhooks": "nothing is called back",
        "files": "files for the vendor's own tools",
        "messages.batches": _BATCHES_OF_THEIR_OWN,
        "organization": _ORGANIZATION,
        "skills": _AGENTS,
        "user_profiles": _ORGANIZATION,
    },
    "ollama": {
        "systemone": _WEB,
        "web_fetch": _WEB,
        "web_search": _WEB,
    },
    "scale-gp": {
        "application_deployments": _APPLICATIONS,
        "application_schemas": _APPLICATIONS,
        "application_specs": _APPLICATIONS,
        "application_test_case_outputs": _APPLICATIONS,
        "application_threads": _APPLICATIONS,
        "application_variant_reports": _APPLICATIONS,
        "application_variants": _APPLICATIONS,
        "applications": _APPLICATIONS,
        "chat_threads": _APPLICATIONS,
        "deployment_packages": _APPLICATIONS,
        "evaluation_configs": _EVALUATIONS,
        "evaluation_datasets": _EVALUATIONS,
        "evaluations": _EVALUATIONS,
        "interactions": _APPLICATIONS,
        "knowledge_base_data_sources": _KNOWLEDGE,
        "knowledge_bases": _KNOWLEDGE,
        "question_sets": _EVALUATIONS,
        "questions": _EVALUATIONS,
        "studio_projects": _EVALUATIONS,
        "themes": _APPLICATIONS,
    },
    "scale-gp-beta": {
        "agent_configs": _AGENTS,
        "annotation_tasks": _EVALUATIONS,
        "build": _AGENTS,
        "credentials": _ORGANIZATION,
        "dataset_items": _EVALUATIONS,
        "datasets": _EVALUATIONS,
        "deploy": _AGENTS,
        "evaluation_dashboards": _EVALUATIONS,
        "evaluation_groups": _EVALUATIONS,
        "evaluation_items": _EVALUATIONS,
        "evaluations": _EVALUATIONS,
        "questions": _EVALUATIONS,
        "rubrics": _EVALUATIONS,
        "secrets": _ORGANIZATION,
        "span_assessments": _APPLICATIONS,
        "spans": _APPLICATIONS,
        "vector_stores": _KNOWLEDGE,
    },
    "scale-egp": {
        "application_specs": _APPLICATIONS,
        "chunks.synthesize": "answers made from knowledge bases; not the models family",
        "evaluation_configs": _EVALUATIONS,
        "evaluation_datasets": _EVALUATIONS,
        "evaluations": _EVALUATIONS,
        "fine_tuning_jobs.create": "cannot be serialised with pydantic 2; the command line's is covered",
        "knowledge_base_data_sources": _KNOWLEDGE,
        "knowledge_bases": _KNOWLEDGE,
        "question_sets": _EVALUATIONS,
        "questions": _EVALUATIONS,
    },
    "scale-egp command line": {
        "model-template show_model_schemas": "prints what the client knows; asks no server",
    },
}
"""Families of methods that no route serves, by how their names begin, and why."""


def is_of(method: str, family: str) -> bool:
    """Whether a method belongs to a family."""
    return method == family or method.startswith((f"{family}.", f"{family} "))


def reason_out_of_scope(client: str, method: str) -> str | None:
    """Why a method is out of scope; None: it is not."""
    return next((why for family, why in OUT_OF_SCOPE[client].items() if is_of(method, family)), None)
