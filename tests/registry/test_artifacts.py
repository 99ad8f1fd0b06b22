"""Artifacts by name and contents."""

from __future__ import annotations

import msgspec

from appliance.domain.models import ArtifactFile
from appliance.registry.artifacts import artifacts
from tests.registry.registry_samples import ARTIFACT

FOLDER = msgspec.structs.replace(
    ARTIFACT,
    id="artifact-2",
    name="embedder",
    digest="cd" * 32,
    files=(
        ArtifactFile(name="model.onnx", digest="ef" * 32, size_bytes=10),
        ArtifactFile(name="tokenizer.json", digest="ab" * 32, size_bytes=20),
    ),
)


def test_by_name_and_digest(registry):
    """One name leads to one artifact, one digest to every artifact with these contents."""
    twin = msgspec.structs.replace(ARTIFACT, id="artifact-3", name="tiny-again")

    def fill(db):
        for artifact in (ARTIFACT, FOLDER, twin):
            artifacts.insert(db, artifact)

    registry.run_sync(fill)
    assert registry.run_sync(lambda db: artifacts.by_name(db, "embedder")) == FOLDER
    assert registry.run_sync(lambda db: artifacts.by_name(db, "nothing")) is None
    assert registry.run_sync(lambda db: artifacts.by_digest(db, ARTIFACT.digest)) == [ARTIFACT, twin]


def test_referenced_blobs(registry):
    """A blob is wanted as long as one artifact has a file with its digest."""

    def fill(db):
        artifacts.insert(db, ARTIFACT)
        artifacts.insert(db, FOLDER)

    registry.run_sync(fill)
    assert registry.run_sync(artifacts.referenced_blobs) == {"ab" * 32, "ef" * 32}
    registry.run_sync(lambda db: artifacts.delete(db, ARTIFACT.id))
    assert registry.run_sync(artifacts.referenced_blobs) == {"ab" * 32, "ef" * 32}
    registry.run_sync(lambda db: artifacts.delete(db, FOLDER.id))
    assert registry.run_sync(artifacts.referenced_blobs) == set()
