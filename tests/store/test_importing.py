"""Import end to end: files, shards and folders in; paths for engines out; power cuts and races in between."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

from appliance.domain.clock import SystemClock
from appliance.domain.errors import BadWeights, Conflict, DiskFull, InvalidParameter, NotFound, WrongWeights
from appliance.domain.models import ArtifactFile, WeightsFormat
from appliance.store.blobs import Blobs, BlobState, Source
from appliance.store.importing import Store, artifact_digest
from tests.store.weights_files import encoder_model, outside, write_encoder_folder, write_llama, write_shards
from tests.support.clip_folders import write_joint, write_towers
from tests.support.tiny_models import write_llama as write_tiny
from tests.support.tiny_projector import write_projector


def test_a_file_in_is_a_path_out(store: Store, llama: Path):
    """The artifact's digest is the file's SHA-256; the engine gets the blob's path; the source may go."""
    seen: list[tuple[int, int]] = []
    imported = store.import_paths([llama], lambda done, total: seen.append((done, total)))
    raw = llama.read_bytes()
    llama.unlink()
    assert imported.digest == hashlib.sha256(raw).hexdigest()
    assert imported.files == (ArtifactFile(name="tiny.gguf", digest=imported.digest, size_bytes=len(raw)),)
    assert (imported.size_bytes, seen[-1]) == (len(raw), (len(raw), len(raw)))
    assert imported.card.name == "Tiny Llama"
    assert store.path_of(imported.files).read_bytes() == raw


def test_importing_again_changes_nothing(store: Store, llama: Path):
    """Twice the same file: the same answer and one blob."""
    assert store.import_paths([llama]) == store.import_paths([llama])
    assert store.space().blob_bytes == llama.stat().st_size


def test_a_look_copies_nothing(store: Store, llama: Path):
    """The card can be had before deciding."""
    assert store.inspect_paths([llama]).name == "Tiny Llama"
    assert (store.space().blob_bytes, store.space().leftover_bytes) == (0, 0)


def test_the_operator_may_name_a_link(store: Store, llama: Path, tmp_path: Path):
    """A link to a single file is followed and gives the name."""
    (tmp_path / "nice-name.gguf").symlink_to(llama)
    assert store.import_paths([tmp_path / "nice-name.gguf"]).files[0].name == "nice-name.gguf"


def test_bad_files_leave_nothing(store: Store, llama: Path, tmp_path: Path):
    """A refusal comes before copying."""
    os.truncate(llama, 2000)
    with pytest.raises(BadWeights, match=r"tiny\.gguf: truncated"):
        store.import_paths([llama])
    assert (store.space().blob_bytes, store.space().leftover_bytes) == (0, 0)


def test_the_copy_is_inspected_again(store: Store, llama: Path, monkeypatch: pytest.MonkeyPatch):
    """Contents swapped between the first look and the copy, size and time kept, never become a blob."""
    good, found = llama.read_bytes(), llama.stat()

    def swap_then_check(self: Blobs, sources: list[Source]) -> None:
        llama.write_bytes(b"GGUF" + b"\xff" * (len(good) - 4))
        os.utime(llama, ns=(found.st_atime_ns, found.st_mtime_ns))

    monkeypatch.setattr(Blobs, "check_room", swap_then_check)
    with pytest.raises(BadWeights, match="version"):
        store.import_paths([llama])
    assert (store.space().blob_bytes, store.space().leftover_bytes) == (0, 0)


def test_a_full_disk_is_refused_before_copying(home: Path, llama: Path):
    """Nothing is written when the bytes do not fit."""
    store = Store(home, SystemClock(), free_bytes=lambda folder: 1 << 30)
    with pytest.raises(DiskFull, match=r"1\.0 GiB stay reserved"):
        store.import_paths([llama])
    assert (store.space().leftover_bytes, store.space().free_bytes) == (0, 0)


@pytest.mark.parametrize("name", ["absent.gguf", "loop.gguf", "tiny.gguf/inside", "a\0b/tiny.gguf"])
def test_a_wrong_path_is_not_found(store: Store, llama: Path, tmp_path: Path, name: str):
    """Missing files, loops of links and files taken for folders are the caller's error, named without their folder."""
    (tmp_path / "loop.gguf").symlink_to(tmp_path / "loop.gguf")
    with pytest.raises(NotFound) as refusal:
        store.import_paths([tmp_path / name])
    assert str(tmp_path) not in refusal.value.message


