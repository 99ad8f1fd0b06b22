"""A driver library in memory: what ``pynvml`` would say of GPUs that the test describes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml

GIB = 1024**3


@dataclass
class FakeGpu:
    """One GPU. ``broken`` maps a function's name, without ``nvmlDevice``, to the error code it raises."""

    uuid: str = "GPU-0a"
    name: str = "NVIDIA H100 80GB HBM3"
    total_bytes: int = 80 * GIB
    free_bytes: int = 60 * GIB
    processes: dict[int, int | None] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)


class FakeNvml:
    """The functions that ``appliance.hardware.gpu`` calls. Like the real library, nothing works before nvmlInit."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, *gpus: FakeGpu, init_error: int | None = None) -> None:
        self.gpus = gpus
        self.init_error = init_error
        self.initialised = 0

    def nvmlInit(self) -> None:  # noqa: N802 - the library's names
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self.initialised += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        if not self.initialised:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        self.initialised -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        return self._answer(self.gpus[index], "GetHandleByIndex", self.gpus[index])

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:  # noqa: N802
        return self._answer(gpu, "GetUUID", gpu.uuid)

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:  # noqa: N802
        return self._answer(gpu, "GetName", gpu.name)

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> SimpleNamespace:  # noqa: N802
        return self._answer(gpu, "GetMemoryInfo", SimpleNamespace(total=gpu.total_bytes, free=gpu.free_bytes))

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:  # noqa: N802
        return self._answer(gpu, "GetPowerUsage", 123_500)

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> SimpleNamespace:  # noqa: N802
        return self._answer(gpu, "GetUtilizationRates", SimpleNamespace(gpu=87, memory=40))

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> int:  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._answer(gpu, "GetTemperature", 61)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[SimpleNamespace]:  # noqa: N802
        found = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.processes.items()]
        return self._answer(gpu, "GetComputeRunningProcesses", found)

    def _answer(self, gpu, function, value):
        if not self.initialised:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        if function in gpu.broken:
            raise pynvml.NVMLError(gpu.broken[function])
        return value


def ours(used_bytes: int | None) -> dict[int, int | None]:
    """This process on a GPU, beside another."""
    return {1: 5 * GIB, os.getpid(): used_bytes}
