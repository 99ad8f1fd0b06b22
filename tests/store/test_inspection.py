"""What a set of files is, by contents: formats, folders, shards, and what a wrong file looks like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.domain.models import ModelType, WeightsFormat
from appliance.store.inspection import inspect
from tests.store.weights_files import (
    encoder_model,
    outside,
    safetensors_bytes,
    write_encoder_folder,
    write_gguf,
    write_llama,
    write_shards,
)
from tests.support.clip_folders import write_joint, write_towers

SAFETENSORS = safetensors_bytes({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4))


def folder_files(folder: Path) -> dict[str, Path]:
    """The names that the store gives the parts of a folder."""
    pooling = {"pooling_config.json": folder / "1_Pooling" / "config.json"}
    return {path.name: path for path in folder.iterdir() if path.is_file()} | pooling


@pytest.mark.parametrize(
    ("contents", "looks"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
        (b"\x80\x02}q\x00", "a Python pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b'{"a": 1}', "a JSON file"),
        (b"ggjt" + bytes(40), "before GGUF"),
        (b"\x7fELF" + bytes(40), "a program"),
        (bytes(40), "empty space"),
        (b"something else entirely", "no format known here"),
        (b"\x08\x01\x02", "no format known here"),
    ],
)
def test_a_renamed_file_is_told_for_what_it_is(tmp_path: Path, contents: bytes, looks: str):
    """The name says GGUF, the contents decide, and the message says what they look like."""
    path = tmp_path / "renamed.gguf"
    path.write_bytes(contents)
    with pytest.raises(BadWeights, match=rf"renamed\.gguf: not in gguf format: it looks like .*{looks}"):
        inspect({path.name: path})


def test_the_name_does_not_decide(tmp_path: Path):
    """GGUF contents under another name are GGUF; safetensors under .gguf are safetensors."""
    assert inspect({"weights.bin": write_llama(tmp_path / "weights.bin")}).format is WeightsFormat.GGUF
    (tmp_path / "odd.gguf").write_bytes(SAFETENSORS)
    assert inspect({"odd.gguf": tmp_path / "odd.gguf"}).format is WeightsFormat.SAFETENSORS


def test_an_encoder_folder_embeds_and_ranks(tmp_path: Path):
    """Token vectors can be pooled or compared one by one; the JSON files give the sizes and the pooling."""
    card = inspect(folder_files(write_encoder_folder(tmp_path / "encoder")))
    assert (card.format, card.architecture, card.pooling) == (WeightsFormat.ONNX, "bert", "mean")
    assert card.model_types == (ModelType.EMBEDDING, ModelType.RERANKING)
    assert (card.embedding_length, card.layer_count, card.head_count, card.head_width) == (8, 1, 2, 4)
    assert (card.context_length_tokens, card.vocabulary_size, card.parameter_count) == (64, 20, 160)
    assert (card.quantization, card.tokenizer, card.weights_bytes) == ("F32", "WordPiece", 640)
    assert card.extra["outputs"] == "last_hidden_state"


def test_a_classifier_folder_ranks_only(tmp_path: Path):
    """A sequence classifier gives scores, not vectors."""
    labels = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    card = inspect(folder_files(write_encoder_folder(tmp_path / "ranker", **labels)))
    assert (card.model_types, card.pooling, card.extra["labels"]) == ((ModelType.RERANKING,), "rank", 1)


def test_roberta_takes_fewer_tokens_than_positions(tmp_path: Path):
    """RoBERTa's 514 positions are 512 tokens."""
    config = {"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    assert inspect(folder_files(write_encoder_folder(tmp_path / "xlmr", **config))).context_length_tokens == 512


def test_an_onnx_model_needs_its_tokenizer(tmp_path: Path):
    """The model alone, or a folder without tokenizer.json, is refused with the way out."""
    folder = write_encoder_folder(tmp_path / "encoder")
    with pytest.raises(WrongWeights, match="import the folder"):
        inspect({"encoder.onnx": folder / "model.onnx"})
    files = folder_files(folder)
    del files["tokenizer.json"]
    with pytest.raises(WrongWeights, match=r"without tokenizer\.json"):
        inspect(files)


@pytest.mark.parametrize(
    ("name", "contents", "fault"),
    [
        ("config.json", b"{", "config.json is not the expected JSON"),
        ("config.json", b"\xff\xfe", "config.json is not the expected JSON"),
        ("config.json", b'{"hidden_size": "wide"}', "config.json is not the expected JSON"),
        ("config.json", b'{"hidden_size": -1}', "hidden_size is -1"),
        ("config.json", b"[" * 100_000, "config.json is not the expected JSON"),
        ("tokenizer.json", b"[]", "tokenizer.json is not the expected JSON"),
        ("model.onnx", b"GGUF", "not in onnx format: it looks like a gguf file"),
        (
            "1_Pooling/config.json",
            b'{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}',
            "mean and cls",
        ),
    ],
)
def test_crooked_folders_are_refused(tmp_path: Path, name: str, contents: bytes, fault: str):
    """A part of the folder that cannot be read is named."""
    folder = write_encoder_folder(tmp_path / "encoder")
    (folder / name).write_bytes(contents)
    with pytest.raises((BadWeights, WrongWeights), match=fault):
        inspect(folder_files(folder))


def test_outside_tensors_are_checked_against_their_file(tmp_path: Path):
    """The neighbour that holds the table must have all of it."""
    model = encoder_model()
    raw = outside(model, "model.onnx_data")
    folder = write_encoder_folder(tmp_path / "encoder", model)
    (folder / "model.onnx_data").write_bytes(raw)
    assert inspect(folder_files(folder)).weights_bytes == len(raw)
    (folder / "model.onnx_data").write_bytes(raw[:-1])
    with pytest.raises(BadWeights, match="which has 639"):
        inspect(folder_files(folder))


@pytest.mark.parametrize("write", [write_towers, write_joint])
def test_two_towers_read_texts_and_images(tmp_path: Path, write: Callable[[Path], Path]):
    """In two files or in one: what both hold together, and what an image costs."""
    folder = write(tmp_path / "clip")
    files = {path.name: path for path in folder.iterdir()}
    card = inspect(files)
    assert (card.format, card.architecture, card.modalities) == (WeightsFormat.ONNX, "clip", ("text", "image"))
    assert card.model_types == (ModelType.EMBEDDING,)
    assert card.parameter_count == 9 * 4 + 1 + 48 * 4 + 4
    assert card.weights_bytes == (9 * 4 + 48 * 4 + 4) * 4 + 8
    assert (card.context_length_tokens, card.vocabulary_size, card.extra["image_tokens"]) == (16, 9, 16)
    del files["preprocessor_config.json"]
    with pytest.raises(WrongWeights, match=r"comes without preprocessor_config\.json"):
        inspect(files)


def test_both_towers_are_checked(tmp_path: Path):
    """A hostile second file is found like the first, and one that is no tower is refused."""
    folder = write_towers(tmp_path / "clip")
    files = {path.name: path for path in folder.iterdir()}
    (folder / "vision_model.onnx").write_bytes(b"\x08\x01\x02")
    with pytest.raises(BadWeights, match=r"vision_model\.onnx"):
        inspect(files)
    (folder / "vision_model.onnx").write_bytes((folder / "text_model.onnx").read_bytes())
    with pytest.raises(WrongWeights, match="the other pixel_values"):
        inspect(files)


def test_what_configurations_leave_out_is_as_their_family_has_it(tmp_path: Path):
    """SigLIP's patches are half as wide as CLIP's, and its texts shorter."""
    folder = write_towers(tmp_path / "clip")
    files = {path.name: path for path in folder.iterdir()}
    for kind, tokens, positions in (("clip", 49, 77), ("siglip", 196, 64)):
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        card = inspect(files)
        assert (card.extra["image_tokens"], card.context_length_tokens) == (tokens, positions)
    (folder / "config.json").write_text(json.dumps({"vision_config": {"patch_size": -1}}))
    with pytest.raises(BadWeights, match="patch_size is -1"):
        inspect(files)


def test_safetensors_are_material_for_jobs(tmp_path: Path):
    """They are accepted and described, and serve no model type by themselves."""
    (tmp_path / "model.safetensors").write_bytes(SAFETENSORS)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "head_dim": 64}))
    card = inspect({name: tmp_path / name for name in ("model.safetensors", "config.json")})
    assert (card.architecture, card.head_width, card.quantization, card.model_types) == ("qwen2", 64, "BF16", ())


