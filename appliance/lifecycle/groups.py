"""Model groups: namespaces for iterations of a model."""

from __future__ import annotations

from msgspec import UNSET, structs

from appliance.domain.clock import Clock
from appliance.domain.errors import InUse
from appliance.domain.ids import new_id
from appliance.domain.models import Caller, Group
from appliance.lifecycle.directory import Directory
from appliance.registry.database import Database
from appliance.registry.groups import groups as rows
from appliance.wire import sgp


class Groups:
    """Creates, changes and removes groups."""

    def __init__(self, database: Database, directory: Directory, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock

    def list(self, caller: Caller, account_id: str | None = None) -> list[Group]:
        """Groups the caller may see."""
        return self._directory.visible(caller, self._directory.groups.values(), account_id)

    def get(self, caller: Caller, group_id: str) -> Group:
        """One group. Raises NotFound."""
        return self._directory.get(caller, self._directory.groups, group_id, "model group")

    async def create(self, caller: Caller, body: sgp.GroupCreate) -> Group:
        """A new group. Raises NameTaken."""
        account_id = self._directory.account_for(caller, body.account_id)
        self._check_name(account_id, body.name)
        group = Group(
            id=new_id(),
            account_id=account_id,
            name=body.name,
            description=body.description,
            created_at=self._clock.now(),
            created_by_user_id=caller.user_id,
        )
        await self._database.run(lambda db: rows.insert(db, group))
        self._directory.groups[group.id] = group
        return group

    async def update(self, caller: Caller, group_id: str, body: sgp.GroupUpdate) -> Group:
        """Change what the body sets. Raises NotFound, NameTaken."""
        group = self._directory.get_own(caller, self._directory.groups, group_id, "model group")
        name = group.name if body.name is UNSET else body.name
        description = group.description if body.description is UNSET else body.description
        self._check_name(group.account_id, name, but=group.id)
        changed = structs.replace(group, name=name, description=description)
        await self._database.run(lambda db: rows.update(db, changed))
        self._directory.groups[group.id] = changed
        return changed

    async def delete(self, caller: Caller, group_id: str) -> None:
        """Remove an empty group. Raises NotFound, InUse naming its models."""
        group = self._directory.get_own(caller, self._directory.groups, group_id, "model group")
        members = [m.name for m in self._directory.models.values() if m.model_group_id == group.id]
        if members:
            shown = ", ".join(sorted(members)[:8])
            raise InUse(f"group '{group.name}' holds {len(members)} model(s) ({shown}); move or delete those first")
        await self._database.run(lambda db: rows.delete(db, group.id))
        self._directory.groups.pop(group.id, None)

    def _check_name(self, account_id: str, name: str, but: str | None = None) -> None:
        self._directory.check_name_free(self._directory.groups.values(), account_id, name, "model group", but=but)
