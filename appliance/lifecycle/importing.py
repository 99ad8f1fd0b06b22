"""From a file on disk to an artifact that can be deployed. One function does it, for the server and the command line.

The order: refuse what can be refused, copy and check the header (``store``), load once in a child process
(``engines.trial``), and only then tell the registry. What fails on the way leaves nothing behind.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlite_utils
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import Conflict, InvalidParameter, NameTaken, NotFound
from appliance.domain.ids import new_id
from appliance.domain.models import Artifact, BackendName, Caller, ModelType, WeightsFormat
from appliance.engines.base import EngineSpec
from appliance.engines.trial import TRIAL_CONTEXT_TOKENS, try_load
from appliance.lifecycle.keys import made_by_operator
from appliance.registry.artifacts import artifacts
from appliance.registry.audit import audit
from appliance.registry.database import Database
from appliance.store.importing import Imported, Store
from appliance.store.members import is_adapter_folder
from models_store.catalog import recognise

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

BACKEND_OF_FORMAT = {WeightsFormat.GGUF: BackendName.LLAMA, WeightsFormat.ONNX: BackendName.ONNX}

Progress = Callable[[int, int], None]
"""Bytes done and bytes in total."""


class ImportRequest(Struct, frozen=True, kw_only=True):
    """What should be imported, under which name, by whom."""

    paths: tuple[Path, ...]
    name: str
    caller: Caller
    is_of_zoo: bool = True
    """Whether it may be a model of the zoo; what was trained from one is none, however much it looks like it."""
    base: str | None = None
    """Name of the weights that an adapter in peft's form is for."""


class Importer:
    """Runs imports; blocks, so call it in a thread."""

    def __init__(self, database: Database, store: Store, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock

    def check_name(self, name: str) -> None:
        """Raise InvalidParameter or NameTaken for a name that an artifact cannot have."""
        if not NAME.fullmatch(name):
            raise InvalidParameter(
                f"an artifact cannot be named '{name[:128]}'; use letters, digits and . _ : - (at most 128, "
                "a letter or digit first)"
            )
        if self._database.run_sync(lambda db: artifacts.by_name(db, name)) is not None:
            raise NameTaken(f"an artifact named '{name}' exists; choose another name, or delete that one first")

    def check(self, request: ImportRequest) -> None:
        """Refuse what can be refused before a byte is copied. Raises what ``run`` raises."""
        self.check_name(request.name)
        with self._as_imported(request) as paths:
            self._store.check(paths)

    def run(
        self,
        request: ImportRequest,
        progress: Progress = lambda done_bytes, total_bytes: None,
        cancelled: Callable[[], bool] = lambda: False,
        *,
        trusted: bool = False,
    ) -> Artifact:
        """Import and return the artifact. ``trusted`` weights (our own starters) skip the trial load.

        Raises NameTaken, InvalidParameter, NotFound, BadWeights, WrongWeights, DiskFull, Conflict (cancelled).
        """
        self.check_name(request.name)
        with self._as_imported(request) as paths:
            imported = self._store.import_paths(paths, progress, cancelled)
        try:
            if not trusted:
                self._try(imported)
            if cancelled():
                raise Conflict(f"the import of '{request.name}' was cancelled; nothing was registered")
            return self._register(request, imported)
        except BaseException:
            self.discard(imported)
            raise

    def discard(self, imported: Imported | Artifact) -> None:
        """Delete the bytes that no registered artifact refers to."""
        with self._store.exclusive():
            referenced = self._database.run_sync(artifacts.referenced_blobs)
            if not all(file.digest in referenced for file in imported.files):
                self._store.remove(imported.files, referenced)

    @contextmanager
    def _as_imported(self, request: ImportRequest) -> Iterator[Sequence[Path]]:
        """The paths as they are given, but an adapter in peft's form as a GGUF file that lasts for the import."""
        if not is_adapter_folder(request.paths):
            if request.base is not None:
                raise InvalidParameter(
                    "base goes with a folder that holds adapter_model.safetensors and adapter_config.json; leave it out"
                )
            yield request.paths
            return
        base = self._base_path(request)
        from appliance.store.gguf_weights import GgufWeights  # here only: they load numpy
        from appliance.store.peft_folder import convert

        with tempfile.TemporaryDirectory(prefix="appliance-adapter-") as folder:
            place = Path(folder) / "adapter.gguf"
            convert(request.paths[0], GgufWeights(base), place)
            yield (place,)

    def _base_path(self, request: ImportRequest) -> Path:
        if request.base is None:
            raise InvalidParameter(
                f"'{request.paths[0].name}' is an adapter in peft's form: name the imported weights it is for (base)"
            )
        name = request.base
        found = self._database.run_sync(lambda db: artifacts.by_name(db, name))
        if found is None:
            raise NotFound(f"no artifact named '{name[:128]}'; import the adapter's base first")
        if found.card.format is not WeightsFormat.GGUF or found.card.adapter_of is not None:
            raise InvalidParameter(f"'{name[:128]}' is no GGUF model; an adapter's base must be one")
        return self._store.path_of(found.files)

    def _try(self, imported: Imported) -> None:
        backend = BACKEND_OF_FORMAT.get(imported.card.format)
        if backend is None or not imported.card.model_types:
            return  # an adapter, or weights for fine-tuning: nothing that runs by itself
        try_load(backend.value, trial_spec(imported, self._store.path_of(imported.files)))

    def _register(self, request: ImportRequest, imported: Imported) -> Artifact:
        entry = recognise(imported.card) if request.is_of_zoo else None
        artifact = Artifact(
            id=new_id(),
            name=request.name,
            digest=imported.digest,
            files=imported.files,
            size_bytes=imported.size_bytes,
            card=imported.card,
            zoo_name=entry.name if entry else None,
            created_at=self._clock.now(),
            created_by_user_id=request.caller.user_id,
        )
        details: dict[str, object] = {"name": artifact.name, "digest": artifact.digest}

        def work(db: sqlite_utils.Database) -> None:
            artifacts.insert(db, artifact)
            entry = made_by_operator(
                artifact.created_at, request.caller, "artifact.import", "artifact", artifact.id, details
            )
            audit.append(db, entry)

        # Whoever deletes another artifact of the same bytes either sees this one registered, or is done before we look.
        with self._store.exclusive():
            self._store.path_of(artifact.files)
            self._database.run_sync(work)
        return artifact


def trial_spec(imported: Imported | Artifact, weights: Path) -> EngineSpec:
    """The smallest engine that proves the weights: one slot and a short context."""
    card = imported.card
    generates = ModelType.COMPLETION in card.model_types
    context = min(TRIAL_CONTEXT_TOKENS, card.context_length_tokens or TRIAL_CONTEXT_TOKENS)
    return EngineSpec(
        model_type=ModelType.COMPLETION if generates else card.model_types[0],
        weights=weights,
        card=card,
        parameters={"context_length": context} if card.format is WeightsFormat.GGUF else {},
        slots=1,
    )


def allowed_path(text: str, roots: Sequence[Path]) -> Path:
    """A path that a request named, proved to lie below an import root. Raises InvalidParameter."""
    try:
        path = Path(text).resolve(strict=True)
    except (OSError, ValueError):
        raise InvalidParameter(f"no file '{text[:256]}' below the import roots of the server") from None
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        shown = ", ".join(str(root) for root in roots)
        raise InvalidParameter(f"'{text[:256]}' is not below an import root ({shown}); add its folder to import_roots")
    return path