def test_a_place_without_permission_is_not_found(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that the server's user may not enter is the caller's error too."""

    def forbidden(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", forbidden)
    with pytest.raises(NotFound, match=r"'model\.gguf' cannot be read: Permission denied"):
        store.import_paths([tmp_path / "model.gguf"])


def test_no_path_and_the_same_path_twice(store: Store, llama: Path):
    """The list of files is checked before the files."""
    with pytest.raises(InvalidParameter, match="no file was given"):
        store.import_paths([])
    with pytest.raises(InvalidParameter, match="given twice"):
        store.import_paths([llama, llama])


def test_shards_are_shown_together(store: Store, tmp_path: Path):
    """The engine gets the first shard in a folder that holds them all under their names."""
    paths = write_shards(tmp_path, 3)
    imported = store.import_paths([paths[2], paths[0], paths[1]])
    first = store.path_of(imported.files)
    assert first.name == "big-00001-of-00003.gguf"
    assert [path.read_bytes() for path in sorted(first.parent.iterdir())] == [path.read_bytes() for path in paths]
    assert imported.digest == artifact_digest(imported.files) != imported.files[0].digest


def test_a_folder_of_shards_needs_no_list(store: Store, tmp_path: Path):
    """The GGUF files of a folder are taken together."""
    write_shards(tmp_path, 2)
    assert len(store.import_paths([tmp_path]).files) == 2


def test_an_onnx_folder_is_taken_by_its_list(store: Store, tmp_path: Path):
    """The model, its tokenizer and settings are taken; what else lies there is reported and left."""
    folder = write_encoder_folder(tmp_path / "encoder")
    (folder / "README.md").write_text("hello")
    (folder / "evil.so").write_bytes(b"\x7fELF")
    imported = store.import_paths([folder])
    assert [file.name for file in imported.files] == [
        "config.json", "model.onnx", "pooling_config.json", "tokenizer.json",
    ]  # fmt: skip
    assert imported.ignored == ("README.md", "evil.so")
    assert imported.card.format is WeightsFormat.ONNX
    view = store.path_of(imported.files)
    assert sorted(path.name for path in view.iterdir()) == [file.name for file in imported.files]


def test_the_usual_layout_of_exports_is_known(store: Store, tmp_path: Path):
    """onnx/model.onnx beside the tokenizer is taken as model.onnx."""
    folder = write_encoder_folder(tmp_path / "encoder")
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    assert "model.onnx" in [file.name for file in store.import_paths([folder]).files]


@pytest.mark.parametrize("place", ["", "onnx"])
def test_two_towers_are_taken_before_one_model(store: Store, tmp_path: Path, place: str):
    """Where exports offer both, each request then runs the tower that it needs; the other file is named as left."""
    folder = write_joint(write_towers(tmp_path / "clip"))
    models = ("text_model.onnx", "vision_model.onnx", "model.onnx")
    (folder / place).mkdir(exist_ok=True)
    for name in models:
        (folder / name).rename(folder / place / name)
    imported = store.import_paths([folder])
    assert {file.name for file in imported.files} == {
        *models[:2], "config.json", "tokenizer.json", "preprocessor_config.json"
    }  # fmt: skip
    assert imported.card.modalities == ("text", "image")
    if not place:
        assert imported.ignored == ("model.onnx",)
    view = store.path_of(imported.files)
    assert (view / "vision_model.onnx").is_file()


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_projector_is_known_by_its_header(store: Store, tmp_path: Path, as_folder: bool):
    """Whatever it is called, beside a model it is kept as what engines look for; what they open is the model."""
    folder = tmp_path / "vision"
    folder.mkdir()
    paths = [write_projector(folder / "a-projector.gguf"), write_tiny(folder / "z-model.gguf")]
    imported = store.import_paths([folder] if as_folder else paths)
    assert {file.name for file in imported.files} == {"mmproj.gguf", "z-model.gguf"}
    assert imported.card.modalities == ("text", "image")
    opened = store.path_of(imported.files)
    (tmp_path / "named.gguf").symlink_to(paths[0])
    assert store.inspect_paths([tmp_path / "named.gguf", paths[1]]) == imported.card
    assert opened.name == "z-model.gguf"
    assert opened.with_name("mmproj.gguf").is_file()


def test_parts_may_be_given_one_by_one(store: Store, tmp_path: Path):
    """The only ONNX model among several files is the artifact's model, whatever it is called."""
    folder = write_encoder_folder(tmp_path / "encoder")
    model = (folder / "model.onnx").rename(folder / "minilm-int8.onnx")
    imported = store.import_paths([model, folder / "tokenizer.json", folder / "config.json"])
    assert [file.name for file in imported.files] == ["config.json", "model.onnx", "tokenizer.json"]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "1_Pooling/config.json"])
