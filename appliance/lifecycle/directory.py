"""The registry's contents in memory, so that no request waits for SQL.

The services write to the registry first and here after the commit. What one key may see is decided here: its own
account, and what is built in; admins see every account.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Protocol, TypeVar

from appliance.domain.errors import Conflict, Forbidden, Immutable, NameTaken, NotFound
from appliance.domain.models import (
    TEXT,
    Account,
    Artifact,
    Caller,
    Deployment,
    Group,
    Key,
    Model,
    ModelServer,
    ModelType,
    Template,
    Upstream,
    User,
    WeightsFormat,
)


class Owned(Protocol):
    """Anything that belongs to an account."""

    @property
    def account_id(self) -> str:
        """The owner."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def name(self) -> str:
        """Its name."""


OwnedT = TypeVar("OwnedT", bound=Owned)

_SEEING = {
    WeightsFormat.GGUF: (ModelType.COMPLETION, ModelType.CHAT_COMPLETION, ModelType.AGENT),
    WeightsFormat.ONNX: (ModelType.EMBEDDING,),
    WeightsFormat.SAFETENSORS: (),
}
"""Models that see with weights that can."""
SYSTEM_ACCOUNT_ID = "00000000-0000-4000-8000-000000000000"
"""Owner of everything built in."""


class Directory:
    """Plain dictionaries by id, and the few indexes that requests need."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.users: dict[str, User] = {}
        self.keys: dict[str, Key] = {}
        self.templates: dict[str, Template] = {}
        self.models: dict[str, Model] = {}
        self.deployments: dict[str, Deployment] = {}
        self.groups: dict[str, Group] = {}
        self.model_servers: dict[str, ModelServer] = {}
        self.artifacts: dict[str, Artifact] = {}
        """By name."""
        self.upstreams: dict[str, Upstream] = {}
        self._keys_by_digest: dict[str, Key] = {}
        self._deployments_by_name: dict[tuple[str, str], str] = {}

    # --- writing: called after the commit ------------------------------------------------------------------------

    def replace_keys(self, keys: Iterable[Key]) -> None:
        """All keys anew."""
        found = list(keys)
        self.keys = {key.id: key for key in found}
        self._keys_by_digest = {key.digest: key for key in found}

    def replace_deployments(self, deployments: Iterable[Deployment]) -> None:
        """All deployments anew."""
        found = list(deployments)
        self.deployments = {d.id: d for d in found}
        self._deployments_by_name = {(d.account_id, d.name): d.id for d in found}

    def put_key(self, key: Key) -> None:
        """Add or change a key."""
        self.keys[key.id] = key
        self._keys_by_digest[key.digest] = key

    def put_deployment(self, *deployments: Deployment) -> None:
        """Add or change a deployment; or several at once, which may exchange their names."""
        for deployment in deployments:
            old = self.deployments.get(deployment.id)
            if old is not None:
                self._deployments_by_name.pop((old.account_id, old.name), None)
        for deployment in deployments:
            self.deployments[deployment.id] = deployment
            self._deployments_by_name[(deployment.account_id, deployment.name)] = deployment.id

    def drop_deployment(self, deployment_id: str) -> None:
        """Forget a deployment."""
        old = self.deployments.pop(deployment_id, None)
        if old is not None:
            self._deployments_by_name.pop((old.account_id, old.name), None)

    # --- keys ----------------------------------------------------------------------------------------------------

    def key_by_digest(self, digest: str) -> Key | None:
        """The key with this SHA-256 digest, revoked ones too; compared in constant time."""
        key = self._keys_by_digest.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    # --- what a caller may see -----------------------------------------------------------------------------------

    def visible(self, caller: Caller, items: Iterable[OwnedT], account_id: str | None = None) -> list[OwnedT]:
        """The items this caller may see, oldest first as they were registered.

        With an account: that account's, and what is built in, which every account has.
        """
        return [
            item
            for item in items
            if self._may_see(caller, item)
            and (account_id is None or item.account_id in (account_id, SYSTEM_ACCOUNT_ID))
        ]

    def get(self, caller: Caller, items: dict[str, OwnedT], item_id: str, kind: str) -> OwnedT:
        """One item. Another account's is NotFound too, so that ids cannot be probed."""
        item = items.get(item_id)
        if item is None or not self._may_see(caller, item):
            raise NotFound(f"no {kind} with the id '{item_id[:64]}' in this account")
        return item

    def get_own(self, caller: Caller, items: dict[str, OwnedT], item_id: str, kind: str) -> OwnedT:
        """One item that this caller may change. Raises NotFound, Immutable."""
        item = self.get(caller, items, item_id, kind)
        if getattr(item, "built_in", False):
            raise Immutable(f"{kind} '{item.name}' is built in and made by the system; it cannot be changed or deleted")
        return item

    def deployment_of(self, caller: Caller, model_id: str, deployment_id: str) -> Deployment:
        """A deployment below its model. Raises NotFound when either is unknown or they do not belong together."""
        self.get(caller, self.models, model_id, "model")
        deployment = self.get(caller, self.deployments, deployment_id, "model deployment")
        if deployment.model_id != model_id:
            raise NotFound(f"model '{model_id[:64]}' has no deployment with the id '{deployment_id[:64]}'")
        return deployment

    def callable_deployment(self, caller: Caller, name: str) -> Deployment | None:
        """By deployment id, by built-in name, or by deployment name in the caller's account.

        Ids come first, so that a deployment named like another's id never answers in its place.
        """
        found = self.deployments.get(name)
        if found is not None and self._may_see(caller, found):
            return found
        for account_id in (SYSTEM_ACCOUNT_ID, caller.account_id):
            deployment_id = self._deployments_by_name.get((account_id, name))
            if deployment_id is not None:
                return self.deployments[deployment_id]
        return None

    def account_for(self, caller: Caller, requested: str | None) -> str:
        """The account that a new thing belongs to. Raises Forbidden for one that the key cannot use."""
        if requested is None or requested == caller.account_id:
            return caller.account_id
        if not caller.is_admin:
            raise Forbidden(f"this key belongs to account '{caller.account_id}' and cannot use '{requested[:64]}'")
        if requested not in self.accounts or requested == SYSTEM_ACCOUNT_ID:
            raise NotFound(f"no account with the id '{requested[:64]}'")
        return requested

    def check_name_free(
        self, items: Iterable[Owned], account_id: str, name: str, kind: str, *, but: str | None = None
    ) -> None:
        """Raise NameTaken when the account has another item of this name, or a built-in bears it."""
        for item in items:
            if item.name == name and item.id != but and item.account_id in (account_id, SYSTEM_ACCOUNT_ID):
                whose = "built in" if item.account_id == SYSTEM_ACCOUNT_ID else f"id {item.id}"
                raise NameTaken(f"a {kind} named '{name}' exists ({whose}); choose another name")

    # --- what stands on what -------------------------------------------------------------------------------------

    def deployments_of(self, model_id: str) -> list[Deployment]:
        """The deployments of a model."""
        return [d for d in self.deployments.values() if d.model_id == model_id]

    def servers_of(self, deployment_id: str) -> list[ModelServer]:
        """The model servers that a deployment stands behind."""
        return [server for server in self.model_servers.values() if server.deployment_id == deployment_id]

    def models_using_artifact(self, name: str) -> list[Model]:
        """Models and, through their deployments, models that name this artifact as weights or adapter."""
        users = [m for m in self.models.values() if _names(m.creation_parameters, name)]
        through = {d.model_id for d in self.deployments.values() if _names(d.creation_parameters, name)}
        return users + [self.models[i] for i in through if self.models[i] not in users]

    def artifact(self, name: str) -> Artifact:
        """An artifact by its name. Raises NotFound."""
        found = self.artifacts.get(name)
        if found is None:
            raise NotFound(f"no artifact named '{name[:128]}'; appliance models list shows those that are imported")
        return found

    def modalities_of(self, deployment: Deployment) -> tuple[str, ...]:
        """What the deployment's model reads: ``text``, and ``image`` where its weights have a tower for images."""
        model = self.models.get(deployment.model_id)
        given = ((model.creation_parameters or {}) if model else {}) | (deployment.creation_parameters or {})
        artifact = self.artifacts.get(str(given.get("weights", "")))
        if model is None or artifact is None or model.model_type not in _SEEING[artifact.card.format]:
            return (TEXT,)
        return artifact.card.modalities

    def template_by_name(self, name: str) -> Template:
        """A built-in template. Raises Conflict when the registry lacks it."""
        for template in self.templates.values():
            if template.name == name and template.built_in:
                return template
        raise Conflict(f"the built-in template '{name}' is not in the registry; run appliance init")

    @staticmethod
    def _may_see(caller: Caller, item: Owned) -> bool:
        return caller.is_admin or item.account_id in (caller.account_id, SYSTEM_ACCOUNT_ID)


def _names(parameters: dict[str, str | int | float | bool] | None, artifact: str) -> bool:
    return bool(parameters) and artifact in (parameters.get("weights"), parameters.get("adapter"))  # type: ignore[union-attr]
