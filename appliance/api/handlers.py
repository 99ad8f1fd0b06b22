"""How a route's parameters reach it, for the signatures of handlers."""

from __future__ import annotations

from typing import TypeAlias

from litestar.di import NamedDependency
from litestar.params import FromPath

from appliance.domain.models import Caller
from appliance.lifecycle.node import Node

TheNode: TypeAlias = NamedDependency[Node]
"""The node that this application serves."""
TheCaller: TypeAlias = NamedDependency[Caller]
"""Who sent the request, authenticated."""
PathId: TypeAlias = FromPath[str]
"""An id or a name in the path."""