def test_links_in_a_folder_are_refused(store: Store, tmp_path: Path, name: str):
    """A folder may come from anywhere: what its links point to is not its to give (CVE-2026-34447)."""
    folder = write_encoder_folder(tmp_path / "encoder")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadWeights, match="not a regular file"):
        store.import_paths([folder])


def test_a_linked_sub_folder_is_refused(store: Store, tmp_path: Path):
    """Nor what its linked sub-folders hold."""
    folder = write_encoder_folder(tmp_path / "encoder")
    (folder / "1_Pooling").rename(tmp_path / "elsewhere")
    (folder / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadWeights, match="in the folder is a link"):
        store.import_paths([folder])


def test_a_folder_without_a_model_is_not_found(store: Store, tmp_path: Path):
    """The message lists what would have been taken."""
    with pytest.raises(NotFound, match=r"model\.onnx"):
        store.import_paths([tmp_path])


def test_an_onnx_file_alone_is_refused(store: Store, tmp_path: Path):
    """Weights without their tokenizer cannot serve."""
    with pytest.raises(WrongWeights, match="import the folder"):
        store.import_paths([write_encoder_folder(tmp_path / "encoder") / "model.onnx"])


def test_outside_tensors_travel_with_the_model(store: Store, tmp_path: Path):
    """ONNX Runtime opens the view, its neighbour file included, and computes from the stored bytes."""
    model = encoder_model()
    raw = outside(model, "weights.bin")
    folder = write_encoder_folder(tmp_path / "encoder", model)
    (folder / "weights.bin").write_bytes(raw)
    view = store.path_of(store.import_paths([folder]).files)
    session = onnxruntime.InferenceSession(str(view / "model.onnx"), providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, {"input_ids": np.array([[3]])})
    assert vectors.tolist() == [[np.arange(24.0, 32.0).tolist()]]


def test_a_missing_neighbour_is_named(store: Store, tmp_path: Path):
    """A model whose tensors are elsewhere is not imported without them."""
    model = encoder_model()
    outside(model, "weights.bin")
    with pytest.raises(NotFound, match=r"weights\.bin"):
        store.import_paths([write_encoder_folder(tmp_path / "encoder", model)])


def test_a_view_is_remade_when_it_was_harmed(store: Store, tmp_path: Path):
    """Views can be thrown away: a missing or strange file in one brings a fresh one."""
    imported = store.import_paths([write_encoder_folder(tmp_path / "encoder")])
    view = store.path_of(imported.files)
    (view / "tokenizer.json").unlink()
    (view / "stranger").write_text("x")
    (view.parent / ".left-by-a-crash").mkdir()
    assert store.path_of(imported.files) == view
    assert sorted(path.name for path in view.iterdir()) == [file.name for file in imported.files]
    assert not [path for path in view.parent.iterdir() if path.name.startswith(".")]