def test_shards_are_one_model(tmp_path: Path):
    """The card counts the tensors of all shards and takes the keys of the first, in any order given."""
    paths = write_shards(tmp_path, 3)
    card = inspect({path.name: path for path in reversed(paths)})
    assert (card.layer_count, card.parameter_count, card.extra["tensor_count"]) == (3, 96, 3)


def test_missing_shards_are_named(tmp_path: Path):
    """Two of three shards are not a model, and neither is one."""
    paths = write_shards(tmp_path, 3)
    with pytest.raises(BadWeights, match=r"1 of 3 shards are missing \(big-00002-of-00003\.gguf\)"):
        inspect({path.name: path for path in (paths[0], paths[2])})
    with pytest.raises(BadWeights, match="2 of 3 shards are missing"):
        inspect({paths[0].name: paths[0]})


def test_shards_of_different_models_do_not_mix(tmp_path: Path):
    """Another prefix, or a whole model among the shards, is refused."""
    first, second = write_shards(tmp_path, 2), write_shards(tmp_path, 2, "other")
    with pytest.raises(BadWeights, match="not the shards of one model"):
        inspect({path.name: path for path in (first[0], second[1])})
    whole = write_llama(tmp_path / "whole.gguf")
    with pytest.raises(BadWeights, match=r"whole\.gguf is a whole model"):
        inspect({path.name: path for path in (first[0], whole)})


