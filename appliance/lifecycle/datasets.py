"""Training datasets: checked while they come in, stored by digest, never changed.

What jobs stand on stays; the bytes go with the last dataset that has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlite_utils

from appliance.domain.clock import Clock
from appliance.domain.errors import Busy, NotFound
from appliance.domain.finetuning import SchemaType, TrainingDataset
from appliance.domain.ids import new_id
from appliance.domain.models import Caller
from appliance.lifecycle.dataset_lines import Checked, LineLimits, read_row
from appliance.lifecycle.directory import Directory
from appliance.registry.artifacts import artifacts
from appliance.registry.database import Database
from appliance.registry.finetuning import training_datasets as rows
from appliance.store.importing import Store


class Datasets:
    """Takes, shows and removes datasets. An account sees its own only, admins all."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        store: Store,
        limits: LineLimits,
        most_datasets: int,
        clock: Clock,
    ) -> None:
        self._database = database
        self._directory = directory
        self._store = store
        self._limits = limits
        self._most_datasets = most_datasets
        self._clock = clock
        self._keeping = asyncio.Lock()
        """Held between the look at who refers to a blob and what is done about it."""

    # --- questions -----------------------------------------------------------------------------------------------

    async def list(self, caller: Caller, account_id: str | None = None) -> list[TrainingDataset]:
        """Datasets the caller may see, oldest first."""
        return self._directory.visible(caller, await self._database.run(rows.list), account_id)

    async def get(self, caller: Caller, dataset_id: str) -> TrainingDataset:
        """One dataset. Raises NotFound."""
        return await self._database.run(lambda db: self.find(db, caller, dataset_id))

    def find(self, db: sqlite_utils.Database, caller: Caller, dataset_id: str) -> TrainingDataset:
        """One dataset, inside a transaction. Raises NotFound, for another account's too."""
        found = rows.one(db, {"id": dataset_id})
        if found is None or not self._directory.visible(caller, [found]):
            raise NotFound(f"no training dataset with the id '{dataset_id[:64]}' in this account")
        return found

    def path(self, dataset: TrainingDataset) -> Path:
        """Its bytes. Raises Internal when they are gone."""
        return self._store.blob_path(dataset.digest)

    def examples(self, dataset: TrainingDataset) -> Iterator[dict[str, Any]]:
        """Its lines as objects; blocks."""
        with self.path(dataset).open("rb") as file:
            for raw in file:
                if raw.strip():
                    yield read_row(raw)

    # --- changes -------------------------------------------------------------------------------------------------

    async def create(
        self,
        caller: Caller,
        name: str,
        schema_type: SchemaType,
        source: Iterable[bytes],
        account_id: str | None = None,
    ) -> TrainingDataset:
        """Check and store what the source holds.

        Raises InvalidParameter naming the lines that are wrong, TooLarge, DiskFull, Busy when the account has too many.
        """
        owner = self._directory.account_for(caller, account_id)
        await self._database.run(lambda db: self._check_room(db, owner))
        checked = Checked(schema_type, self._limits)
        with ExitStack() as stack:
            partial = await asyncio.to_thread(stack.enter_context, self._store.written(checked.through(source)))
            made = TrainingDataset(
                id=new_id(),
                account_id=owner,
                name=name,
                schema_type=schema_type,
                digest=partial.digest,
                size_bytes=partial.size_bytes,
                examples=checked.examples,
                created_at=self._clock.now(),
                created_by_user_id=caller.user_id,
            )
            async with self._keeping:
                await asyncio.to_thread(self._store.keep, partial)
                try:
                    await self._database.run(lambda db: self._insert(db, made))
                except BaseException:
                    await asyncio.to_thread(self._drop, made.digest)
                    raise
        return made

    def _insert(self, db: sqlite_utils.Database, made: TrainingDataset) -> None:
        self._check_room(db, made.account_id)
        rows.insert(db, made)

    async def delete(self, caller: Caller, dataset_id: str) -> None:
        """Remove a dataset. Raises NotFound, InUse naming the jobs that stand on it."""

        def work(db: sqlite_utils.Database) -> TrainingDataset:
            found = self.find(db, caller, dataset_id)
            rows.delete(db, found.id)
            return found

        async with self._keeping:
            removed = await self._database.run(work)
            await asyncio.to_thread(self._drop, removed.digest)

    def _drop(self, digest: str) -> None:
        with self._store.exclusive():
            self._store.drop(digest, self._database.run_sync(artifacts.referenced_blobs))

    def _check_room(self, db: sqlite_utils.Database, account_id: str) -> None:
        count = len(rows.list(db, account_id))
        if count >= self._most_datasets:
            raise Busy(
                f"this account has {count} training datasets and may have {self._most_datasets} (dataset_limit); "
                "delete some"
            )
