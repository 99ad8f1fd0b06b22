"""Which devices llama.cpp may use for a model, and where it says that the model is then.

llama.cpp has no call that tells where a loaded model is. It says so in its log, layer by layer and with the size of
each buffer; a load is believed to be on a GPU only when that says so. A model for RAM is given an empty list of
devices, so that nothing of it can get onto a GPU. ``runtime`` calls this and hands in the library; the numbers are
ggml's.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct, field

from appliance.domain.errors import CannotFit
from appliance.engines.base import CPU, Placement

_GPU_TYPE: Final = 1
_SPLIT_NONE: Final = 0
_SPLIT_LAYER: Final = 1
_ALL_LAYERS: Final = -1
_CUDA: Final = re.compile(r"CUDA(\d+)")
_LAYER: Final = re.compile(r"load_tensors: layer\s+\d+ assigned to device ([^\s,]+)")
_WEIGHTS: Final = re.compile(r"load_tensors:\s+(\S+) model buffer size =\s+([\d.]+) MiB")
_CACHE: Final = re.compile(r"(\S+) KV buffer size =\s+([\d.]+) MiB")


def device_of(name: str) -> str:
    """``gpu0`` for ggml's ``CUDA0``; ``cpu`` for its processor and memory around it (``CPU_Mapped``, ``CUDA_Host``)."""
    found = _CUDA.fullmatch(name)
    return f"gpu{found[1]}" if found else CPU


def gpus_of(ggml: Any) -> dict[str, int]:
    """The CUDA devices in ggml's registry: ``gpu0`` → its handle."""
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_type.restype = ctypes.c_int
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    ggml.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    found: dict[str, int] = {}
    for number in range(ggml.ggml_backend_dev_count()):
        handle = ggml.ggml_backend_dev_get(number)
        name = (ggml.ggml_backend_dev_name(handle) or b"").decode("utf-8", "replace")
        if ggml.ggml_backend_dev_type(handle) == _GPU_TYPE and device_of(name) != CPU:
            found[device_of(name)] = handle
    return found


def check_gpus(placement: Placement, gpus: Mapping[str, int]) -> None:
    """Raise CannotFit when this llama.cpp cannot use a GPU of the placement."""
    asked = [share.device for share in placement.gpus]
    if not asked or set(asked) <= set(gpus):
        return
    if not gpus:
        raise CannotFit(
            f"{' and '.join(asked)} asked for, and this build of llama.cpp has no CUDA backend that works here; "
            "install one with CUDA and a driver for it, or set gpus to 0 to run in RAM"
        )
    raise CannotFit(f"{' and '.join(asked)} asked for, and llama.cpp sees {', '.join(gpus)} only; set gpus to less")


def place(parameters: Any, placement: Placement, gpus: Mapping[str, int], max_devices: int) -> list[Any]:
    """Write the placement into llama.cpp's model parameters. What is returned must live as long as they are used."""
    handles = [gpus[share.device] for share in placement.gpus]
    devices = (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
    parameters.devices = ctypes.cast(devices, ctypes.c_void_p)
    parameters.n_gpu_layers = _layers_on_gpus(placement)
    parameters.split_mode = _SPLIT_LAYER if len(handles) > 1 else _SPLIT_NONE
    parameters.main_gpu = 0 if handles else -1
    fractions = (ctypes.c_float * max_devices)(*(share.layers for share in placement.gpus))
    if len(handles) > 1:
        parameters.tensor_split = ctypes.cast(fractions, ctypes.POINTER(ctypes.c_float))
    return [devices, fractions]


def _layers_on_gpus(placement: Placement) -> int:
    if not placement.gpus:
        return 0
    in_ram = any(share.layers for share in placement.shares if share.device == CPU)
    return sum(share.layers for share in placement.gpus) if in_ram else _ALL_LAYERS


class Account(Struct):
    """Where llama.cpp says that it has put a model."""

    layers: dict[str, int] = field(default_factory=dict)
    """By device, the output layer among them."""
    weights_mib: dict[str, float] = field(default_factory=dict)
    cache_mib: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, lines: Iterable[str]) -> Account:
        """From the lines that a load, or the making of a context, logged."""
        account = cls()
        for line in lines:
            if found := _LAYER.search(line):
                device = device_of(found[1])
                account.layers[device] = account.layers.get(device, 0) + 1
            for sizes, pattern in ((account.weights_mib, _WEIGHTS), (account.cache_mib, _CACHE)):
                if found := pattern.search(line):
                    device = device_of(found[1])
                    sizes[device] = sizes.get(device, 0.0) + float(found[2])
        return account

    @property
    def device(self) -> str:
        """The devices that compute, for people: ``cpu``, ``gpu0``, ``gpu0+gpu1``, ``gpu0+cpu``."""
        gpus = sorted((device for device in self.layers if device != CPU), key=lambda device: int(device[3:]))
        return "+".join([*gpus, *([CPU] if CPU in self.layers else [])]) or CPU

    def check_weights(self, placement: Placement) -> None:
        """Raise CannotFit when the layers are not where they were placed."""
        placed = {share.device: share.layers for share in placement.shares if share.layers}
        if not placement.gpus:
            alike = not self.layers.keys() - {CPU}
        elif len(placed) == 1:
            alike = self.layers.keys() == placed.keys()
        else:
            alike = self.layers == placed
        bare = [share.device for share in placement.gpus if not self.weights_mib.get(share.device)]
        if not alike or bare:
            raise CannotFit(
                f"asked for layers on {_text(placed)}, llama.cpp says they are on {_text(self.layers) or 'no device'}"
                f"{f' and has no weights on {bare[0]}' if bare else ''}; nothing is served from another place than "
                "asked for: set gpus to 0 to run in RAM, or take a build of llama.cpp that supports this model there"
            )

    def check_cache(self, placement: Placement) -> None:
        """Raise CannotFit when the cache is on a device that has no layers of the placement."""
        allowed = {share.device for share in placement.shares if share.layers}
        strangers = sorted(device for device, size in self.cache_mib.items() if size and device not in allowed)
        if strangers:
            raise CannotFit(
                f"asked for {placement.device}, llama.cpp put the cache on {', '.join(strangers)}; set gpus to 0 to "
                "run in RAM, or take a build of llama.cpp that supports this model there"
            )


def _text(layers: Mapping[str, int]) -> str:
    return ", ".join(f"{device} ({count})" for device, count in layers.items())
