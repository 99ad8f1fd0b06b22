"""What a training uses of the machine: device, threads, precision, memory; and how it is made to repeat itself."""

from __future__ import annotations

import os
import resource

import torch

from appliance.domain.errors import CannotFit
from appliance.domain.training import Precision


def prepare(device: str, threads: int) -> torch.device:
    """Make torch compute there, repeatably, with so many threads. Raises CannotFit for a GPU that is not there."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by repeatable matrix products on GPUs
    torch.set_num_threads(max(threads, 1))
    torch.use_deterministic_algorithms(True, warn_only=True)
    chosen = torch.device(device)
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if (chosen.index or 0) >= count:
            raise CannotFit(
                f"the training asks for {device} and torch {torch.__version__} sees {count} GPUs here; "
                "let it run in RAM, or install a torch that is built for this machine's driver"
            )
        torch.cuda.set_device(chosen)
    return chosen


def seed_step(seed: int, step: int) -> None:
    """Every step draws its own randomness, so that none of it need be kept in a checkpoint."""
    torch.manual_seed((seed * 1_000_003 + step) % (1 << 63))


def computes_in_half(asked: Precision, device: torch.device) -> bool:
    """Whether the base is held and computed in bfloat16 there."""
    return half_precision_pays(device) if asked is Precision.AUTO else asked is Precision.BFLOAT16


def half_precision_pays(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware there; elsewhere it is slower than float32 and less exact."""
    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))
    return _cpu_computes("_is_amx_tile_supported") or _cpu_computes("_is_avx512_bf16_supported")


def _cpu_computes(question: str) -> bool:
    ask = getattr(torch.cpu, question, None)
    return bool(ask and ask())


def peak_bytes(device: torch.device) -> int:
    """The most that the process has held there so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
