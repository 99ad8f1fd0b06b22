"""The facts about each operation that its handler's signature holds."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.response import File, Stream
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from appliance.api.description.answers import ANSWERS, Answer
from appliance.api.idempotency import MARK


class Operation(Struct, kw_only=True, frozen=True):
    """One operation."""

    id: str
    summary: str
    bodies: tuple[Any, ...]
    """Types that its JSON body may have; none: it takes none."""
    answers: tuple[Any, ...]
    """Types that its JSON answer may have; none: it gives none."""
    pieces: tuple[Any, ...]
    """Types that one event or line of its stream may have."""
    guarded: bool
    """For admins only."""
    creates: bool
    """It heeds ``Idempotency-Key``."""
    answer: Answer


def operations(routes: Iterable[ControllerRouterHandler]) -> dict[str, Operation]:
    """By operation id."""
    found = (_operation(handler, guards) for handler, guards in _handlers(routes))
    return {each.id: each for each in found if each is not None}


def _handlers(routes: Iterable[ControllerRouterHandler]) -> Iterator[tuple[HTTPRouteHandler, Any]]:
    for route in routes:
        if isinstance(route, HTTPRouteHandler):
            yield route, route.guards
        else:
            for value in vars(route).values():
                if isinstance(value, HTTPRouteHandler):
                    yield value, vars(route).get("guards") or value.guards


def _operation(handler: HTTPRouteHandler, guards: Any) -> Operation | None:
    if handler.include_in_schema is False or not isinstance(handler.operation_id, str):
        return None
    hints = get_type_hints(_function(handler), include_extras=True)
    answer = ANSWERS.get(handler.operation_id, Answer())
    bodies = answer.body if answer.body is not None else _unwrapped(hints.get("data"))
    return Operation(
        id=handler.operation_id,
        summary=(inspect.getdoc(_function(handler)) or "").partition("\n")[0].replace("``", "`"),
        bodies=_alternatives(bodies),
        answers=_alternatives(answer.json or hints.get("return")) if answer.has_json else (),
        pieces=_alternatives(answer.pieces),
        guarded=bool(guards),
        creates=MARK in (handler.opt or {}),
        answer=answer,
    )


def _function(handler: HTTPRouteHandler) -> Any:
    function: Any = handler.fn
    return function.func if isinstance(function, partial) else function


def _unwrapped(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The JSON types that a hint allows: a union of them, in a response or as they are; streams are none."""
    if isinstance(hint, tuple):
        return hint
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(dict.fromkeys(each for part in get_args(hint) for each in _alternatives(part)))
    if get_origin(hint) is Response:
        return _alternatives(get_args(hint)[0])
    is_none = hint is None or hint is type(None)
    return () if is_none or (isinstance(hint, type) and issubclass(hint, Response | Stream | File)) else (hint,)
