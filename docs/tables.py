"""Tables of the documentation, made from the code. cog writes them into the Markdown files; a test checks them.

Run ``make docs`` after a change.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from litestar.handlers import HTTPRouteHandler

from appliance import config
from appliance.api.description.answers import ANSWERS, Answer
from appliance.api.errors import STATUS_OF_CODE
from appliance.api.openai import fields
from appliance.app import ROUTES
from appliance.cli import main
from appliance.domain import errors
from appliance.domain.models import Parameter
from appliance.domain.trainable import ALONE, MIXTURES, TARGETS, TRAINABLE_ARCHITECTURES
from appliance.domain.training import Hyperparameters
from appliance.engines.llama import ranges, schema
from appliance.lifecycle.hyperparameters import SETTINGS
from appliance.lifecycle.remote import CREATION_PARAMETERS
from appliance.lifecycle.shipped import SHIPPED
from models_store.catalog import catalog

ROOT = Path(__file__).parent.parent


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    head = list(columns)
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    """Text that stays within its cell; reST's double backquotes are Markdown's single ones."""
    return str(value).replace("|", "\\|").replace("\n", " ").replace("``", "`")


def routes() -> str:
    """Every route, sorted by path."""
    rows = []
    for method, path, guards, handler in endpoints():
        who = "admin" if guards else "any key"
        if path.split("/")[1] in {"", "livez", "readyz", "metrics"}:
            who = "open"
        text = (inspect.getdoc(handler.fn) or "").split("\n")[0]
        rows.append((path, f"`{method}`", f"`{path}`", who, text))
    rows.append(
        (
            "/schema",
            "`GET`",
            "`/schema`",
            "open",
            "This list as a page that needs no network; `/schema/openapi.json` as OpenAPI.",
        )
    )
    return table(["method", "path", "who", "what"], (row[1:] for row in sorted(rows)))


def endpoints() -> Iterator[tuple[str, str, Any, HTTPRouteHandler]]:
    """Method, path, guards and handler of every route."""
    for prefix, guards, handler in _handlers():
        for path in handler.paths:
            full = re.sub(r"\{(\w+):\w+\}", r"{\1}", (prefix.rstrip("/") + "/" + path.strip("/")).rstrip("/") or "/")
            for method in sorted(map(str, handler.http_methods)):
                yield method, full, guards or handler.guards, handler


def is_refusing(handler: HTTPRouteHandler) -> bool:
    """Whether a route only says how it is done here."""
    return ANSWERS.get(str(handler.operation_id), Answer()).refuses


def _handlers() -> Iterator[tuple[str, Any, HTTPRouteHandler]]:
    for route in ROUTES:
        if isinstance(route, HTTPRouteHandler):
            yield "", None, route
        else:
            for value in vars(route).values():
                if isinstance(value, HTTPRouteHandler):
                    yield str(getattr(route, "path", "")), vars(route).get("guards"), value


def error_codes() -> str:
    """Every error code with its status and meaning."""
    rows = []
    for error in _error_tree(errors.ApplianceError):
        if error.code in STATUS_OF_CODE:
            status = STATUS_OF_CODE[error.code]
            rows.append((f"`{error.code}`", f"{status.value}", (inspect.getdoc(error) or "").split("\n")[0]))
    return table(["code", "status", "meaning"], rows)


def _error_tree(root: type[errors.ApplianceError]) -> Iterator[type[errors.ApplianceError]]:
    for child in root.__subclasses__():
        yield child
        yield from _error_tree(child)


def openai_fields() -> str:
    """What becomes of every field of the OpenAI dialect's bodies."""
    rows: list[tuple[str, str, str]] = []
    for path, body in fields.BODIES.items():
        without, refused = fields.NO_EFFECT.get(body, {}), fields.REFUSED.get(body, {})
        names = [field.name for field in msgspec.structs.fields(body)]
        served = ", ".join(f"`{name}`" for name in names if name not in without and name not in refused)
        rows.append((f"`{path}`", served, "served"))
        fates = {name: f"no effect: {why}" for name, why in without.items()}
        for name, each in refused.items():
            but = " or ".join(f"`{msgspec.json.encode(value).decode()}`" for value in each.harmless)
            fates[name] = f"400{f', but for {but}' if but else ''}: {each.why}"
        for fate in dict.fromkeys(fates.values()):
            rows.append(("", ", ".join(f"`{name}`" for name in fates if fates[name] == fate), fate))
    return table(["path", "fields", "what becomes of them"], rows)


