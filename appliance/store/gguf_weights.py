"""The tensors of GGUF files as numbers: read, dequantized, and written again.

Called by training, merges and adapter imports, always in a process or thread of their own; it needs numpy and the
``gguf`` package and no engine. Headers were checked on import (``gguf_header``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from appliance.domain.errors import WrongWeights

Array = npt.NDArray[np.float32]

_SHARD = re.compile(r"(?P<prefix>.+)-00001-of-(?P<count>\d{5})\.gguf", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_READ_BYTES = 1 << 22


class GgufWeights:
    """One model: a file, or the first of its shards. Tensors are mapped and read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers = [gguf.GGUFReader(shard) for shard in _shards(path)]
        self.tensors: dict[str, Any] = {tensor.name: tensor for reader in self._readers for tensor in reader.tensors}
        self.architecture = str(self.field("general.architecture") or "")
        self.name = str(self.field("general.name") or path.name)

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(shard.stat().st_size for shard in _shards(self.path))

    def field(self, key: str) -> Any:
        """A metadata value, or None."""
        found = self._readers[0].get_field(key)
        return None if found is None else found.contents()

    def of_architecture(self, key: str) -> Any:
        """A value below the architecture's own prefix, or None."""
        return self.field(f"{self.architecture}.{key}")

    def count(self, key: str) -> int:
        """A number below the architecture's prefix. Raises WrongWeights when it is absent or one per layer."""
        value = self.of_architecture(key)
        if not isinstance(value, int):
            raise WrongWeights(f"'{self.name}' has no single number {self.architecture}.{key}; it cannot be used here")
        return value

    @property
    def layers(self) -> int:
        """Blocks."""
        return self.count("block_count")

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.count("attention.head_count")

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return (
            self.heads
            if self.of_architecture("attention.head_count_kv") is None
            else self.count("attention.head_count_kv")
        )

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows first, as numpy has it."""
        return tuple(int(length) for length in reversed(self.tensors[name].shape))

    def is_matrix(self, name: str) -> bool:
        """Whether there is such a tensor, and it has rows and columns: those of experts have one number more."""
        return name in self.tensors and len(self.tensors[name].shape) == 2

    def numbers(self, name: str) -> Array:
        """A tensor as float32."""
        tensor = self.tensors[name]
        found: Array = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        return found.reshape(self.shape(name))

    def fields(self) -> Iterator[Any]:
        """Every metadata field of the first file."""
        yield from self._readers[0].fields.values()

    def digest(self) -> str:
        """SHA-256 of the (first) file; a blob of the store is called by it."""
        if _DIGEST.fullmatch(self.path.name):
            return self.path.name
        found = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                found.update(block)
        return found.hexdigest()


def _shards(path: Path) -> list[Path]:
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    return [path.with_name(f"{match['prefix']}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]
