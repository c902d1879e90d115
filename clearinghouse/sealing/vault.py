"""Encryption at rest: values sealed with AES-GCM, lookup values as HMAC-SHA-256.

There is one master key of 256 bits, stored apart from the database. A key for each use is derived
from it. A sealed value is bound to its table, column and row by associated data, so that a value
that is moved to another row cannot be decrypted.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from clearinghouse.errors import KeyMismatch, KeyMissing, SettingInvalid
from nciihash.durable import fsync_folder
from nciihash.signals import SignalType

KEY_BYTES: Final = 32
TAG_BYTES: Final = 8
_SIGNALS: Final = frozenset(SignalType)
_NONCE: Final = 12  # bytes; random, so one key may seal 2**32 values (NIST SP 800-38D, 8.3)


class Vault:
    """Seals and opens values, and computes lookup values, with keys from a master key.

    Args:
        master: the master key, 32 bytes. It seals values and derives the lookup values of signals.
        others: earlier master keys, or the next one; they open values as well.
        steady: a key of 32 bytes that stays when the master key changes. It derives the lookup
            values of what is not stored, and so could not be computed again: case numbers, keys of
            platforms, idempotency keys. All of these are random and long. By default derived from
            the master key.
        trail: keys of the audit trail, each with the number of its first entry, in order. Entries
            before the first of them use the steady key.
    """

    def __init__(
        self,
        master: bytes,
        *,
        others: Sequence[bytes] = (),
        steady: bytes | None = None,
        trail: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        self.masters = (master, *others)
        for key in self.masters:
            if len(key) != KEY_BYTES:
                raise SettingInvalid("The master key must have 32 bytes: 64 hexadecimal digits.")
        self._aeads = [AESGCM(_derive(key, b"values")) for key in self.masters]
        self._lookup = _derive(master, b"lookups")
        self.steady = steady or self._lookup
        self._tags = _derive(self.steady, b"withdrawn")
        self.trail = tuple(trail)

    def __repr__(self) -> str:
        return "Vault(…)"

    def seal(self, plain: bytes, *context: str | int) -> bytes:
        """Encrypt a value, bound to its context, such as ("signals", "value", item, ordinal)."""
        nonce = os.urandom(_NONCE)
        return nonce + self._aeads[0].encrypt(nonce, plain, _associated_data(context))

    def open(self, sealed: bytes, *context: str | int) -> bytes:
        """Decrypt a value that was sealed with this context.

        Raises:
            KeyMismatch: it was sealed under another key or with another context, or is damaged.
        """
        for aead in self._aeads:
            # ValueError if it is shorter than a nonce and a tag
            with suppress(InvalidTag, ValueError):
                return aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], _associated_data(context))
        raise KeyMismatch("A sealed value cannot be decrypted with this key.")

    def lookup(self, kind: str, value: bytes) -> bytes:
        """Return the lookup value, 32 bytes, by which equal values of a kind are found.

        The kind of a signal is its type. Its lookup value changes with the master key; those of
        other kinds do not.
        """
        return _lookup(self._lookup if kind in _SIGNALS else self.steady, kind, value)

    def tag(self, type: str, value: bytes) -> bytes:
        """Return the 8 bytes by which a withdrawn signal is recognized.

        It is a truncated HMAC-SHA-256 under a key derived from the steady key, since a withdrawn
        value is purged and could not be tagged again after a change of the master key.
        """
        return _lookup(self._tags, type, value)[:TAG_BYTES]

    def chain(self, number: int, value: bytes) -> bytes:
        """Return the digest of an entry of the audit trail, 32 bytes.

        Each change of the master key adds a new random key for later entries, which cannot be
        obtained with an old master key and an old copy of the database.
        """
        keys = [key for first, key in self.trail if first <= number]
        return _lookup(keys[-1] if keys else self.steady, "audit", value)

    @property
    def secrets(self) -> bytes:
        """The steady key and the keys of the trail, encoded for `read_secrets`."""
        return self.steady + b"".join(first.to_bytes(8, "big") + key for first, key in self.trail)

    def check(self) -> bytes:
        """Return the 32 bytes by which a database recognizes its master key."""
        return _lookup(self._lookup, "check", b"")


def read_secrets(plain: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return the steady key, and the keys of the trail with the numbers of their first entries."""
    steady, rest = plain[:KEY_BYTES], plain[KEY_BYTES:]
    size = 8 + KEY_BYTES
    parts = [rest[start : start + size] for start in range(0, len(rest), size)]
    return steady, [(int.from_bytes(part[:8], "big"), part[8:]) for part in parts]


def _lookup(key: bytes, kind: str, value: bytes) -> bytes:
    return hmac.digest(key, kind.encode() + b"\0" + value, hashlib.sha256)


class ReplyVault:
    """Seals the reply to an idempotent request under a key that only its client has.

    The service stores the sealed reply, but not the key. So a lost reply can be sent again, and
    nobody can read a passphrase from the database.

    Args:
        idempotency_key: of the request, at least 128 random bits.
    """

    def __init__(self, idempotency_key: bytes) -> None:
        # 128 random bits need no key stretching
        self._aead = AESGCM(_derive(hashlib.sha256(idempotency_key).digest(), b"reply"))

    def seal(self, reply: bytes) -> bytes:
        """Encrypt the reply."""
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, reply, None)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt the reply."""
        return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], None)


def read_key(path: Path, *, create: bool) -> bytes:
    """Read a master key from its file: 64 hexadecimal digits.

    Args:
        path: the file.
        create: write a new random key, mode 0600, if the file does not exist.

    Raises:
        KeyMissing: the file does not exist, and `create` is false.
        SettingInvalid: the file contains something else.
    """
    if create and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written to a temporary file, then linked to its name: if two processes start at once, one
        # of them creates the key, and neither reads part of one.
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        fsync_folder(path.parent)
    try:
        return parse_key(path.read_text())
    except FileNotFoundError:
        raise KeyMissing(
            "The key file of the database is missing. Restore it, or set CLEARINGHOUSE_KEY_FILE to "
            "its path."
        ) from None


def parse_key(text: str) -> bytes:
    """Parse a key of 64 hexadecimal digits.

    Raises:
        SettingInvalid: it is not such a key.
    """
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingInvalid("The master key must be 64 hexadecimal digits.")
    return key


def _derive(master: bytes, use: bytes) -> bytes:
    return HKDFExpand(SHA256(), KEY_BYTES, b"clearinghouse/" + use).derive(master)


def _associated_data(context: tuple[str | int, ...]) -> bytes:
    return "/".join(map(str, context)).encode()
