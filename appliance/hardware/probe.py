"""The machine at a moment: every device with its free memory, and how many processors this process may use.

The scheduler calls it at start, after loads and unloads, and the dashboard every few seconds. Each look costs a few
small files and driver calls; nothing is remembered but open handles.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from appliance.hardware.cgroup import Cgroup
from appliance.hardware.devices import CPU_ID, Device, DeviceKind
from appliance.hardware.gpu import Gpus


class Probe:
    """Looks at the machine. Close it; closing twice is fine. ``root`` is where /proc and /sys are looked for."""

    def __init__(self, root: Path = Path("/"), gpus: Gpus | None = None) -> None:
        self._cgroup = Cgroup(root)
        self._gpus = gpus if gpus is not None else Gpus()
        self._process = psutil.Process()
        self._name = _processor_name(root)
        psutil.cpu_percent()  # the first answer is a meaningless zero; later ones are since the call before

    def devices(self) -> list[Device]:
        """RAM first, then the GPUs."""
        return [self.ram(), *self.gpus()]

    def gpus(self) -> list[Device]:
        """Every NVIDIA GPU that may be used; none is no error."""
        return self._gpus.devices()

    def gpu_held_bytes(self) -> dict[str, int]:
        """What this process holds on each GPU of which the driver can tell."""
        return self._gpus.held_bytes()

    def ram(self) -> Device:
        """Memory that engines on the CPU share."""
        memory = psutil.virtual_memory()
        limit = self._cgroup.memory()
        return Device(
            id=CPU_ID,
            kind=DeviceKind.RAM,
            name=self._name,
            total_bytes=min(memory.total, limit.total_bytes) if limit else memory.total,
            free_bytes=min(memory.available, limit.free_bytes) if limit else memory.available,
            used_by_us_bytes=self.process_bytes(),
            utilisation_percent=psutil.cpu_percent(),
        )

    def machine(self) -> str:
        """The hardware in a few words: processors, memory, GPUs."""
        ram = self.ram()
        gpus = "".join(f", {gpu.name}" for gpu in self._gpus.devices())
        memory = f"{ram.total_bytes / 2**30:.0f} GiB"
        return f"{self._name}, {self.cpu_count()} cores, {memory}{gpus}"

    def process_bytes(self) -> int:
        """Resident memory of this process, weights mapped from disk included."""
        return int(self._process.memory_info().rss)

    def cpu_count(self) -> int:
        """Processors this process may keep busy: its affinity, and no more than its cgroup's quota, at least 1."""
        allowed = len(os.sched_getaffinity(0))
        quota = self._cgroup.cpus()
        return allowed if quota is None else max(1, min(allowed, int(quota)))

    @property
    def gpu_note(self) -> str | None:
        """Why no GPU is listed, or one is missing; None when all is well. Known after the first ``devices``."""
        return self._gpus.note

    def close(self) -> None:
        """Let go of the driver's library."""
        self._gpus.close()


def _processor_name(root: Path) -> str:
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "CPU"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "CPU")
