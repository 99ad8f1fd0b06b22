"""Artifacts: imported weights by name and by digest, and which of the store's blobs are still wanted."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import Artifact
from appliance.registry.records import Records


class Artifacts(Records[Artifact]):
    """Imported weights; a name is unique on the whole machine, a digest need not be."""

    def by_name(self, db: sqlite_utils.Database, name: str) -> Artifact | None:
        """The artifact of this name, or None."""
        return self.one(db, {"name": name})

    def by_digest(self, db: sqlite_utils.Database, digest: str) -> list[Artifact]:
        """The artifacts that have these contents, oldest first."""
        return self.where(db, "digest", digest)

    def referenced_blobs(self, db: sqlite_utils.Database) -> set[str]:
        """Digests of every file of every artifact, and of every dataset: what the store must keep."""
        rows = db.execute(
            "SELECT json_extract(value, '$.digest') FROM artifacts, json_each(artifacts.files) "
            "UNION SELECT digest FROM training_datasets"
        )
        return {row[0] for row in rows.fetchall()}


artifacts = Artifacts(Artifact, table="artifacts", noun="artifact")
