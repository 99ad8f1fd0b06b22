"""API keys: 256 random bits that are shown once, of which only the SHA-256 is kept.

A plain hash is right here and a slow one is not needed: nobody can guess 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple

import sqlite_utils

from appliance.domain.models import Key
from appliance.registry.records import Records

SECRET_BYTES = 32
PREFIX_CHARACTERS = 9
"""``sk-`` and six more: enough to recognise a key in a list, 220 bits short of guessing it."""


class NewSecret(NamedTuple):
    """A fresh key. ``secret`` goes to its owner and is never stored; the other two are."""

    secret: str
    digest: str
    prefix: str


def new_secret() -> NewSecret:
    """Make a key: ``sk-`` and 43 characters of base64url."""
    secret = "sk-" + secrets.token_urlsafe(SECRET_BYTES)
    return NewSecret(secret, digest_of(secret), secret[:PREFIX_CHARACTERS])


def digest_of(secret: str) -> str:
    """SHA-256 of a secret, as hex. Any string has one; headers may carry anything."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Keys(Records[Key]):
    """Keys, revoked ones too; names need not be unique."""

    def by_digest(self, db: sqlite_utils.Database, digest: str) -> Key | None:
        """The key with this digest, revoked or not, or None. Compared in constant time."""
        key = self.one(db, {"digest": digest})
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def of_user(self, db: sqlite_utils.Database, user_id: str) -> list[Key]:
        """A user's keys, oldest first."""
        return self.where(db, "user_id", user_id)


keys = Keys(Key, table="keys", noun="key", label="id")
