"""LoRA adapters made elsewhere become GGUF adapters that compute the same, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.store.gguf_weights import GgufWeights
from appliance.store.lora import Adapter
from appliance.store.peft_folder import convert
from tests.support.tiny_trainable import cosine, llama_logits, write_trainable

TOKENS = [0, 40, 41, 42, 100, 101, 7]
MODULE = "model.layers.0.mlp.down_proj"


def write_safetensors(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def write_folder(folder: Path, extra: dict[str, tuple[str, np.ndarray]] | None = None, **config: Any) -> Path:
    folder.mkdir()
    random = np.random.default_rng(3)
    down = random.standard_normal((4, 96), dtype=np.float32)
    up = random.standard_normal((64, 4), dtype=np.float32)
    name = f"base_model.model.{MODULE}.lora_"
    factors = {f"{name}A.weight": ("F32", down), f"{name}B.weight": ("F16", up.astype(np.float16))}
    write_safetensors(folder / "adapter_model.safetensors", factors | (extra or {}))
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["down_proj"], "bias": "none"} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> GgufWeights:
    return GgufWeights(write_trainable(tmp_path / "base.gguf", "llama"))


@pytest.mark.parametrize(
    ("config", "scale"),
    [({}, 2.0), ({"use_rslora": True}, 4.0), ({"alpha_pattern": {"down_proj": 16}}, 4.0), ({"lora_alpha": 1.0}, 0.25)],
)
def test_an_adapter_becomes_gguf_with_its_scale(
    base: GgufWeights, tmp_path: Path, config: dict[str, Any], scale: float
) -> None:
    """What is added to the matrix is scale times the product, however peft's settings arrive at the scale."""
    folder = write_folder(tmp_path / "adapter", **config)

    convert(folder, base, tmp_path / "adapter.gguf")

    random = np.random.default_rng(3)
    down, up = (random.standard_normal(shape, dtype=np.float32) for shape in ((4, 96), (64, 4)))
    adapter = Adapter(tmp_path / "adapter.gguf")
    np.testing.assert_allclose(adapter.delta("blk.0.ffn_down.weight"), scale * (up @ down), rtol=0.02, atol=0.02)
    changed = llama_logits(tmp_path / "base.gguf", TOKENS, tmp_path / "adapter.gguf")
    assert cosine(changed, llama_logits(tmp_path / "base.gguf", TOKENS)) < 0.99


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head", "embed_tokens"]}, r"modules_to_save \(lm_head, embed_tokens\)"),
        ({"peft_type": "IA3"}, "peft_type IA3"),
        ({"bias": "all"}, "bias all"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "alpha_pattern has the pattern"),
    ],
)
def test_what_gguf_cannot_hold_is_refused_by_name(
    base: GgufWeights, tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    """Nothing is left out of an adapter."""
    with pytest.raises(WrongWeights, match=named):
        convert(write_folder(tmp_path / "adapter", **config), base, tmp_path / "adapter.gguf")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("base_model.model.model.embed_tokens.lora_embedding_A", "lora_embedding_A, which GGUF cannot hold"),
        ("base_model.model.model.layers.0.mlp.down_proj.lora_magnitude_vector.weight", "lora_magnitude_vector"),
    ],
)
def test_tensors_that_are_no_factors_are_refused_by_name(
    base: GgufWeights, tmp_path: Path, name: str, named: str
) -> None:
    """Embeddings and magnitudes, whatever the configuration says."""
    folder = write_folder(tmp_path / "adapter", {name: ("F32", np.zeros((4, 4), dtype=np.float32))})
    with pytest.raises(WrongWeights, match=named):
        convert(folder, base, tmp_path / "adapter.gguf")


def test_an_unknown_target_and_a_lone_factor_are_refused(base: GgufWeights, tmp_path: Path) -> None:
    """Each with its name."""
    one = {"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": ("F32", np.zeros((4, 64), dtype=np.float32))}
    with pytest.raises(BadWeights, match=r"one of two factors is missing for model\.layers\.0\.mlp\.up_proj"):
        convert(write_folder(tmp_path / "lone", one), base, tmp_path / "adapter.gguf")
    other = {
        f"base_model.model.vision.patch.lora_{kind}.weight": ("F32", np.zeros(shape, dtype=np.float32))
        for kind, shape in (("A", (4, 64)), ("B", (64, 4)))
    }
    with pytest.raises(WrongWeights, match=r"has no matrix for vision\.patch"):
        convert(write_folder(tmp_path / "unknown", other), base, tmp_path / "adapter.gguf")


def test_a_truncated_file_is_refused(base: GgufWeights, tmp_path: Path) -> None:
    """Before a number of it is read."""
    folder = write_folder(tmp_path / "adapter")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadWeights, match="it should have"):
        convert(folder, base, tmp_path / "adapter.gguf")


def test_a_link_in_the_folder_is_refused(base: GgufWeights, tmp_path: Path) -> None:
    """A folder may come from anywhere; what it links to was not given."""
    folder = write_folder(tmp_path / "adapter")
    (folder / "adapter_config.json").rename(tmp_path / "outside.json")
    (folder / "adapter_config.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(BadWeights, match="is a link"):
        convert(folder, base, tmp_path / "adapter.gguf")
