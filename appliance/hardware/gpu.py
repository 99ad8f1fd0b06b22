"""NVIDIA GPUs as the driver reports them, through NVML.

No driver and no GPU are ordinary: the list is empty and ``note`` says why. A value that a GPU cannot report is None.
Only GPUs that CUDA_VISIBLE_DEVICES leaves visible are listed, numbered as CUDA numbers them under
``CUDA_DEVICE_ORDER=PCI_BUS_ID``, so that ``gpu0`` here is the engine's device 0.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypeVar

import psutil
import pynvml

from appliance.hardware.devices import Device, DeviceKind

ValueT = TypeVar("ValueT")

MILLIWATTS = 1000.0
NOT_AVAILABLE_BYTES = 2**64 - 1
"""NVML's own "cannot tell" for a process's memory, where the binding does not turn it into None."""


def order_by_bus(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make CUDA number the GPUs as they are numbered here. Before CUDA is loaded; it reads this once."""
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


class Gpus:
    """The machine's GPUs. The library is opened at the first look and kept open; closing twice is fine.

    ``nvml`` is the ``pynvml`` module or something that behaves like it.
    """

    def __init__(self, nvml: Any = pynvml, environment: Mapping[str, str] = os.environ) -> None:
        self._nvml = nvml
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._lock = threading.Lock()
        self._opened = False
        self._handles: list[Any] | None = None
        self._faults: list[str] = []
        self.note: str | None = None
        """Why no GPU, or fewer than before, are listed; None when all is well."""

    def devices(self) -> list[Device]:
        """Every visible GPU as it is now. Costs a few driver calls each; the first look also opens the library."""
        with self._lock:
            if self._handles is None:
                self._handles = self._open()
            ours = _our_processes() if self._handles else set()
            found, faults = [], list(self._faults)
            for index, handle in enumerate(self._handles):
                try:
                    found.append(self._device(index, handle, ours))
                except self._nvml.NVMLError as error:
                    faults.append(f"gpu{index} does not answer: {error}")
            self.note = "; ".join(faults) or None
            return found

    def held_bytes(self) -> dict[str, int]:
        """What this process holds on each GPU of which the driver can tell. Cheaper than ``devices``."""
        with self._lock:
            if self._handles is None:
                self._handles = self._open()
            own = {os.getpid()}
            held = {f"gpu{index}": self._held_bytes(handle, own) for index, handle in enumerate(self._handles)}
        return {device: bytes_ for device, bytes_ in held.items() if bytes_ is not None}

    def close(self) -> None:
        """Let go of the library. A later look opens it again."""
        with self._lock:
            if self._opened:
                self._optional(self._nvml.nvmlShutdown)
            self._opened, self._handles = False, None

    # --- opening -------------------------------------------------------------------------------------------------

    def _open(self) -> list[Any]:
        """Handles of the visible GPUs; what stands in the way goes to the faults."""
        self._faults = []
        try:
            self._nvml.nvmlInit()
            self._opened = True
            handles = self._all_handles(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            self._faults = [f"no NVIDIA GPU: {error}"]
            return []
        chosen = self._chosen(handles)
        if not chosen and not self._faults:
            self._faults = ["CUDA_VISIBLE_DEVICES hides every GPU" if handles else "no NVIDIA GPU found"]
        return chosen

    def _all_handles(self, count: int) -> list[Any]:
        """One dead GPU must not hide the others."""
        handles = []
        for index in range(count):
            try:
                handles.append(self._nvml.nvmlDeviceGetHandleByIndex(index))
            except self._nvml.NVMLError as error:
                self._faults.append(f"the GPU with index {index} cannot be opened: {error}")
        return handles

    def _chosen(self, handles: list[Any]) -> list[Any]:
        """CUDA's rule: the named GPUs in the order given, up to the first name that fits none."""
        if self._visible is None:
            return handles
        chosen = []
        for name in self._visible.split(","):
            handle = self._named(name.strip(), handles)
            if handle is None:
                break
            chosen.append(handle)
        return chosen

    def _named(self, name: str, handles: list[Any]) -> Any | None:
        if name.isdecimal():
            return handles[int(name)] if int(name) < len(handles) else None
        matching = [handle for handle in handles if name and self._nvml.nvmlDeviceGetUUID(handle).startswith(name)]
        return matching[0] if len(matching) == 1 else None

    # --- reading -------------------------------------------------------------------------------------------------

    def _device(self, index: int, handle: Any, ours: set[int]) -> Device:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        power = self._optional(nvml.nvmlDeviceGetPowerUsage, handle)
        utilisation = self._optional(nvml.nvmlDeviceGetUtilizationRates, handle)
        return Device(
            id=f"gpu{index}",
            kind=DeviceKind.GPU,
            name=str(nvml.nvmlDeviceGetName(handle)),
            total_bytes=int(memory.total),
            free_bytes=int(memory.free),
            used_by_us_bytes=self._held_bytes(handle, ours),
            utilisation_percent=None if utilisation is None else float(utilisation.gpu),
            temperature_celsius=self._temperature(handle),
            power_watts=None if power is None else power / MILLIWATTS,
        )

    def _temperature(self, handle: Any) -> float | None:
        found = self._optional(self._nvml.nvmlDeviceGetTemperature, handle, self._nvml.NVML_TEMPERATURE_GPU)
        return None if found is None else float(found)

    def _held_bytes(self, handle: Any, processes: set[int]) -> int | None:
        """Found by process id, which inside a container's own id space finds nothing: then unknown, not zero."""
        known = [
            int(process.usedGpuMemory)
            for process in self._optional(self._nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
            if process.pid in processes and process.usedGpuMemory not in (None, NOT_AVAILABLE_BYTES)
        ]
        return sum(known) if known else None

    def _optional(self, read: Callable[..., ValueT], *arguments: Any) -> ValueT | None:
        try:
            return read(*arguments)
        except self._nvml.NVMLError:
            return None


def _our_processes() -> set[int]:
    """This one and all that it has started: trial loads, trainings."""
    try:
        return {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    except psutil.Error:
        return {os.getpid()}
