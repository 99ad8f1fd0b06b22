"""Request bodies: read once, strictly, as the type the route declares. What cannot be read is a 4xx that says why.

Litestar would read JSON first and convert it after, letting text pass for numbers and malformed bytes become faults of
ours; ``BodyRequest`` takes its place for every route.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import FormMultiDict
from litestar.exceptions import ClientException, InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from appliance.api.errors import read_fault
from appliance.api.streaming import ClientLeft
from appliance.domain.errors import InvalidParameter, TooLarge

T = TypeVar("T")

MAX_DEPTH = 64
"""Objects and lists inside each other. What is stored must be writable again, well below the interpreter's limit."""

EMPTY = "the body is empty; send a JSON object"


class BodyRequest(Request[Any, Any, Any]):
    """A request whose JSON body is decoded straight into the type of the route's ``data``."""

    async def body(self) -> bytes:
        """The raw body. Raises ClientLeft (the client went while sending), TooLarge, InvalidParameter (it is empty)."""
        try:
            raw = await super().body()
        except InternalServerException as error:  # Litestar's name for a disconnect while reading
            raise ClientLeft from error
        except RequestEntityTooLarge as error:
            raise self._too_large() from error
        if not raw and self.route_handler.parsed_data_field is not None:
            raise InvalidParameter(EMPTY)
        return raw

    async def form(self) -> FormMultiDict:
        """The fields of a multipart form. Raises ClientLeft, TooLarge, InvalidParameter."""
        try:
            return await super().form()
        except InternalServerException as error:
            raise ClientLeft from error
        except RequestEntityTooLarge as error:
            raise self._too_large() from error
        except (ClientException, ValueError, LookupError) as error:
            raise InvalidParameter("the body is not a multipart form that can be read; let a client make it") from error

    def _too_large(self) -> TooLarge:
        limit = self.route_handler.resolve_request_max_body_size()
        return TooLarge(f"the body is larger than {limit} bytes (max_body_bytes); send less at once")

    async def json(self) -> Any:
        """The body as the type of the route's ``data``. Raises InvalidParameter."""
        field = self.route_handler.parsed_data_field
        return decode(await self.body(), Any if field is None else field.annotation)


def decode(raw: bytes, kind: Any) -> Any:
    """Read a JSON body as ``kind``. Raises InvalidParameter that names the field."""
    if not raw.strip():
        raise InvalidParameter(EMPTY)
    try:
        value = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        text, location = read_fault(error)
        raise InvalidParameter(text, errors=[(location, text)]) from error
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"the body is not JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidParameter("the body is not UTF-8 text; encode it as UTF-8") from error
    except RecursionError as error:
        raise InvalidParameter(_too_deep()) from error
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:  # with fewer there is no such depth, whatever stands in texts
        _check_depth(value)
    return value


def converted(value: Any, kind: type[T], where: str) -> T:
    """A part of a body that was decoded as it stood, as ``kind``; ``where`` is its place. Raises InvalidParameter."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, location = read_fault(error)
        place = ".".join([where, *map(str, location[1:])])
        text = f"{place}: {text.partition(': ')[2] if location[1:] else text.removeprefix('body: ')}"
        raise InvalidParameter(text, errors=[(("body", where, *location[1:]), text)]) from error


def _check_depth(value: Any) -> None:
    """Level by level, so that a hostile body cannot exhaust the stack here either."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidParameter(_too_deep())
        level = [child for parent in level for child in _children(parent)]


def _children(value: Any) -> list[Any]:
    if isinstance(value, msgspec.Struct):
        inside: Any = [getattr(value, name) for name in value.__struct_fields__]
    else:
        inside = value.values() if isinstance(value, dict) else value
    return [child for child in inside if isinstance(child, dict | list | msgspec.Struct)]


def _too_deep() -> str:
    return f"the body nests objects and lists more than {MAX_DEPTH} deep; flatten it"
