"""What the appliance makes by itself: the system account, the shipped templates, and the built-in models.

A built-in model stands on an artifact that the zoo's catalog recognised. It has the catalog's name, a system
deployment of the same name, and cannot be changed. Everything here may run twice; the second run changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid5

import sqlite_utils
from msgspec import structs

import models_store
from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError
from appliance.domain.models import (
    Account,
    Artifact,
    BackendName,
    Caller,
    Deployment,
    DeploymentStatus,
    Model,
    ModelType,
    Role,
    Template,
    User,
    WeightsFormat,
)
from appliance.engines.base import Backend
from appliance.lifecycle.directory import SYSTEM_ACCOUNT_ID
from appliance.lifecycle.importing import Importer, ImportRequest
from appliance.lifecycle.shipped import SHIPPED, ShippedTemplate, vendor_configuration
from appliance.registry.accounts import accounts, users
from appliance.registry.artifacts import artifacts
from appliance.registry.database import Database
from appliance.registry.deployments import deployments
from appliance.registry.models import models
from appliance.registry.templates import templates
from models_store.catalog import ZooModel, catalog

log = logging.getLogger(__name__)

NAMESPACE = UUID("7f0c2b0e-6a55-5d0f-9a39-0c6a5f2b8d11")
SYSTEM_USER_ID = "00000000-0000-4000-8000-000000000001"
DEFAULT_ACCOUNT_NAME = "default"
SYSTEM_CALLER = Caller(key_id="system", user_id=SYSTEM_USER_ID, account_id=SYSTEM_ACCOUNT_ID, role=Role.ADMIN)

TEMPLATE_OF = {
    (WeightsFormat.GGUF, ModelType.COMPLETION): "llama-cpp-completion",
    (WeightsFormat.GGUF, ModelType.CHAT_COMPLETION): "llama-cpp-chat-completion",
    (WeightsFormat.GGUF, ModelType.EMBEDDING): "llama-cpp-embedding",
    (WeightsFormat.GGUF, ModelType.RERANKING): "llama-cpp-reranking",
    (WeightsFormat.ONNX, ModelType.EMBEDDING): "onnx-embedding",
    (WeightsFormat.ONNX, ModelType.RERANKING): "onnx-reranking",
}
PRIMARY_TYPES = (ModelType.CHAT_COMPLETION, ModelType.COMPLETION, ModelType.EMBEDDING, ModelType.RERANKING)
"""A built-in that serves several types is registered under the first of these; by name it serves them all."""


def stable_id(kind: str, name: str) -> str:
    """The id of a built-in thing: the same on every appliance."""
    return str(uuid5(NAMESPACE, f"{kind}/{name}"))


class Builtins:
    """Creates what is missing; blocks, so call it in a thread."""

    def __init__(
        self, database: Database, importer: Importer, backends: Mapping[str, Backend], clock: Clock, gpus: int = 0
    ) -> None:
        """``gpus``: what the llama.cpp templates ask for."""
        self._database = database
        self._importer = importer
        self._backends = backends
        self._clock = clock
        self._gpus = gpus

    def ensure(self, starters: Path | None) -> None:
        """The system account, the default account, the templates, and the starters found in the folder."""
        self.ensure_accounts()
        self.ensure_templates()
        if starters is not None:
            self._import_starters(starters)
        for artifact in self._database.run_sync(artifacts.list):
            self.adopt(artifact)

    def ensure_accounts(self) -> None:
        """The system account with its user, and the default account."""
        self._database.run_sync(self._ensure_accounts)

    def ensure_templates(self) -> None:
        """The shipped templates, at the versions of this build's backends."""
        self._database.run_sync(self._ensure_templates)

    def adopt(self, artifact: Artifact) -> None:
        """Make the built-in models that stand on a recognised artifact, unless they exist."""
        if artifact.zoo_name is None:
            return
        for entry in catalog().entries:
            if artifact.zoo_name in (entry.name, entry.weights_of) and _may_stand_on(entry, artifact):
                self._database.run_sync(lambda db, entry=entry: self._ensure_model(db, entry, artifact))  # type: ignore[misc]

    def default_account_id(self) -> str:
        """The account that keys get when none is named."""
        return stable_id("account", DEFAULT_ACCOUNT_NAME)

    def _ensure_accounts(self, db: sqlite_utils.Database) -> None:
        now = self._clock.now()
        known = {account.id for account in accounts.list(db)}
        for account_id, name in ((SYSTEM_ACCOUNT_ID, "system"), (self.default_account_id(), DEFAULT_ACCOUNT_NAME)):
            if account_id not in known:
                accounts.insert(db, Account(id=account_id, name=name, created_at=now))
        if SYSTEM_USER_ID not in {user.id for user in users.list(db)}:
            system = User(
                id=SYSTEM_USER_ID,
                account_id=SYSTEM_ACCOUNT_ID,
                email="system@appliance.local",
                role=Role.ADMIN,
                created_at=now,
            )
            users.insert(db, system)

    def _ensure_templates(self, db: sqlite_utils.Database) -> None:
        known = {template.id: template for template in templates.list(db, SYSTEM_ACCOUNT_ID)}
        for shipped in SHIPPED:
            wanted = self._template(shipped)
            old = known.get(wanted.id)
            if old is None:
                templates.insert(db, wanted)
            elif structs.replace(wanted, created_at=old.created_at) != old:
                templates.update(db, structs.replace(wanted, created_at=old.created_at))

    def _template(self, shipped: ShippedTemplate) -> Template:
        version = self._backends[shipped.backend.value].version
        gpus = self._gpus if shipped.backend is BackendName.LLAMA else 0
        return Template(
            id=stable_id("template", shipped.name),
            account_id=SYSTEM_ACCOUNT_ID,
            name=shipped.name,
            model_type=shipped.model_type,
            endpoint_type=shipped.endpoint_type,
            vendor_configuration=vendor_configuration(shipped.backend, version, shipped.endpoint_type, gpus),
            creation_parameters=shipped.creation_parameters,
            request_parameters=shipped.request_parameters,
            built_in=True,
            created_at=self._clock.now(),
            created_by_user_id=SYSTEM_USER_ID,
        )

    def _import_starters(self, folder: Path) -> None:
        for entry in catalog().starters:
            source = folder / entry.starter_path if entry.starter_path else None
            if source is None or not source.exists():
                continue
            present = self._database.run_sync(lambda db, name=entry.name: artifacts.by_name(db, name))  # type: ignore[misc]
            if present is not None and _is_current(present, source):
                continue
            if present is not None:
                self._drop(present)
            self._import_starter(entry.name, source)

    def _import_starter(self, name: str, source: Path) -> None:
        """A starter that cannot be had (a full disk, a damaged installation) does not keep the others from serving."""
        try:
            self._importer.run(ImportRequest(paths=(source,), name=name, caller=SYSTEM_CALLER), trusted=True)
        except ApplianceError as error:
            log.error("the starter '%s' is missing: %s", name, error.message)

    def _drop(self, artifact: Artifact) -> None:
        """Forget a starter of an earlier release; its models name their weights, so they stand on the new one."""
        self._database.run_sync(lambda db: artifacts.delete(db, artifact.id))
        self._importer.discard(artifact)

    def _ensure_model(self, db: sqlite_utils.Database, entry: ZooModel, artifact: Artifact) -> None:
        model_id = stable_id("model", entry.name)
        if any(model.id == model_id for model in models.list(db, SYSTEM_ACCOUNT_ID)):
            return
        model_type = next(kind for kind in PRIMARY_TYPES if kind in entry.model_types)
        template_name = TEMPLATE_OF[(artifact.card.format, model_type)]
        now = self._clock.now()
        model = Model(
            id=model_id,
            account_id=SYSTEM_ACCOUNT_ID,
            name=entry.name,
            display_name=entry.title,
            model_type=model_type,
            model_template_id=stable_id("template", template_name),
            creation_parameters={"weights": artifact.name, **entry.parameters},
            description=f"{entry.title} by {entry.publisher}, licence {entry.licence}",
            built_in=True,
            created_at=now,
            created_by_user_id=SYSTEM_USER_ID,
        )
        deployment = Deployment(
            id=stable_id("deployment", entry.name),
            account_id=SYSTEM_ACCOUNT_ID,
            name=entry.name,
            model_id=model_id,
            status=DeploymentStatus.READY,
            built_in=True,
            created_at=now,
            created_by_user_id=SYSTEM_USER_ID,
        )
        models.insert(db, model)
        deployments.insert(db, deployment)


def _may_stand_on(entry: ZooModel, artifact: Artifact) -> bool:
    """A starter stands on the weights that came with the appliance, never on somebody's copy of them."""
    base = catalog().entry(entry.weights_of) if entry.weights_of else entry
    is_starter = base is not None and base.starter_path is not None
    return not is_starter or (base is not None and artifact.name == base.name)


def _is_current(artifact: Artifact, source: Path) -> bool:
    """Whether the artifact is this starter and not that of another release."""
    if source.is_dir():
        return all(
            (source / f.name).is_file() and (source / f.name).stat().st_size == f.size_bytes for f in artifact.files
        )
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == artifact.digest


def starters_folder() -> Path | None:
    """Where an installation keeps the prepared starters, or None."""
    folder = Path(models_store.__file__).parent / "weights" if models_store.__file__ else None
    return folder if folder is not None and folder.is_dir() else None
