"""From checkpoint to GGUF: names, axes, the order of rotated pairs, Q8_0 blocks, tokenizer and chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

from . import tokenizer
from .model import Shape
from .template import CHAT_TEMPLATE

Array = npt.NDArray[np.float32]

NAME = "starter-chat"
LICENCE = "apache-2.0"
DESCRIPTION = "Small chat model of the model appliance, trained from nothing on generated text."


def interleaved(weight: Array, heads: int) -> Array:
    """Rows of a q or k matrix (width, width) reordered for llama.cpp, which rotates neighbours (2i, 2i + 1).

    Training rotates (i, i + half) as transformers does; the two are the same network with rows in another order.
    """
    width, inputs = weight.shape
    pairs = weight.reshape(heads, 2, width // heads // 2, inputs)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(width, inputs))


def tensors(state: dict[str, Any], shape: Shape) -> dict[str, Array]:
    """The checkpoint's parameters under llama.cpp's names. The output matrix is the embedding, so it is not written."""
    found: dict[str, Array] = {}
    for name, value in state.items():
        array = value.float().numpy()
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            array = interleaved(array, shape.heads)
        found[name] = array
    return found


def _describe(writer: gguf.GGUFWriter, shape: Shape, parameters: int) -> None:
    """The header: what it is, and its sizes."""
    writer.add_type("model")
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_license(LICENCE)
    writer.add_languages(["en"])
    writer.add_size_label(f"{parameters / 1e6:.1f}M")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)


def _spell(writer: gguf.GGUFWriter, path: Path) -> None:
    """The tokenizer and the chat template."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    kinds = [
        gguf.TokenType.CONTROL if piece in tokenizer.CONTROL
        else gguf.TokenType.USER_DEFINED if piece in tokenizer.MARKS
        else gguf.TokenType.NORMAL
        for piece in pieces
    ]  # fmt: skip
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.PRE)
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    ids = model["vocab"]
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_eot_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def export(checkpoint: Path, codec: Path, target: Path) -> None:
    """Write `target`; matrices as Q8_0, norms as F32."""
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    shape = Shape(**kept["shape"])
    found = tensors(kept["model"], shape)
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(target, "llama")
    _describe(writer, shape, sum(array.size for array in found.values()))
    writer.add_uint64("starter.training_tokens", int(kept["tokens"]))
    writer.add_uint32("starter.training_seconds", int(kept["seconds"]))
    writer.add_uint32("starter.recipe_seed", int(kept["seed"]))
    _spell(writer, codec)
    for name, array in found.items():
        if array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            packed = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
