"""Platforms and their keys: who may do what, and by which ids it knows our rows."""

import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.schema import AnyRow
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import (
    ClearinghouseError,
    CredentialsMissing,
    CredentialsWrong,
    ScopeMissing,
)
from clearinghouse.sealing.platform_ids import PlatformIds
from clearinghouse.times import Hour, hour
from nciihash.signals import SignalType
from nciihash.veil import Veil

KEY_DAYS: Final = 400
KEYS_AT_ONCE: Final = 2  # valid keys of one platform, so that it can change over without a gap
_PREFIX: Final = "nciik_"  # makes a leaked key findable by secret scanners
_SECRET_BYTES: Final = 16


class Scope(StrEnum):
    """What a key opens."""

    FEED = "feed"
    VEIL = "veil"  # the feed, but of each hash the part that says least (`nciihash.veil`)
    VEIL144 = "veil144"
    VEIL160 = "veil160"
    MATCH = "match"
    FEEDBACK = "feedback"
    CONTRIBUTE = "contribute"


_VEILS: Final = {
    Scope.VEIL: SignalType.PDQ_VEIL128,
    Scope.VEIL144: SignalType.PDQ_VEIL144,
    Scope.VEIL160: SignalType.PDQ_VEIL160,
}
FOLLOWING: Final = frozenset({Scope.FEED, *_VEILS})  # what opens the feed, whole or veiled


class PlatformExists(ClearinghouseError):
    """There is a platform of this name: rotate its key instead."""


class PlatformUnknown(ClearinghouseError):
    """There is no platform of this name: `platform list` shows them."""


