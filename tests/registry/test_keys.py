"""Secrets that are never stored, and keys found by what is."""

from __future__ import annotations

import base64

import msgspec
import pytest

from appliance.registry.keys import digest_of, keys, new_secret
from tests.registry.registry_samples import KEY, NOW, USER, add_account


def test_a_secret_is_256_random_bits():
    """``sk-`` and 43 characters of base64url, never the same twice."""
    secrets = {new_secret().secret for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith("sk-")
        assert len(base64.urlsafe_b64decode(secret[3:] + "=")) == 32


def test_digest_and_prefix_belong_to_the_secret():
    """The digest is its SHA-256, the prefix its first nine characters."""
    new = new_secret()
    assert new.digest == digest_of(new.secret)
    assert len(new.digest) == 64
    assert new.secret.startswith(new.prefix)
    assert len(new.prefix) == 9


def test_the_digest_is_plain_sha256():
    """Other tools can compute it."""
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("text", ["", "ключ", "\udcff", "x" * 100_000])
def test_whatever_a_header_carries_has_a_digest(text):
    """No text makes authentication fail with anything but an unknown key."""
    assert len(digest_of(text)) == 64


def test_by_digest(registry):
    """A key is found by its digest alone, revoked or not."""
    revoked = msgspec.structs.replace(KEY, id="key-2", digest="0f" * 32, revoked_at=NOW)

    def fill(db):
        add_account(db)
        keys.insert(db, KEY)
        keys.insert(db, revoked)

    registry.run_sync(fill)
    assert registry.run_sync(lambda db: keys.by_digest(db, KEY.digest)) == KEY
    assert registry.run_sync(lambda db: keys.by_digest(db, revoked.digest)) == revoked
    assert registry.run_sync(lambda db: keys.by_digest(db, "00" * 32)) is None
    assert registry.run_sync(lambda db: keys.of_user(db, USER.id)) == [KEY, revoked]


def test_two_keys_may_share_a_name(registry):
    """A key is told by its prefix; its name is only a note."""

    def fill(db):
        add_account(db)
        keys.insert(db, KEY)
        keys.insert(db, msgspec.structs.replace(KEY, id="key-2", digest="0f" * 32))

    registry.run_sync(fill)
    assert [key.name for key in registry.run_sync(keys.list)] == ["laptop", "laptop"]