def test_a_disk_without_hard_links_gets_copies(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The view is then made once, and kept."""
    monkeypatch.setattr(os, "link", _no_links)
    imported = store.import_paths([write_encoder_folder(tmp_path / "encoder")])
    view = store.path_of(imported.files)
    inode = view.stat().st_ino
    assert (view / "config.json").read_bytes() == (tmp_path / "encoder" / "config.json").read_bytes()
    assert store.path_of(imported.files).stat().st_ino == inode


def _no_links(source: Path, target: Path) -> None:
    raise OSError(95, "Operation not supported")


def test_many_threads_make_one_view(store: Store, tmp_path: Path):
    """Racing makers all get the same whole folder."""
    imported = store.import_paths([write_encoder_folder(tmp_path / "encoder")])
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(sorted(p.name for p in store.path_of(imported.files).iterdir())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[file.name for file in imported.files]] * 8


def test_removing_keeps_what_others_refer_to(store: Store, tmp_path: Path):
    """Two folders that share a tokenizer: removing one leaves the shared blob."""
    one = store.import_paths([write_encoder_folder(tmp_path / "one")])
    two = store.import_paths([write_encoder_folder(tmp_path / "two", encoder_model(width=4))])
    store.path_of(one.files)
    store.remove(one.files, {file.digest for file in two.files})
    assert set(store.digests()) == {file.digest for file in two.files}
    assert store.path_of(two.files).is_dir()
    store.remove(one.files, {file.digest for file in two.files})
    store.remove(two.files, set())
    assert (store.space().blob_bytes, list(store.digests())) == (0, [])


def test_a_damaged_blob_is_named_and_its_links_go(store: Store, tmp_path: Path):
    """Verifying names the file; neither the blob nor a view serves it afterwards."""
    imported = store.import_paths([write_encoder_folder(tmp_path / "encoder")])
    view = store.path_of(imported.files)
    (view / "model.onnx").write_bytes(b"rot")  # the same inode as the blob's
    states = store.verify(imported.files)
    assert {name for name, state in states.items() if state is BlobState.DAMAGED} == {"model.onnx"}
    assert not view.exists()
    assert store.import_paths([tmp_path / "encoder"]) == imported
    assert set(store.verify(imported.files).values()) == {BlobState.SOUND}


def test_the_digest_of_several_files_is_of_their_list():
    """Independent of order, and different when a name, a digest or a size is."""
    files = [ArtifactFile(name=name, digest=name * 64, size_bytes=5) for name in ("b", "a")]
    rows = [["a", "a" * 64, 5], ["b", "b" * 64, 5]]
    assert artifact_digest(files) == hashlib.sha256(msgspec.json.encode(rows)).hexdigest()
    assert artifact_digest(files) == artifact_digest(files[::-1])


def test_two_imports_of_one_file_at_once(store: Store, home: Path, llama: Path):
    """From two stores on one home, the second is told to wait; the blob is whole."""
    inside, proceed = threading.Event(), threading.Event()

    def hold(done_bytes: int, total_bytes: int) -> None:
        inside.set()
        proceed.wait(30)

    first = threading.Thread(target=store.import_paths, args=([llama], hold))
    first.start()
    assert inside.wait(30)
    with pytest.raises(Conflict, match="being imported already"):
        Store(home, SystemClock(), reserve_bytes=0).import_paths([llama])
    proceed.set()
    first.join()
    assert list(store.verify(store.import_paths([llama]).files).values()) == [BlobState.SOUND]


_CHILD = """
import sys
from pathlib import Path
from appliance.domain.clock import SystemClock
from appliance.store.importing import Store

def stop(done_bytes, total_bytes):
    if done_bytes > total_bytes // 2:
        print("half", flush=True)
        sys.stdin.read()

Store(Path(sys.argv[1]), SystemClock(), reserve_bytes=0).import_paths([Path(sys.argv[2])], stop)
"""


def test_killed_in_the_middle_and_continued(store: Store, home: Path, tmp_path: Path):
    """kill -9 half-way: no blob appears, the lock is gone, and the next import continues from the part."""
    big = write_llama(tmp_path / "big.gguf", vocabulary=200_000)
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(home), str(big)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGKILL)
    assert list(store.digests()) == []
    left_bytes = store.space().leftover_bytes
    assert left_bytes >= big.stat().st_size // 2
    imported = store.import_paths([big])
    assert store.path_of(imported.files).read_bytes() == big.read_bytes()
    assert store.space().leftover_bytes == 0


def test_exclusive_keeps_other_processes_out(tmp_path: Path) -> None:
    """While one holds the store, another process cannot; afterwards it can."""
    store = Store(tmp_path, SystemClock())
    with store.exclusive():
        probe = os.open(tmp_path / "store" / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(probe)
