"""Checkpoints on disk: each one whole or not there, the last two kept.

A file is written beside its place, flushed, and renamed into it; a power cut at any moment leaves the one before.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from appliance.training.wholes import write_whole

KEPT = 2

_NAME = re.compile(r"step-(\d{9})\.pt", re.ASCII)


class Checkpoints:
    """Those of one training, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        for leftover in folder.glob("*.partial"):
            leftover.unlink()

    def save(self, step: int, state: dict[str, Any]) -> None:
        """On disk when it returns. ``state``: tensors, numbers, texts, and lists and dictionaries of them."""
        place = self._folder / f"step-{step:09d}.pt"
        write_whole(place, lambda partial: torch.save(state, partial))
        for _, path in self._present()[KEPT:]:
            path.unlink()

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """The step and state to go on from; a file that cannot be read is passed over for the one before it."""
        for step, path in self._present():
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except Exception:  # noqa: S112 - whatever is wrong with it, the one before is asked next
                continue
            return step, state
        return None

    def _present(self) -> list[tuple[int, Path]]:
        """Newest first."""
        matches = ((_NAME.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)
