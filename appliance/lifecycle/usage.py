"""Counts since the server started, for the dashboard and the metrics, and reports from the log, which keeps them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from msgspec import Struct

from appliance.domain.errors import NotFound
from appliance.domain.models import Call, Caller, Model
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.quotas import Quotas
from appliance.registry.calls import CallLog, wanted_of
from appliance.registry.usage import UsageBucket, UsageSums


class Totals(Struct):
    """Sums over the calls of one deployment."""

    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    response_tokens: int = 0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class Counters:
    """Counts each call on its way to the log."""

    def __init__(self, log: CallLog, quotas: Quotas) -> None:
        self._log = log
        self._quotas = quotas
        self.by_deployment: defaultdict[str, Totals] = defaultdict(Totals)

    async def append(self, call: Call) -> None:
        """Count, then commit."""
        totals = self.by_deployment[call.deployment_id]
        totals.calls += 1
        totals.errors += call.error_code is not None
        totals.prompt_tokens += call.prompt_tokens
        totals.cached_tokens += call.cached_tokens
        totals.response_tokens += call.response_tokens
        totals.queue_seconds += call.queue_milliseconds / 1000
        totals.prefill_seconds += call.prefill_milliseconds / 1000
        totals.decode_seconds += call.decode_milliseconds / 1000
        self._quotas.spend(call)
        await self._log.append(call)


class Span(Struct, frozen=True, kw_only=True):
    """The time that a report is about: [start, end) in so many equal slices."""

    start: datetime
    end: datetime
    slices: int = 1


class Selection(Struct, frozen=True, kw_only=True):
    """Whose calls; everything given must hold."""

    deployment_id: str | None = None
    model_id: str | None = None
    model_group_id: str | None = None
    account_id: str | None = None
    key_id: str | None = None


class Reports:
    """Usage from the call log. Members see their own account's, also of what is built in; admins see all."""

    def __init__(self, log: CallLog, directory: Directory) -> None:
        self._log = log
        self._directory = directory

    async def of_model(self, caller: Caller, name: str, span: Span) -> list[UsageBucket]:
        """Of a model by its name, through all its deployments. Raises NotFound, InvalidParameter."""
        model = self._model_named(caller, name)
        return await self._usage(caller, span, model_ids=[model.id])

    async def of_deployment(self, caller: Caller, deployment_id: str, span: Span) -> list[UsageBucket]:
        """Of one deployment, whatever models it served. Raises NotFound, InvalidParameter."""
        found = self._directory.get(caller, self._directory.deployments, deployment_id, "model deployment")
        return await self._usage(caller, span, deployment_id=found.id)

    async def of_group(self, caller: Caller, group_id: str, span: Span) -> list[UsageBucket]:
        """Of the models that are in a group now. Raises NotFound, InvalidParameter."""
        group = self._directory.get(caller, self._directory.groups, group_id, "model group")
        return await self._usage(caller, span, model_ids=self._models_in(group.id))

    async def of(self, selection: Selection, span: Span) -> list[UsageBucket]:
        """Of everything selected, also of what was deleted since. Raises InvalidParameter."""
        return await self._log.usage(
            span.start,
            span.end,
            span.slices,
            deployment_id=selection.deployment_id,
            model_ids=self._models_of(selection),
            account_id=selection.account_id,
            key_id=selection.key_id,
        )

    async def by(self, dimension: str, selection: Selection, span: Span) -> dict[str, UsageSums]:
        """Sums by ``deployment``, ``model``, ``model_group``, ``account`` or ``key``, by id; "": models in no group."""
        wanted = self._wanted(selection)
        if dimension != "model_group":
            return await self._log.usage_by(f"{dimension}_id", span.start, span.end, wanted)
        groups: dict[str, UsageSums] = {}
        for model_id, sums in (await self._log.usage_by("model_id", span.start, span.end, wanted)).items():
            model = self._directory.models.get(model_id)
            group_id = (model.model_group_id if model is not None else None) or ""
            total = groups.setdefault(group_id, UsageSums())
            for name in UsageSums.__struct_fields__:
                setattr(total, name, getattr(total, name) + getattr(sums, name))
        return groups

    def export(self, selection: Selection, start: datetime | None, end: datetime | None) -> AsyncIterator[list[Call]]:
        """The selected calls with their contents, oldest first, some at a time."""
        return self._log.export(start, end, self._wanted(selection))

    async def _usage(
        self,
        caller: Caller,
        span: Span,
        *,
        deployment_id: str | None = None,
        model_ids: Sequence[str] | None = None,
    ) -> list[UsageBucket]:
        account_id = None if caller.is_admin else caller.account_id
        return await self._log.usage(
            span.start, span.end, span.slices, deployment_id=deployment_id, model_ids=model_ids, account_id=account_id
        )

    def _wanted(self, selection: Selection) -> dict[str, Sequence[str]]:
        return wanted_of(
            deployment_id=selection.deployment_id,
            model_id=self._models_of(selection),
            account_id=selection.account_id,
            key_id=selection.key_id,
        )

    def _models_of(self, selection: Selection) -> list[str] | None:
        if selection.model_group_id is None:
            return None if selection.model_id is None else [selection.model_id]
        inside = self._models_in(selection.model_group_id)
        return inside if selection.model_id is None else [one for one in inside if one == selection.model_id]

    def _models_in(self, group_id: str) -> list[str]:
        return [model.id for model in self._directory.models.values() if model.model_group_id == group_id]

    def _model_named(self, caller: Caller, name: str) -> Model:
        """The account's own or a built-in one; for an admin another account's too, if only one has it.

        ``vendor/name`` is ``name``, as in requests.
        """
        visible = self._directory.visible(caller, self._directory.models.values())
        named = [m for m in visible if m.name == name] or [m for m in visible if m.name == name.partition("/")[2]]
        own = [model for model in named if model.account_id == caller.account_id or model.built_in]
        found = own or named
        if len(found) != 1:
            raise NotFound(
                f"no model named '{name[:128]}' in this account"
                if not found
                else f"{len(found)} accounts have a model named '{name[:128]}'; say which: x-selected-account-id"
            )
        return found[0]
