"""Limits of control groups, read from trees of files like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.hardware.cgroup import Cgroup, MemoryLimit

MIB = 1024**2
V1_NO_LIMIT = "9223372036854771712"


def machine(root: Path, membership: str, files: dict[str, object]) -> Cgroup:
    """A file system with this /proc/self/cgroup and these files below /sys/fs/cgroup."""
    contents = {"proc/self/cgroup": membership} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return Cgroup(root)


def test_no_cgroups_at_all(tmp_path):
    """Without the files nothing is limited."""
    found = Cgroup(tmp_path)
    assert found.memory() is None
    assert found.cpus() is None


class TestVersion2:
    def test_a_service_with_a_limit(self, tmp_path):
        """The limit of a systemd unit, and what is free under it."""
        found = machine(
            tmp_path,
            "0::/system.slice/appliance.service",
            {
                "system.slice/appliance.service/memory.max": 1000 * MIB,
                "system.slice/appliance.service/memory.current": 300 * MIB,
                "system.slice/appliance.service/memory.stat": f"anon 5\ninactive_file {100 * MIB}\nactive_file 7",
                "system.slice/appliance.service/cpu.max": "150000 100000",
                "system.slice/memory.max": "max",
                "system.slice/cpu.max": "max 100000",
            },
        )
        assert found.memory() == MemoryLimit(1000 * MIB, 800 * MIB)
        assert found.cpus() == 1.5

    def test_the_tightest_ancestor_wins(self, tmp_path):
        """A slice around the service may be smaller, or fuller, than the service's own group."""
        found = machine(
            tmp_path,
            "0::/a/b",
            {
                "a/b/memory.max": 1000 * MIB,
                "a/b/memory.current": 900 * MIB,
                "a/memory.max": 500 * MIB,
                "a/memory.current": 100 * MIB,
                "a/b/cpu.max": "400000 100000",
                "a/cpu.max": "200000 100000",
            },
        )
        assert found.memory() == MemoryLimit(500 * MIB, 100 * MIB)
        assert found.cpus() == 2.0

    def test_inside_a_container(self, tmp_path):
        """The path is the root, whose files are the container's own."""
        found = machine(
            tmp_path, "0::/", {"memory.max": 512 * MIB, "memory.current": 12 * MIB, "cpu.max": "50000 100000"}
        )
        assert found.memory() == MemoryLimit(512 * MIB, 500 * MIB)
        assert found.cpus() == 0.5

    def test_no_limit(self, tmp_path):
        """``max`` is no limit."""
        found = machine(tmp_path, "0::/", {"memory.max": "max", "cpu.max": "max 100000"})
        assert found.memory() is None
        assert found.cpus() is None

    def test_more_used_than_allowed(self, tmp_path):
        """A limit that was lowered leaves nothing free, never less."""
        found = machine(tmp_path, "0::/", {"memory.max": 10 * MIB, "memory.current": 20 * MIB})
        assert found.memory() == MemoryLimit(10 * MIB, 0)


class TestVersion1:
    MEMBERSHIP = "5:memory:/work/unit\n4:cpu,cpuacct:/work\n1:name=systemd:/\n0::/"

    def test_a_group_with_a_limit(self, tmp_path):
        """Each controller has its own tree and path."""
        found = machine(
            tmp_path,
            self.MEMBERSHIP,
            {
                "memory/work/unit/memory.limit_in_bytes": 2000 * MIB,
                "memory/work/unit/memory.usage_in_bytes": 700 * MIB,
                "memory/work/unit/memory.stat": f"inactive_file 1\ntotal_inactive_file {200 * MIB}",
                "memory/work/memory.limit_in_bytes": V1_NO_LIMIT,
                "memory/memory.limit_in_bytes": V1_NO_LIMIT,
                "cpu/work/cpu.cfs_quota_us": 300000,
                "cpu/work/cpu.cfs_period_us": 100000,
                "cpu/cpu.cfs_quota_us": -1,
                "cpu/cpu.cfs_period_us": 100000,
            },
        )
        assert found.memory() == MemoryLimit(2000 * MIB, 1500 * MIB)
        assert found.cpus() == 3.0

    def test_a_path_of_the_host(self, tmp_path):
        """Inside a container the path is the host's and leads nowhere: the tree's root is the container's group."""
        found = machine(
            tmp_path,
            "5:memory:/docker/0123456789ab",
            {"memory/memory.limit_in_bytes": 100 * MIB, "memory/memory.usage_in_bytes": 40 * MIB},
        )
        assert found.memory() == MemoryLimit(100 * MIB, 60 * MIB)

    def test_no_limit(self, tmp_path):
        """The kernel's largest number and a quota of -1 are no limits."""
        found = machine(
            tmp_path,
            self.MEMBERSHIP,
            {"memory/memory.limit_in_bytes": V1_NO_LIMIT, "cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000},
        )
        assert found.memory() is None
        assert found.cpus() is None


@pytest.mark.parametrize("membership", ["", "nonsense", "0::", "0::../../etc", "0::/../../..", "::::", "1:memory"])
def test_odd_membership(tmp_path, membership):
    """Lines that make no sense, or lead out of the tree, count as the root."""
    found = machine(tmp_path, membership, {"memory.max": 64 * MIB, "memory.current": 0})
    assert found.memory() == MemoryLimit(64 * MIB, 64 * MIB)


@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_whatever_the_files_hold(tmp_path_factory, text):
    """No content of a kernel file makes the probe fail."""
    root = tmp_path_factory.mktemp("odd")
    files = dict.fromkeys(("memory.max", "memory.current", "memory.stat", "cpu.max"), text)
    found = machine(root, text, files)
    found.memory()
    found.cpus()