def test_a_shard_keeps_its_name(tmp_path: Path):
    """llama.cpp finds shards by name, so a renamed one is refused."""
    paths = write_shards(tmp_path, 2)
    renamed = paths[0].rename(tmp_path / "part-one.gguf")
    with pytest.raises(BadWeights, match="the name it was published under"):
        inspect({path.name: path for path in (renamed, paths[1])})


def test_swapped_shards_are_refused(tmp_path: Path):
    """A shard's name and its number in the header agree."""
    one, two = write_shards(tmp_path, 2)
    with pytest.raises(BadWeights, match="the name it was published under"):
        inspect({one.name: two, two.name: one})


def write_projector_header(path: Path, **changes: Any) -> Path:
    """A projector as far as its header goes."""
    sizes = dict.fromkeys(("image_size", "patch_size", "embedding_length", "attention.head_count", "block_count"), 8)
    keys = {f"clip.vision.{key}": value for key, value in sizes.items()}
    keys |= {"clip.projector_type": "mlp", "clip.has_vision_encoder": True}
    return write_gguf(path, "clip", keys | changes)


def test_a_model_beside_its_projector_reads_images(tmp_path: Path):
    """The card is the model's, with both modalities and the projector's kind and bytes."""
    model = write_llama(tmp_path / "model.gguf")
    files = {"model.gguf": model, "mmproj.gguf": write_projector_header(tmp_path / "mmproj.gguf")}
    alone, card = inspect({"model.gguf": model}), inspect(files)
    assert (alone.modalities, card.modalities) == (("text",), ("text", "image"))
    assert (card.architecture, card.model_types, card.weights_bytes) == (
        "llama",
        alone.model_types,
        alone.weights_bytes,
    )
    assert (card.extra["projector"], card.extra["projector_bytes"]) == ("mlp", 32 * 4)
    assert inspect({"mmproj.gguf": files["mmproj.gguf"]}).model_types == ()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"clip.vision.patch_size": 0}, BadWeights, r"clip\.vision\.patch_size is 0"),
        ({"clip.vision.block_count": 1 << 20}, BadWeights, "block_count is 1048576"),
        ({"clip.has_vision_encoder": False}, WrongWeights, "no projector of images"),
    ],
)
def test_projectors_are_checked_before_native_code(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
):
    """It divides by these numbers without looking."""
    files = {
        "model.gguf": write_llama(tmp_path / "model.gguf"),
        "mmproj.gguf": write_projector_header(tmp_path / "mmproj.gguf", **changes),
    }
    with pytest.raises(error, match=words):
        inspect(files)


def test_a_projector_goes_with_a_model_that_answers(tmp_path: Path):
    """Not with an encoder."""
    projector = write_projector_header(tmp_path / "mmproj.gguf")
    encoder = write_gguf(tmp_path / "bert.gguf", "bert", {"bert.pooling_type": 1})
    with pytest.raises(WrongWeights, match="bert is none"):
        inspect({"bert.gguf": encoder, "mmproj.gguf": projector})
