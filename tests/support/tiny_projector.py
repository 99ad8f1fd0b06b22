"""Makes a tiny projector for tiny llama weights: random, seeded, real to llama.cpp's libmtmd (LLaVA's shape)."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.support.tiny_models import WIDTH

SIDE, PATCH = 32, 8
IMAGE_TOKENS = (SIDE // PATCH) ** 2
_SEEN, _LAYERS, _HEADS, _WIDE = 32, 2, 2, 64


def write_projector(path: Path, *, seed: int = 5, width: int = WIDTH) -> Path:
    """A CLIP tower of two layers, of which LLaVA's projector reads the first, and two matrices into ``width``."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name("tiny-projector")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    sizes = {
        "image_size": SIDE,
        "patch_size": PATCH,
        "embedding_length": _SEEN,
        "feed_forward_length": _WIDE,
        "block_count": _LAYERS,
        "projection_dim": width,
        "attention.head_count": _HEADS,
    }
    for name, size in sizes.items():
        writer.add_uint32(f"clip.vision.{name}", size)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])

    def matrix(name: str, *shape: int, spread: float = 0.3) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * spread).astype(np.float32))

    def vector(name: str, length: int, fill: float = 0.0) -> None:
        writer.add_tensor(name, np.full(length, fill, np.float32))

    matrix("v.patch_embd.weight", _SEEN, 3, PATCH, PATCH)
    matrix("v.class_embd", _SEEN)
    matrix("v.position_embd.weight", IMAGE_TOKENS + 1, _SEEN)
    for norm in ("v.pre_ln", "v.post_ln"):
        vector(f"{norm}.weight", _SEEN, 1.0)
        vector(f"{norm}.bias", _SEEN)
    for layer in range(_LAYERS):
        name = f"v.blk.{layer}"
        for norm in ("ln1", "ln2"):
            vector(f"{name}.{norm}.weight", _SEEN, 1.0)
            vector(f"{name}.{norm}.bias", _SEEN)
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            matrix(f"{name}.{part}.weight", _SEEN, _SEEN)
            vector(f"{name}.{part}.bias", _SEEN)
        matrix(f"{name}.ffn_up.weight", _WIDE, _SEEN)
        vector(f"{name}.ffn_up.bias", _WIDE)
        matrix(f"{name}.ffn_down.weight", _SEEN, _WIDE)
        vector(f"{name}.ffn_down.bias", _SEEN)
    for number in (0, 2):
        matrix(f"mm.{number}.weight", width, _SEEN if number == 0 else width)
        vector(f"mm.{number}.bias", width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
