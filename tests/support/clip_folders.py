"""Makes tiny ONNX folders with a text tower and an image tower into one space, shaped as CLIP's are exported.

The weights are set by hand, so that a text about a colour and a form is nearest to a picture of it. The text tower adds
up the tokens before the end mark and looks there, as CLIP does; the image tower sees colours in a grid of patches.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from appliance.encoders import protobuf

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
COLOURS = {"red": (1, -1, -1, 0), "green": (-1, 1, -1, 0), "blue": (-1, -1, 1, 0)}
FORMS = {"square": (0, 0, 0, 1), "circle": (0, 0, 0, -1)}
WORDS: Mapping[str, tuple[int, ...]] = {"[UNK]": (0,) * 4, "a": (0,) * 4, **COLOURS, **FORMS}
VOCABULARY = (BEGIN, *WORDS, END)
"""The end mark has the highest id: by that the tower finds it."""
WIDTH, POSITIONS, SIDE, PATCH = 4, 16, 32, 8
IMAGE_TOKENS = (SIDE // PATCH) ** 2
CONFIG = {
    "model_type": "clip",
    "projection_dim": WIDTH,
    "text_config": {
        "max_position_embeddings": POSITIONS,
        "hidden_size": WIDTH,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "vocab_size": len(VOCABULARY),
    },
    "vision_config": {"image_size": SIDE, "patch_size": PATCH, "hidden_size": WIDTH},
}
PREPROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": SIDE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
IDS, MASK = "input_ids", "attention_mask"
Values = Sequence[int | str]


def write_towers(folder: Path, *, image_width: int = WIDTH) -> Path:
    """A file for each tower, as optimum and transformers.js export them. ``image_width`` other: not one space."""
    model = {
        "text_model.onnx": _model(_text_nodes(), _text_weights(), {IDS: _TOKENS}, {"text_embeds": ("batch", WIDTH)}),
        "vision_model.onnx": _model(
            _image_nodes(),
            _image_weights(image_width),
            {"pixel_values": _PIXELS},
            {"image_embeds": ("batch", image_width)},
        ),
    }
    return _write(folder, model)


def write_joint(folder: Path) -> Path:
    """Both towers in one graph, which also compares them."""
    compare = [
        protobuf.node("Transpose", ["text_embeds"], ["turned"], attributes={"perm": (1, 0)}),
        protobuf.node("MatMul", ["image_embeds", "turned"], ["logits_per_image"]),
        protobuf.node("Transpose", ["logits_per_image"], ["logits_per_text"], attributes={"perm": (1, 0)}),
    ]
    graph = _model(
        [*_text_nodes(), *_image_nodes(), *compare],
        _text_weights() | _image_weights(WIDTH),
        {IDS: _TOKENS, "pixel_values": _PIXELS, MASK: _TOKENS},
        {
            "logits_per_image": ("images", "texts"),
            "logits_per_text": ("texts", "images"),
            "text_embeds": ("texts", WIDTH),
            "image_embeds": ("images", WIDTH),
        },
    )
    return _write(folder, {"model.onnx": graph})


def picture(colour: str, form: str, side: int = 64) -> PIL.Image.Image:
    """A form that fills a black picture."""
    drawn = PIL.Image.new("RGB", (side, side))
    pen = PIL.ImageDraw.Draw(drawn)
    draw = pen.rectangle if form == "square" else pen.ellipse
    draw((0, 0, side - 1, side - 1), fill=colour if colour != "green" else "lime")
    return drawn


def data_url(drawn: PIL.Image.Image, kind: str = "png", **options: Any) -> str:
    """The picture as clients send it."""
    return f"data:image/{kind};base64,{encoded(drawn, kind, **options)}"


def encoded(drawn: PIL.Image.Image, kind: str = "png", **options: Any) -> str:
    """The picture's file as base64."""
    file = BytesIO()
    drawn.save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


_TOKENS: Values = ("batch", "sequence")
_PIXELS: Values = ("images", 3, SIDE, SIDE)


def _text_nodes() -> list[bytes]:
    return [
        protobuf.node("Gather", ["tokens", IDS], ["vectors"]),
        protobuf.node("CumSum", ["vectors", "along"], ["read"]),
        protobuf.node("ArgMax", [IDS], ["end"], attributes={"axis": 1, "keepdims": 1}),
        protobuf.node("GatherND", ["read", "end"], ["text_embeds"], attributes={"batch_dims": 1}),
    ]


def _text_weights() -> dict[str, npt.NDArray[Any]]:
    rows = [(0,) * WIDTH, *WORDS.values(), (0,) * WIDTH]
    return {"tokens": np.array(rows, np.float32), "along": np.array([1])}


def _image_nodes() -> list[bytes]:
    sides = {"kernel_shape": (PATCH, PATCH), "strides": (PATCH, PATCH)}
    return [
        protobuf.node("AveragePool", ["pixel_values"], ["patches"], attributes=sides),
        protobuf.node("Flatten", ["patches"], ["flat"], attributes={"axis": 1}),
        protobuf.node("MatMul", ["flat", "seen"], ["raw"]),
        protobuf.node("Add", ["raw", "bias"], ["image_embeds"]),
    ]


def _image_weights(width: int) -> dict[str, npt.NDArray[Any]]:
    """Three outputs are the picture's colours, the fourth how much brighter its corners are than its middle."""
    seen = np.zeros((3, SIDE // PATCH, SIDE // PATCH, width), np.float32)
    for channel in range(3):
        seen[channel, :, :, channel] = 1 / IMAGE_TOKENS
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        seen[:, row, column, 3] = 0.25
    seen[:, 1:3, 1:3, 3] = -0.25
    return {"seen": seen.reshape(-1, width), "bias": np.array([0, 0, 0, 0.6] + [0] * (width - 4), np.float32)}


def _model(
    nodes: Sequence[bytes],
    constants: Mapping[str, npt.NDArray[Any]],
    inputs: Mapping[str, Values],
    outputs: Mapping[str, Values],
) -> bytes:
    kinds = {"pixel_values": "float32"}
    return protobuf.model(
        "tiny",
        producer="tests",
        opsets={"": 17},
        nodes=nodes,
        initializers=[protobuf.tensor(name, values) for name, values in constants.items()],
        inputs=[protobuf.value(name, kinds.get(name, "int64"), shape) for name, shape in inputs.items()],
        outputs=[protobuf.value(name, "float32", shape) for name, shape in outputs.items()],
    )


def _write(folder: Path, models: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        (folder / name).write_bytes(model)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    _write_tokenizer(folder / "tokenizer.json")
    return folder


def _write_tokenizer(file: Path) -> None:
    ids = {token: place for place, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens([BEGIN, END])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, ids[BEGIN]), (END, ids[END])]
    )
    tokenizer.save(str(file))
