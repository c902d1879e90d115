"""What lies in the database is sealed: values with AES-GCM, look-ups and keys as HMACs.

One master key of 256 bits, kept apart from the database; a key for each use is derived from it, so
that no two uses share one. A sealed value is bound to its place (table, column, row), so that a
value moved to another row does not open.
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
from nciihash.durable import sync_folder
from nciihash.signals import SignalType

KEY_BYTES: Final = 32
TAG_BYTES: Final = 8
_SIGNALS: Final = frozenset(SignalType)
_NONCE: Final = 12  # bytes; random, so one key may seal 2**32 values (NIST SP 800-38D, 8.3)


class Vault:
    """Seal, open and look up, with keys derived from a master key of 32 bytes.

    Args:
        master: seals, and finds equal values.
        others: master keys that this one followed, or that will follow it; they open as well.
        steady: 32 bytes that find again what is not kept and cannot be looked up anew when the
            master key changes: case numbers, platforms' keys, idempotency keys. All of them are
            random and long. By default as derived from the master key.
        trail: keys of the audit trail, each with the number of the first entry that it is for, in
            their order. Entries before the first of them have the steady one.
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

    def seal(self, plain: bytes, *place: str | int) -> bytes:
        """Encrypt a value for its place, such as ("signals", "value", item, ordinal)."""
        nonce = os.urandom(_NONCE)
        return nonce + self._aeads[0].encrypt(nonce, plain, _place(place))

    def open(self, sealed: bytes, *place: str | int) -> bytes:
        """Decrypt what was sealed for this place.

        Raises:
            KeyMismatch: another key, another place, or damage.
        """
        for aead in self._aeads:
            # a ValueError when it is too short to be sealed
            with suppress(InvalidTag, ValueError):
                return aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], _place(place))
        raise KeyMismatch("A sealed value does not open with this key.")

    def lookup(self, kind: str, value: bytes) -> bytes:
        """Give the 32 bytes under which an equal value of this kind is found again.

        Of a signal, whose kind is its type, they change with the master key.
        """
        return _lookup(self._lookup if kind in _SIGNALS else self.steady, kind, value)

    def tag(self, type: str, value: bytes) -> bytes:
        """Return the 8 bytes by which a withdrawn signal is known again.

        A truncated HMAC-SHA-256 under a key of its own, which is derived from what stays when the
        master key changes: the values are gone by then, and could not be tagged anew.
        """
        return _lookup(self._tags, type, value)[:TAG_BYTES]

    def chain(self, number: int, value: bytes) -> bytes:
        """Return the digest of an entry of the audit trail, 32 bytes.

        Each change of the master key brings a new random key for the entries from then on, which
        whoever has an old master key and an old copy of the database does not have.
        """
        keys = [key for first, key in self.trail if first <= number]
        return _lookup(keys[-1] if keys else self.steady, "audit", value)

    @property
    def secrets(self) -> bytes:
        """The steady key and those of the trail, as `read_secrets` reads them."""
        return self.steady + b"".join(first.to_bytes(8, "big") + key for first, key in self.trail)

    def check(self) -> bytes:
        """Give the 32 bytes by which a database knows its master key."""
        return _lookup(self._lookup, "check", b"")


def read_secrets(plain: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return the steady key, and those of the trail with the number of their first entry."""
    steady, rest = plain[:KEY_BYTES], plain[KEY_BYTES:]
    size = 8 + KEY_BYTES
    parts = [rest[start : start + size] for start in range(0, len(rest), size)]
    return steady, [(int.from_bytes(part[:8], "big"), part[8:]) for part in parts]


def _lookup(key: bytes, kind: str, value: bytes) -> bytes:
    return hmac.digest(key, kind.encode() + b"\0" + value, hashlib.sha256)


class ReplyVault:
    """Seal the answer to one idempotent request under a key that only its sender has.

    The service keeps the sealed answer and not the key, so that nobody can read a passphrase out
    of the database while a lost answer can still be repeated.
    """

    def __init__(self, idempotency_key: bytes) -> None:
        # 128 random bits need no stretching, only separation from other uses.
        self._aead = AESGCM(_derive(hashlib.sha256(idempotency_key).digest(), b"reply"))

    def seal(self, reply: bytes) -> bytes:
        """Encrypt the answer."""
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, reply, None)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt the answer."""
        return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], None)


def read_key(path: Path, *, create: bool) -> bytes:
    """Read the master key from its file, or make it: 64 hexadecimal digits, mode 0600.

    Raises:
        KeyMissing: there is none, and `create` is false.
        SettingInvalid: the file holds something else.
    """
    if create and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written beside its name and linked into place, so that of two processes that start at
        # once one wins and neither ever reads half a key.
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
        sync_folder(path.parent)
    try:
        return parse_key(path.read_text())
    except FileNotFoundError:
        raise KeyMissing(
            "The database is sealed, and its key is not where it should be. Put the key file back "
            "or name its place in CLEARINGHOUSE_KEY_FILE."
        ) from None


def parse_key(text: str) -> bytes:
    """Read a key from its 64 hexadecimal digits.

    Raises:
        SettingInvalid: it is something else.
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


def _place(place: tuple[str | int, ...]) -> bytes:
    return "/".join(map(str, place)).encode()
