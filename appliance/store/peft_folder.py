"""LoRA adapters as peft saves them (``adapter_model.safetensors`` beside ``adapter_config.json``), turned into GGUF.

What GGUF has no words for is refused by name: an adapter that lost a part on the way would answer otherwise than the
one that was trained. Needs numpy and the ``gguf`` package, none of what training needs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.store.gguf_layout import TRANSPOSED
from appliance.store.gguf_weights import Array, GgufWeights
from appliance.store.lora import Factors, listing, write_adapter
from appliance.store.members import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from appliance.store.safetensors_header import read_safetensors_header
from appliance.store.window import open_window

_FACTOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<kind>[AB])(?:\.default)?\.weight", re.ASCII)
_CONFIG_BYTES_LIMIT = 1 << 20
_TYPES: dict[str, npt.DTypeLike] = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


class _Config(Struct):
    peft_type: str = "LORA"
    r: int = 8
    lora_alpha: float = 8.0
    use_dora: bool = False
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None
    alpha_pattern: dict[str, float] = {}
    trainable_token_indices: Any = None
    layer_replication: Any = None


def convert(folder: Path, base: GgufWeights, place: Path) -> None:
    """Write the adapter as GGUF. Raises BadWeights, WrongWeights."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if (folder / name).is_symlink():
            raise BadWeights(f"'{name}' in the folder is a link; copy its file to the folder instead")
    config = _config(folder / ADAPTER_CONFIG, base)
    write_adapter(place, base, _factors(folder / ADAPTER_WEIGHTS, config), config.lora_alpha, name=folder.name)


def _config(path: Path, base: GgufWeights) -> _Config:
    if path.stat().st_size > _CONFIG_BYTES_LIMIT:
        raise BadWeights(f"{path.name} has {path.stat().st_size} bytes; at most {_CONFIG_BYTES_LIMIT} are accepted")
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadWeights(f"{path.name} is not a configuration of peft: {error}") from None
    refused = {
        f"peft_type {config.peft_type}": config.peft_type != "LORA",
        "use_dora": config.use_dora,
        # of matrices that transformers keeps transposed; factors lie as all others do
        "fan_in_fan_out": config.fan_in_fan_out and base.architecture not in TRANSPOSED,
        f"bias {config.bias}": config.bias != "none",
        f"modules_to_save ({', '.join(config.modules_to_save or ())})": bool(config.modules_to_save),
        "trainable_token_indices": bool(config.trainable_token_indices),
        "layer_replication": bool(config.layer_replication),
    }
    if wrong := [what for what, is_so in refused.items() if is_so]:
        raise WrongWeights(f"the adapter uses {', '.join(wrong)}, which GGUF cannot hold; train a plain LoRA")
    if not (config.lora_alpha > 0 and math.isfinite(config.lora_alpha)):
        raise BadWeights(f"{path.name}: lora_alpha must be a number above 0")
    return config


def _factors(path: Path, config: _Config) -> dict[str, Factors]:
    down: dict[str, Array] = {}
    up: dict[str, Array] = {}
    others = []
    for name, numbers in tensors(path):
        match = _FACTOR.fullmatch(name)
        if match is None or numbers.ndim != 2:
            others.append(name)
        else:
            (down if match["kind"] == "A" else up)[match["module"]] = numbers
    if others:
        raise WrongWeights(f"the adapter has {listing(others)}, which GGUF cannot hold; train a plain LoRA")
    if not down or (alone := sorted(down.keys() ^ up.keys())):
        raise BadWeights(f"{path.name}: one of two factors is missing for {listing(alone) if down else 'every module'}")
    return {module: Factors(down[module], up[module], _scale(module, down[module], config)) for module in down}


def _scale(module: str, down: Array, config: _Config) -> float:
    rank = down.shape[0]
    alpha = _of_pattern(module, config.alpha_pattern, config.lora_alpha)
    return alpha / math.sqrt(rank) if config.use_rslora else alpha / rank


def _of_pattern(module: str, pattern: Mapping[str, float], default: float) -> float:
    """A key is the module's name or the end of it. Raises WrongWeights for one that is a regular expression: it comes
    from anywhere, and could run for ever.
    """
    for key, value in pattern.items():
        plain = key.removeprefix("^").replace("\\.", ".")
        if not re.fullmatch(r"[\w.]+", plain, re.ASCII):
            raise WrongWeights(f"alpha_pattern has the pattern '{key[:80]}'; only names of modules are taken")
        if module == plain or module.endswith("." + plain):
            return value
    return default


def tensors(path: Path) -> Iterator[tuple[str, Array]]:
    """Names and numbers of a safetensors file, checked first. Raises BadWeights."""
    with open_window(path) as window:
        read_safetensors_header(window)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries: dict[str, Any] = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            start, stop = entry["data_offsets"]
            file.seek(8 + length + start)
            yield name, _numbers(path, name, entry["dtype"], file.read(stop - start)).reshape(entry["shape"])


def _numbers(path: Path, name: str, dtype: str, raw: bytes) -> Array:
    if dtype == "BF16":
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype not in _TYPES:
        raise BadWeights(f"{path.name}: tensor '{name[:80]}' is of type {dtype}; factors are F32, F16 or BF16")
    found: Array = np.frombuffer(raw, dtype=_TYPES[dtype]).astype(np.float32)
    return found
