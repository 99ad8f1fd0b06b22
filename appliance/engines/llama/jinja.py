"""One sandboxed Jinja environment for templates that nobody has vouched for.

Chat templates come with weights from strangers, or with a request. A template can read what it is given and write text:
no attributes of Python objects (CVE-2024-34359, CVE-2026-5760), no changes to its input, and bounds on its size, its
output, the size of any text it builds and the time it takes. The time is looked at in every call and every turn of a
loop, so a template cannot spin between two looks.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeVisitor

from appliance.domain.errors import InvalidParameter

MAX_TEMPLATE_CHARACTERS = 262_144
MAX_TEXT_CHARACTERS = 16_000_000
"""Of the output, and of any text on the way to it."""
MAX_RENDER_SECONDS = 2.0
MAX_POWER = 64

_FILTERS = (
    "abs", "attr", "batch", "capitalize", "default", "d", "dictsort", "e", "escape", "first", "float", "forceescape",
    "int", "items", "join", "last", "length", "count", "list", "lower", "map", "max", "min", "reject", "rejectattr",
    "replace", "reverse", "round", "safe", "select", "selectattr", "slice", "sort", "string", "sum", "title", "trim",
    "truncate", "unique", "upper",
)  # fmt: skip
"""Not among them: those whose output can be far larger than their input (center, format, indent by any width, ...)."""
_GROWING_METHODS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate"})

Result = TypeVar("Result")

_limits = threading.local()


class RaisedByTemplate(TemplateError):
    """The template called raise_exception: it does not want this conversation."""


def _tick() -> None:
    if time.monotonic() > getattr(_limits, "deadline_seconds", float("inf")):
        raise SecurityError(f"it takes longer than {MAX_RENDER_SECONDS} s")


def _bounded(characters: int) -> None:
    if characters > MAX_TEXT_CHARACTERS:
        raise SecurityError(f"it builds a text of {characters} characters, {MAX_TEXT_CHARACTERS} are allowed")


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 1


class _Watched(NodeVisitor):
    """Rewrites a parsed template: a look at the clock in each turn of a loop, a look at the size of joined text."""

    def visit_For(self, node: nodes.For) -> None:  # noqa: N802 - the name is jinja2's
        look = nodes.ExprStmt(nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None))
        node.body.insert(0, look.set_lineno(node.lineno))
        self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> None:  # noqa: N802
        self.generic_visit(node)
        joined = nodes.Call(nodes.EnvironmentAttribute("join_parts"), list(node.nodes), [], None, None)
        joined.set_lineno(node.lineno)
        node.nodes = [joined]


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it (the options of transformers), in bounds."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        self.filters = {name: self.filters[name] for name in _FILTERS} | {
            "tojson": to_json,
            "indent": _indent,
            "join": _join,
            "replace": _replace,
        }
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        del self.globals["lipsum"]

    def tick(self) -> None:
        """Look at the clock; compiled into every loop."""
        _tick()

    def join_parts(self, *parts: object) -> str:
        """The ``~`` operator."""
        texts = [str(part) for part in parts]
        _bounded(sum(map(len, texts)))
        return "".join(texts)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _Watched().visit(tree)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Also refuse methods that turn a number into as much text."""
        return super().is_safe_attribute(obj, attr, value) and not (isinstance(obj, str) and attr in _GROWING_METHODS)

    def wrap_str_format(self, value: Any) -> None:
        """No safe format either: one field can ask for a billion characters."""

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in jinja2
        """Every call of a template comes through here."""
        _tick()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and __obj.__name__ in ("replace", "join"):
            __obj = {"replace": _replace, "join": lambda sep, items: _join(items, sep)}[__obj.__name__]
            args = (owner, *args)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic that can build something large."""
        _tick()
        if operator == "+":
            _bounded(_size(left) + _size(right))
        elif operator == "*":
            _bounded(_repeats(left, right))
        elif operator == "**" and (abs(left) > 2**32 or abs(right) > MAX_POWER):
            raise SecurityError("a power is too large")
        elif operator == "%" and isinstance(left, str):
            raise SecurityError("text cannot be formatted with %; join it with ~")
        return super().call_binop(context, operator, left, right)


def _repeats(left: Any, right: Any) -> int:
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple) and isinstance(times, int):
            return len(text) * max(times, 0)
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() + right.bit_length()
    return 1


def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """JSON as it is, without escapes for HTML."""
    if indent is not None and not 0 <= indent <= 16:
        raise SecurityError("tojson: indent is 0 to 16")
    known = {name: option for name, option in options.items() if name in ("separators", "sort_keys")}
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, default=str, **known)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    pad = width if isinstance(width, str) else " " * min(max(width, 0), 64)
    lines = str(text).split("\n")
    _bounded(len(text) + len(pad) * len(lines))
    padded = [pad + line if line or blank else line for line in lines]
    if not first:
        padded[0] = lines[0]
    return "\n".join(padded)


def _join(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        items = [item.get(attribute) if isinstance(item, Mapping) else "" for item in items]
    texts = [str(item) for item in items]
    _bounded(sum(map(len, texts)) + len(separator) * len(texts))
    return str(separator).join(texts)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = len(text) + 1 if not old else text.count(old)
    _bounded(len(text) + found * len(new))
    return str(text).replace(old, new, count if count is not None else -1)


def _raise_exception(message: str) -> None:
    raise RaisedByTemplate(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(str(form)[:64])


_environment = ChatEnvironment()


@lru_cache(maxsize=64)
def compile_template(source: str) -> Template:
    """Compile a template. Raises InvalidParameter."""
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise InvalidParameter(f"chat_template: {len(source)} characters, {MAX_TEMPLATE_CHARACTERS} are allowed")
    return _guarded(lambda: _environment.from_string(source))


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Render a template within the bounds. Raises InvalidParameter for whatever goes wrong in it."""
    template = compile_template(source)
    _limits.deadline_seconds = time.monotonic() + MAX_RENDER_SECONDS
    try:
        return _guarded(lambda: _collected(template.generate(variables)))
    finally:
        del _limits.deadline_seconds


def _collected(parts: Iterable[str]) -> str:
    pieces: list[str] = []
    characters = 0
    for part in parts:
        _tick()
        characters += len(part)
        _bounded(characters)
        pieces.append(part)
    return "".join(pieces)


def _guarded(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except RaisedByTemplate as error:
        raise InvalidParameter(f"the model's chat template refuses this conversation: {error}") from error
    except SecurityError as error:
        raise InvalidParameter(f"the chat template was stopped: {error}") from error
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise InvalidParameter(f"the chat template fails on this conversation: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise InvalidParameter("the chat template was stopped: it nests too deep or needs too much memory") from error
