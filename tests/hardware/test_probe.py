"""The machine at a moment: this one, and this one under a small cgroup."""

from __future__ import annotations

import os

import psutil

from appliance.hardware.devices import DeviceKind
from appliance.hardware.gpu import Gpus
from appliance.hardware.probe import Probe
from tests.hardware.fake_nvml import FakeGpu, FakeNvml

MIB = 1024**2


def limited(root, *gpus: FakeGpu) -> Probe:
    """This machine under a cgroup of 64 MiB and half a processor."""
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(str(64 * MIB))
    (group / "memory.current").write_text(str(24 * MIB))
    (group / "cpu.max").write_text("50000 100000")
    return Probe(root, Gpus(FakeNvml(*gpus), {}))


def test_this_machine():
    """RAM is there, part of it free, and part of it ours."""
    probe = Probe()
    ram = probe.devices()[0]
    probe.close()
    assert (ram.id, ram.kind) == ("cpu", DeviceKind.RAM)
    assert ram.name
    assert 0 < ram.free_bytes <= ram.total_bytes <= psutil.virtual_memory().total
    assert 0 < ram.used_by_us_bytes < ram.total_bytes
    assert 0.0 <= ram.utilisation_percent <= 100.0


def test_a_cgroup_is_the_machine(tmp_path):
    """What the group allows is all there is."""
    probe = limited(tmp_path)
    ram = probe.ram()
    assert (ram.total_bytes, ram.free_bytes) == (64 * MIB, 40 * MIB)
    assert probe.cpu_count() == 1


def test_without_limits_the_machine_is_the_machine(tmp_path):
    """No cgroup files: psutil's numbers and every processor of the affinity."""
    probe = Probe(tmp_path, Gpus(FakeNvml(), {}))
    assert probe.ram().total_bytes == psutil.virtual_memory().total
    assert probe.cpu_count() == len(os.sched_getaffinity(0))
    assert probe.ram().name == "CPU"


def test_fewer_processors_by_affinity(tmp_path):
    """A process pinned to one processor has one."""
    allowed = os.sched_getaffinity(0)
    probe = Probe(tmp_path, Gpus(FakeNvml(), {}))
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert probe.cpu_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_processor_has_a_name(tmp_path):
    """The first model name of /proc/cpuinfo."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: other\n")
    assert Probe(tmp_path, Gpus(FakeNvml(), {})).ram().name == "Some CPU @ 3 GHz"


def test_ram_first_then_the_gpus(tmp_path):
    """Ids in the order in which placements try them, and the note of the GPUs."""
    probe = limited(tmp_path, FakeGpu(), FakeGpu())
    assert [device.id for device in probe.devices()] == ["cpu", "gpu0", "gpu1"]
    assert probe.gpu_note is None
    probe.close()
    probe.close()


def test_the_note_says_why_there_is_no_gpu(tmp_path):
    """For the dashboard."""
    probe = limited(tmp_path)
    probe.devices()
    assert probe.gpu_note == "no NVIDIA GPU found"


def test_memory_that_we_take_is_seen():
    """The process's own share grows with what it allocates."""
    probe = Probe()
    before = probe.process_bytes()
    block = b"\x01" * (64 * MIB)
    assert probe.process_bytes() - before > 32 * MIB
    del block
    probe.close()
