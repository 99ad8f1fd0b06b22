"""Secrets that must be given back, unlike our own keys, of which a digest is enough: sealed before they are stored.

AES-256-GCM under a key of its own in a file beside the database, so that a copy of the database alone opens nothing.
What a secret is for is sealed with it: a sealed key put beside another address does not open.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Final

from appliance.domain.errors import NotReady

FILE_NAME: Final = "vault.key"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class Vault:
    """Seals and opens. The file is made with the first secret; it is read once."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE_NAME
        self._key: bytes | None = None

    def seal(self, secret: str, purpose: str) -> str:
        """The secret as text that only this vault opens, and only for the same purpose."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # here only: most homes have no such secret

        if not self._path.exists():
            _make_key_file(self._path)
            self._key = None
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(self._read_key()).encrypt(nonce, secret.encode(), purpose.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, purpose: str) -> str:
        """The secret. Raises NotReady when the key file is gone or another, or the purpose is."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            content = base64.b64decode(sealed, validate=True)
            nonce, ciphertext = content[:NONCE_BYTES], content[NONCE_BYTES:]
            return AESGCM(self._read_key()).decrypt(nonce, ciphertext, purpose.encode()).decode()
        except (InvalidTag, ValueError, OSError) as error:
            raise NotReady(
                f"a stored key cannot be opened with {FILE_NAME} ({type(error).__name__}); put back the file that "
                "belongs to this home's registry.db, or give the key again: appliance upstreams rekey"
            ) from None

    def _read_key(self) -> bytes:
        if self._key is None:
            self._key = _read_private(self._path)
        return self._key


def _make_key_file(path: Path) -> None:
    """Whole or not at all, and never over another's: the command line and the server may both be first."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
        _sync_folder(path.parent)
    finally:
        fresh.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_private(path: Path) -> bytes:
    """The key; rights that others had on the file are taken away."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            os.fchmod(file.fileno(), 0o600)
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise ValueError("not a vault's key")
    return key