def schema_keywords() -> str:
    """What of JSON schema constrained answers and arguments of tools can hold."""
    types = ", ".join(f"`{kind}`" for kind in schema.TYPES)
    rows = [("any", ", ".join(f"`{name}`" for name in ("type", *schema.ALONE)), f"types: {types}")]
    notes = {
        "array": "`prefixItems` with as many items as it lists",
        "string": "one of: lengths, `pattern`, `format` " + ", ".join(f"`{name}`" for name in ranges.FORMATS),
        "number": f"of whole numbers any bounds; where a fraction may be, whole ones to {ranges.LARGEST_BOUND}",
    }
    rows += [
        (kind, ", ".join(f"`{name}`" for name in names), notes.get(kind, ""))
        for kind, names in schema.KEYWORDS_OF.items()
    ]
    rows.append(("annotations", ", ".join(f"`{name}`" for name in sorted(schema.ANNOTATIONS)), "bind nothing"))
    bounds = (
        f"{schema.MAX_DEPTH} levels, {schema.MAX_NODES} schemas, {schema.MAX_PROPERTIES} properties, "
        f"{schema.MAX_ALTERNATIVES} alternatives, lengths to {schema.MAX_REPETITIONS}"
    )
    return table(["for", "keywords", "note"], [*rows, ("bounds", bounds, "more is a 422")])


def configuration() -> str:
    """Every key of ``appliance.toml`` with its default and meaning."""
    meanings = _field_docstrings(config.Config)
    rows = []
    for field in msgspec.structs.fields(config.Config):
        default = field.default if field.default is not msgspec.NODEFAULT else ""
        shown = "unset" if default is None else f"`{msgspec.json.encode(default).decode()}`"
        rows.append(
            (f"`{field.name}`", shown, f"`{config.ENVIRONMENT_PREFIX}{field.name.upper()}`", meanings[field.name])
        )
    return table(["key", "default", "environment", "meaning"], rows)


def _field_docstrings(struct: type) -> dict[str, str]:
    """The text below each field of a class."""
    body = ast.parse(inspect.getsource(struct)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
        ):
            found[statement.target.id] = str(ast.literal_eval(following.value))
    return found


def commands() -> str:
    """Every command of ``appliance`` with its options."""
    rows = []
    for path, command in _commands(main, "appliance"):
        options = [
            f"`{' '.join(p.opts)}`" if isinstance(p, click.Option) else f"`{p.human_readable_name}`"
            for p in command.params
        ]
        rows.append((f"`{path}`", (command.help or "").split("\n")[0], ", ".join(options)))
    return table(["command", "what", "arguments"], rows)


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def templates() -> str:
    """The shipped templates with their parameters."""
    rows = []
    for shipped in SHIPPED:
        creation = ", ".join(f"**`{p.name}`**" if p.required else f"`{p.name}`" for p in shipped.creation_parameters)
        requests = ", ".join(f"`{p.name}`" for p in shipped.request_parameters) or "none"
        rows.append((f"`{shipped.name}`", shipped.model_type.value, creation, requests))
    return table(["template", "model type", "creation parameters (bold: required)", "request parameters"], rows)


def parameters() -> str:
    """Every creation and request parameter once."""
    seen: dict[tuple[str, str], tuple[str, str, str]] = {}
    for shipped in SHIPPED:
        for parameter in (*shipped.creation_parameters, *shipped.request_parameters):
            seen.setdefault(
                (parameter.name, parameter.description), (f"`{parameter.name}`", parameter.type, parameter.description)
            )
    return table(["parameter", "type", "meaning"], sorted(seen.values()))


def hyperparameters() -> str:
    """What a fine-tuning job may be told."""
    defaults = msgspec.to_builtins(Hyperparameters())
    rows = (
        (f"`{s.name}`", s.type, f"`{msgspec.json.encode(defaults[s.name]).decode()}`", s.range, s.description)
        for s in SETTINGS
    )
    return table(["hyperparameter", "type", "default", "range", "meaning"], rows)


def trainable() -> str:
    """Architectures over which adapters are trained."""
    rows = ((f"`{name}`", _changed(name), "no" if name in ALONE else "yes") for name in TRAINABLE_ARCHITECTURES)
    return table(["architecture", "what an adapter changes", "examples share rows"], rows)


def _changed(architecture: str) -> str:
    what = ", ".join(f"`{name}`" for name in TARGETS[architecture])
    return f"{what}; of mixtures no router and no expert" if architecture in MIXTURES else what


def remote_parameters() -> str:
    """Creation parameters of models of external vendors."""
    users: dict[Parameter, list[str]] = {}
    for model_type, declared in CREATION_PARAMETERS.items():
        for parameter in declared:
            users.setdefault(parameter, []).append(model_type.value)
    everyone = len(CREATION_PARAMETERS)
    rows = (
        (f"`{p.name}`", p.type, "all" if len(types) == everyone else ", ".join(types), p.description)
        for p, types in users.items()
    )
    return table(["creation parameter", "type", "model types", "meaning"], rows)


def zoo() -> str:
    """The model zoo."""
    rows = (
        (f"`{e.name}`", e.title, e.size, ", ".join(kind.value for kind in e.model_types), e.licence, e.source)
        for e in catalog().entries
    )
    return table(["name", "model", "size", "serves", "licence", "where to get the file"], rows)