class KeysInUse(ClearinghouseError):
    """The platform has as many valid keys as it may: revoke the old one first."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform as its key let it in."""

    number: int
    name: str
    scopes: frozenset[Scope]
    names: PlatformIds
    key: int  # the row number of the key that let it in
    holds_veiled: bool = False  # whether any key of it ever opened a veiled list

    @property
    def veil(self) -> Veil:
        """Give the veil of its list: as much of each hash as its key allows, at least 128 bits."""
        allowed = [type for scope, type in _VEILS.items() if scope in self.scopes]
        type = allowed[-1] if allowed else SignalType.PDQ_VEIL128
        return Veil(type, self.names.veil_key)


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What an operator may see of a key; `used` is the last hour in which it was."""

    platform: str
    key: int
    scopes: tuple[Scope, ...]
    added: Hour
    expires: Hour
    used: Hour | None
    state: str


def add_platform(store: Store, name: str, scopes: Iterable[Scope], now: datetime) -> str:
    """Add a platform and give its first key, which is shown this once.

    Raises:
        PlatformExists: a platform of this name has had a key already.
    """
    with store.write() as tx:
        known = tx.platforms.find(name)
        if known is not None and tx.platforms.list_keys(known.id):
            raise PlatformExists(
                f"There is a platform of this name. `clearinghouse platform rotate {name}` makes "
                "a further key for it."
            )
        number = _insert(tx, name, now) if known is None else known.id
        audit.record(tx.vault, tx, Act.KEY_MADE, name, count=1, hour=hour(now))
        return _add_key(tx, number, ",".join(sorted(set(scopes))), now)


def find(store: Store, name: str) -> int:
    """Give the row number of a platform.

    Raises:
        PlatformUnknown: no platform has this name.
    """
    with store.read() as tx:
        return int(_named(tx, name).id)


def find_or_add(store: Store, name: str, now: datetime) -> int:
    """Give the row of a platform, such as another clearinghouse, made without a key if new."""
    with store.write() as tx:
        row = tx.platforms.find(name)
        return _insert(tx, name, now) if row is None else int(row.id)


def _named(tx: Transaction, name: str) -> AnyRow:
    row = tx.platforms.find(name)
    if row is None:
        raise PlatformUnknown("There is no platform of this name.")
    return row


def _add_key(tx: Transaction, platform: int, scopes: str, now: datetime) -> str:
    key = _PREFIX + secrets.token_urlsafe(32)
    tx.platforms.add_key(
        platform_id=platform,
        lookup=tx.vault.lookup("key", key.encode()),
        scopes=scopes,
        added=hour(now),
        expires=hour(now + timedelta(days=KEY_DAYS)),
    )
    return key


def _insert(tx: Transaction, name: str, now: datetime) -> int:
    secret = tx.vault.seal(secrets.token_bytes(_SECRET_BYTES), "platforms", "secret", name)
    audit.record(tx.vault, tx, Act.PLATFORM_ADDED, name, count=1, hour=hour(now))
    return tx.platforms.add(name, secret, hour(now))


def rotate_key(
    store: Store, name: str, now: datetime, *, scopes: Iterable[Scope] | None = None
) -> str:
    """Give a platform a further key, with the scopes of its newest one unless told others.

    Raises:
        PlatformUnknown: no platform has this name.
        KeysInUse: two of its keys are valid already.
    """
    with store.write() as tx:
        platform = _named(tx, name)
        held = tx.platforms.list_keys(platform.id)
        if not held:
            raise PlatformUnknown(
                f"{name} has no key yet. `clearinghouse platform add {name}` makes its first one."
            )
        valid = [k for k in held if k.revoked is None and k.expires > hour(now)]
        if len(valid) >= KEYS_AT_ONCE:
            raise KeysInUse(
                f"Two keys of {name} are valid already. When it uses the newer one, revoke the "
                f"older: `clearinghouse platform revoke {name} --key {valid[0].id}`."
            )
        audit.record(tx.vault, tx, Act.KEY_MADE, name, count=1, hour=hour(now))
        own = held[-1].scopes if scopes is None else ",".join(sorted(set(scopes)))
        return _add_key(tx, platform.id, own, now)


def revoke_keys(store: Store, name: str, key: int | None, now: datetime) -> int:
    """Revoke one key of a platform, or all of them; give how many were valid until now.

    Raises:
        PlatformUnknown: no platform has this name.
    """
    with store.write() as tx:
        gone = tx.platforms.revoke_keys(_named(tx, name).id, key, hour(now))
        audit.record(tx.vault, tx, Act.KEYS_REVOKED, name, count=gone, hour=hour(now))
        return gone


def list_keys(store: Store, now: datetime) -> list[KeyFacts]:
    """List every key, without the key itself."""
    with store.read() as tx:
        names = {row.id: row.name for row in tx.platforms.all()}
        return [
            KeyFacts(
                platform=names[row.platform_id],
                key=row.id,
                scopes=read_scopes(row.scopes),
                added=row.added,
                expires=row.expires,
                used=row.used,
                state="revoked" if row.revoked else "valid" if row.expires > hour(now) else "old",
            )
            for row in tx.platforms.list_keys()
        ]


def identify(store: Store, key: str | None, now: datetime) -> Platform:
    """Tell whose key it is.

    Raises:
        CredentialsMissing: no key.
        CredentialsWrong: an unknown, revoked or expired key.
    """
    if not key:
        raise CredentialsMissing
    lookup = store.vault.lookup("key", key.strip().encode())
    with store.read() as tx:
        row = tx.platforms.find_key(lookup)
    if row is None or row.revoked is not None or row.expires <= now.timestamp():
        raise CredentialsWrong
    secret = store.vault.open(row.secret, "platforms", "secret", row.name)
    scopes = frozenset(read_scopes(row.scopes))
    return Platform(
        row.platform_id, row.name, scopes, PlatformIds(secret), row.id, bool(row.veiled)
    )


def admit(store: Store, key: str | None, scopes: Collection[Scope], now: datetime) -> Platform:
    """Let a platform in by its key.

    Args:
        store: where keys are.
        key: as it was sent.
        scopes: those of which one opens this door.
        now: the time.

    Raises:
        CredentialsMissing, CredentialsWrong: as `identify`.
        ScopeMissing: the key does not open this door.
    """
    platform = identify(store, key, now)
    if platform.scopes.isdisjoint(scopes):
        raise ScopeMissing
    return platform


def read_scopes(text: str) -> tuple[Scope, ...]:
    """Read the scopes of a key as they are stored."""
    return tuple(Scope(word) for word in text.split(","))
