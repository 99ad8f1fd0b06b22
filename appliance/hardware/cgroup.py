"""What the control groups of this process allow: memory and processor time, under cgroup v1 and v2.

A limit may sit on any ancestor, so each group from the process's own up to the root is read and the smallest wins. In
a container the path in ``/proc/self/cgroup`` may be the host's and lead nowhere here; the root then is the container's
own group. A file that is missing or unreadable limits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from msgspec import Struct

MOUNT = Path("sys/fs/cgroup")

V1_UNLIMITED_BYTES = 2**62
"""Version 1 writes "no limit" as the largest multiple of a page below 2**63."""


class MemoryLimit(Struct, frozen=True):
    """The tightest memory limit: how much in all, and how much of it is free."""

    total_bytes: int
    free_bytes: int


class Cgroup:
    """The groups of this process, below ``root`` (the file system's root, or a test's)."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._mount = root / MOUNT
        self._paths = _membership(root / "proc/self/cgroup")

    def memory(self) -> MemoryLimit | None:
        """The smallest total and the smallest free memory over all groups, or None where nothing is limited."""
        limits = [limit for limit in (*self._memory_v2(), *self._memory_v1()) if limit is not None]
        if not limits:
            return None
        return MemoryLimit(min(limit.total_bytes for limit in limits), min(limit.free_bytes for limit in limits))

    def cpus(self) -> float | None:
        """Processors' worth of time per second that the quota allows, or None where there is none."""
        quotas = [quota for quota in (*self._cpus_v2(), *self._cpus_v1()) if quota is not None]
        return min(quotas, default=None)

    # --- version 2: one tree -------------------------------------------------------------------------------------

    def _memory_v2(self) -> Iterator[MemoryLimit | None]:
        for group in self._groups("", self._mount):
            yield _limit(
                _read_number(group / "memory.max"),
                _read_number(group / "memory.current"),
                _read_statistic(group / "memory.stat", "inactive_file"),
            )

    def _cpus_v2(self) -> Iterator[float | None]:
        for group in self._groups("", self._mount):
            quota, _, period = _read(group / "cpu.max").partition(" ")
            yield _quota(_number(quota), _number(period))

    # --- version 1: a tree per controller ------------------------------------------------------------------------

    def _memory_v1(self) -> Iterator[MemoryLimit | None]:
        for group in self._groups("memory", self._mount / "memory"):
            yield _limit(
                _read_number(group / "memory.limit_in_bytes"),
                _read_number(group / "memory.usage_in_bytes"),
                _read_statistic(group / "memory.stat", "total_inactive_file"),
            )

    def _cpus_v1(self) -> Iterator[float | None]:
        for group in self._groups("cpu", self._mount / "cpu"):
            yield _quota(_read_number(group / "cpu.cfs_quota_us"), _read_number(group / "cpu.cfs_period_us"))

    def _groups(self, controller: str, tree: Path) -> Iterator[Path]:
        """The process's own group in the tree and every ancestor, the tree's root last."""
        own = PurePosixPath(self._paths.get(controller, "/"))
        for path in (own, *own.parents):
            yield tree / path.relative_to("/")


def _membership(path: Path) -> dict[str, str]:
    """Controller → the group's path; the empty name is version 2. Lines read ``4:cpu,cpuacct:/some/group``."""
    found = {}
    for line in _read(path).splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if group.startswith("/") and ".." not in PurePosixPath(group).parts:
            found.update(dict.fromkeys(controllers.split(","), group))
    return found


def _limit(total: int | None, used: int | None, reclaimable: int | None) -> MemoryLimit | None:
    """``reclaimable`` is page cache that the kernel drops before it refuses memory: used, and yet free."""
    if total is None or total >= V1_UNLIMITED_BYTES:
        return None
    held = max(0, (used or 0) - (reclaimable or 0))
    return MemoryLimit(total, max(0, total - held))


def _quota(quota: int | None, period: int | None) -> float | None:
    return quota / period if quota and period and quota > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _read_number(path: Path) -> int | None:
    return _number(_read(path))


def _number(text: str) -> int | None:
    """``max`` and everything else that is no number is None."""
    try:
        return int(text)
    except ValueError:
        return None


def _read_statistic(path: Path, name: str) -> int | None:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value)
    return None
