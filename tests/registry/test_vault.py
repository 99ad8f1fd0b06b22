"""Sealed secrets: they open for what they were sealed for, with the home's own file, and nowhere else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from appliance.domain.errors import NotReady
from appliance.registry.vault import FILE_NAME, Vault

SECRET = "sk-upstream-secret"


def test_a_secret_comes_back(tmp_path: Path) -> None:
    """What was sealed opens again, in another process too, and the text stored does not contain it."""
    sealed = Vault(tmp_path).seal(SECRET, "here")

    assert SECRET not in sealed
    assert Vault(tmp_path).open(sealed, "here") == SECRET


def test_sealing_twice_differs(tmp_path: Path) -> None:
    """Equal secrets do not show as equal."""
    vault = Vault(tmp_path)
    assert vault.seal(SECRET, "here") != vault.seal(SECRET, "here")


def test_it_opens_for_its_purpose_only(tmp_path: Path) -> None:
    """A sealed key that was put beside another address in the registry stays shut."""
    vault = Vault(tmp_path)
    with pytest.raises(NotReady, match="rekey"):
        vault.open(vault.seal(SECRET, "here"), "elsewhere")


@pytest.mark.parametrize("damage", [None, b"", b"x" * 31, b"x" * 32])
def test_another_key_file_opens_nothing(tmp_path: Path, damage: bytes | None) -> None:
    """A lost, damaged or foreign file is said, with what to do."""
    sealed = Vault(tmp_path).seal(SECRET, "here")
    (tmp_path / FILE_NAME).unlink()
    if damage is not None:
        (tmp_path / FILE_NAME).write_bytes(damage)

    with pytest.raises(NotReady, match=FILE_NAME):
        Vault(tmp_path).open(sealed, "here")


@pytest.mark.parametrize("sealed", ["", "AAAA", "not base64!"])
def test_damaged_text(tmp_path: Path, sealed: str) -> None:
    """Text that was never sealed is refused like a foreign one."""
    vault = Vault(tmp_path)
    vault.seal(SECRET, "here")
    with pytest.raises(NotReady):
        vault.open(sealed, "here")


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    """It is made with mode 0600, nothing else is left beside it, and a wider mode is narrowed on reading."""
    path = tmp_path / FILE_NAME
    sealed = Vault(tmp_path).seal(SECRET, "here")
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE_NAME]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    path.chmod(0o644)
    Vault(tmp_path).open(sealed, "here")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_second_maker_takes_the_firsts_file(tmp_path: Path) -> None:
    """The command line and the server share one file, whoever was first."""
    first, second = Vault(tmp_path), Vault(tmp_path)
    sealed = first.seal(SECRET, "here")
    second.seal("other", "there")

    assert second.open(sealed, "here") == SECRET
