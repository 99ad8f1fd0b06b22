"""Which files an import takes, and what each is called in the artifact.

Called by ``importing`` before anything is copied. It decides by names alone, except that the ONNX header names the
files its tensors are in. Of a folder only the files listed here are taken; the rest is reported, not copied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from appliance.domain.errors import BadWeights, InvalidParameter, NotFound
from appliance.store.blobs import Source, source_of
from appliance.store.digest import check_plain_name
from appliance.store.folder_card import POOLING, PREPROCESSOR
from appliance.store.gguf_card import CLIP
from appliance.store.gguf_header import MAGIC, read_gguf_header
from appliance.store.onnx_header import read_onnx_header
from appliance.store.window import open_window

SHARD = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.ASCII)
_FILES_LIMIT = 256
_MODELS = ("model.onnx", "onnx/model.onnx", "model.safetensors")
"""The first of these that a folder has is its model."""
PROJECTOR = "mmproj.gguf"
"""What the file is called that makes images a language model's tokens; its header says that it is one."""
TEXT_MODEL, IMAGE_MODEL = "text_model.onnx", "vision_model.onnx"
"""Where a folder has both, side by side, they are its model: each reads what it is for, and nothing else."""
_BESIDE = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "generation_config.json",
    PREPROCESSOR,
)
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""A folder with these is an adapter as peft saves it."""
_RENAMED = {"1_Pooling/config.json": POOLING}


class Member(Struct, frozen=True):
    """A file to import and its plain name in the artifact."""

    name: str
    source: Source


class Selection(Struct, frozen=True):
    """What an import takes, and the names in the folder that it leaves."""

    members: tuple[Member, ...]
    ignored: tuple[str, ...] = ()


def is_adapter_folder(paths: Sequence[Path]) -> bool:
    """Whether an import was given an adapter as peft saves it."""
    return len(paths) == 1 and all((paths[0] / name).is_file() for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG))


def select(paths: Sequence[Path]) -> Selection:
    """The members of one artifact: a file, several files (shards, or the parts of a folder), or one folder.

    A file that the operator names may be a link; a folder's files may not, for a folder may come from anywhere.
    Raises NotFound, InvalidParameter, BadWeights.
    """
    if not paths:
        raise InvalidParameter("no file was given; name a weights file or a folder")
    try:
        return _of_folder(paths[0].resolve()) if len(paths) == 1 and paths[0].is_dir() else _of_files(paths)
    except PermissionError as error:
        raise NotFound(f"'{Path(str(error.filename)).name}' cannot be read: {error.strerror}") from None


def _of_files(paths: Sequence[Path]) -> Selection:
    resolved = [_resolved(path) for path in paths]
    names = _artifact_names([path.name for path in paths], resolved)
    members = [Member(name, source_of(real)) for name, real in zip(names, resolved, strict=True)]
    return Selection(_distinct(members))


def _artifact_names(names: list[str], places: Sequence[Path]) -> list[str]:
    """The files' own names, except that the only ONNX model among several files is called as a folder's model is, and
    a projector beside other files as projectors are.
    """
    models = [name for name in names if name.endswith(".onnx")]
    renamed = {models[0]: "model.onnx"} if len(names) > 1 and len(models) == 1 else {}
    if len(names) > 1:
        renamed |= {name: PROJECTOR for name, place in zip(names, places, strict=True) if _is_projector(name, place)}
    return [renamed.get(name, check_plain_name(name)) for name in names]


def _is_projector(name: str, place: Path) -> bool:
    if SHARD.fullmatch(name):
        return False
    with open_window(place, name) as window:
        if not window.read(0, min(len(MAGIC), window.size_bytes)).startswith(MAGIC):
            return False
        return read_gguf_header(window).metadata.get("general.architecture") == CLIP


def _of_folder(folder: Path) -> Selection:
    models = _models_of(folder)
    if not models:
        return _of_gguf_folder(folder)
    taken = {Path(name).name: folder / name for name in models}
    taken |= {name: folder / name for name in _BESIDE if (folder / name).exists()}
    taken |= {new: folder / name for name, new in _RENAMED.items() if (folder / name).exists()}
    for name in models:
        if name.endswith(".onnx"):
            taken |= _external_files(folder / name)
    _check_contained(folder, list(taken.values()))
    members = _distinct([Member(name, source_of(path)) for name, path in taken.items()])
    return Selection(members, _ignored(folder, set(taken.values())))


def _models_of(folder: Path) -> tuple[str, ...]:
    for place in ("", "onnx/"):
        towers = place + TEXT_MODEL, place + IMAGE_MODEL
        if all((folder / name).exists() for name in towers):
            return towers
    return next(((name,) for name in _MODELS if (folder / name).exists()), ())


def _of_gguf_folder(folder: Path) -> Selection:
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise NotFound(f"the folder '{folder.name}' holds none of {', '.join(_MODELS)} or *.gguf; name the file itself")
    names = _artifact_names([path.name for path in found], found)
    members = _distinct([Member(name, source_of(path)) for name, path in zip(names, found, strict=True)])
    return Selection(members, _ignored(folder, set(found)))


def _external_files(model: Path) -> dict[str, Path]:
    with open_window(model) as window:
        names = read_onnx_header(window).external_files()
    return {name: model.parent / name for name in names}


def _check_contained(folder: Path, paths: list[Path]) -> None:
    """Refuse a sub-folder that is a link: the files in it would come from outside."""
    for path in paths:
        if path.parent.resolve() != path.parent or not path.parent.is_relative_to(folder):
            raise BadWeights(f"'{path.parent.name}' in the folder is a link; copy its files to the folder instead")


def _ignored(folder: Path, taken: set[Path]) -> tuple[str, ...]:
    others = sorted(entry.name for entry in folder.iterdir() if entry not in taken and not entry.is_dir())
    return tuple(others[:_FILES_LIMIT])


def _resolved(path: Path) -> Path:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path or a loop of links"
        raise NotFound(f"'{path.name}' cannot be read at the place given: {reason}; check the path") from None


def _distinct(members: list[Member]) -> tuple[Member, ...]:
    if len(members) > _FILES_LIMIT:
        raise InvalidParameter(f"{len(members)} files were given; one artifact has at most {_FILES_LIMIT}")
    names = [member.name for member in members]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidParameter(f"'{sorted(twice)[0]}' was given twice; the files of an artifact have different names")
    return tuple(sorted(members, key=lambda member: member.name))
