"""What a header says about the memory of a running model, against what llama.cpp then makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from appliance.domain.models import ModelType
from appliance.engines.base import EngineSpec
from appliance.engines.llama.backend import LlamaBackend
from appliance.engines.llama.offload import Account
from appliance.store.inspection import inspect
from tests.store.weights_files import write_gguf
from tests.support.tiny_trainable import write_trainable

CELLS, SLOTS = 1024, 4
_MADE = re.compile(r"(?:KV|RS) buffer size =\s+([\d.]+) MiB")
ROUNDED_BYTES = 0.006 * 2**20
"""In the log, to a hundredth of a MiB."""


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [
        pytest.param("llama", "", id="all layers alike"),
        pytest.param("gemma3", "", id="windows"),
        pytest.param("falcon", "7b", id="one head of keys"),
        pytest.param("gemma4", "", id="narrow heads behind windows and borrowed keys"),
        pytest.param("gemma4", "31b", id="fewer heads in some layers"),
        pytest.param("lfm2", "", id="attention in some layers"),
        pytest.param("mamba", "", id="no attention at all"),
    ],
)
def test_the_cache_is_as_large_as_estimated(
    architecture: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, values and states take what the header's estimate says, whatever the layers are."""
    path = write_trainable(tmp_path / "model.gguf", architecture, variant=variant)
    parameters = {"context_length": 256, "cache_tokens": CELLS}
    spec = EngineSpec(
        model_type=ModelType.COMPLETION,
        weights=path,
        card=inspect({path.name: path}),
        parameters=parameters,
        slots=SLOTS,
    )
    said: list[str] = []
    read = Account.read
    monkeypatch.setattr(Account, "read", lambda lines: read([line for line in lines if not said.append(line)]))
    LlamaBackend().load(spec).close()
    buffers = [float(found) for line in said for found in _MADE.findall(line)]
    assert buffers
    made_bytes = 2**20 * sum(buffers)
    assert LlamaBackend().estimate(spec).cache_bytes == pytest.approx(made_bytes, abs=len(buffers) * ROUNDED_BYTES)


@pytest.mark.parametrize(
    ("architecture", "keys", "values"),
    [
        pytest.param("qwen3next", {"full_attention_interval": 4}, 2 * 2 * (16 + 16), id="every fourth layer attends"),
        pytest.param("deepseek2", {"attention.value_length": 8}, 8 * 2 * (16 + 8), id="values narrower than keys"),
        pytest.param("llama", {}, None, id="nothing that the rest of the card does not say"),
    ],
)
def test_layers_that_differ(architecture: str, keys: dict[str, int], values: int | None, tmp_path: Path) -> None:
    """Only what differs from layer to layer, or from keys to values, is noted beside heads, width and layers."""
    usual = {"block_count": 8, "embedding_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2}
    named = {f"{architecture}.{key}": value for key, value in (usual | keys).items()}
    card = inspect({"model.gguf": write_gguf(tmp_path / "model.gguf", architecture, named, ("output_norm.weight",))})
    assert card.extra.get("cache_values_per_token") == values


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"block_count": 2**31 - 1}, id="layers"),
        pytest.param({"attention.head_count_kv": 2**31 - 1, "attention.value_length": 2**31 - 1}, id="heads"),
        pytest.param({"ssm.inner_size": 2**31 - 1, "ssm.state_size": 2**31 - 1}, id="states"),
        pytest.param({"attention.value_length": "wide", "full_attention_interval": True}, id="no numbers"),
    ],
)
def test_absurd_headers(keys: dict[str, Any], tmp_path: Path) -> None:
    """No header makes a long list or a number that JSON cannot hold; the rest of the card stands."""
    usual = {"block_count": 8, "embedding_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2}
    named = {f"llama.{key}": value for key, value in (usual | keys).items()}
    card = inspect({"model.gguf": write_gguf(tmp_path / "model.gguf", "llama", named, ("output_norm.weight",))})
    assert all(isinstance(value, str) or value < 2**53 for value in card.extra.values())
    assert card.embedding_length == 64


def test_what_is_kept_of_states_fits(tmp_path: Path) -> None:
    """Of weights without attention a finished sequence is its state: there is room for as many as there are slots."""
    path = write_trainable(tmp_path / "model.gguf", "mamba")
    spec = EngineSpec(
        model_type=ModelType.COMPLETION, weights=path, card=inspect({path.name: path}), parameters={}, slots=SLOTS
    )
    need = LlamaBackend().estimate(spec)
    assert need.prefix_bytes >= need.cache_bytes > 0
