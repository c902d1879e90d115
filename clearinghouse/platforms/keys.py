"""Platforms, their API keys and scopes."""

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
    InvalidCredentials,
    ScopeMissing,
)
from clearinghouse.sealing.platform_ids import PlatformIds
from clearinghouse.times import Hour, hour
from nciihash.signals import SignalType
from nciihash.veil import Veil

KEY_DAYS: Final = 400
KEYS_AT_ONCE: Final = 2  # valid keys per platform, so that it can rotate without downtime
_PREFIX: Final = "nciik_"  # by which secret scanners find leaked keys
_SECRET_BYTES: Final = 16


class Scope(StrEnum):
    """What a key permits."""

    FEED = "feed"
    VEIL = "veil"  # the feed with 128 bits of each hash (`nciihash.veil`); 144 and 160 below
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
FOLLOWING: Final = frozenset({Scope.FEED, *_VEILS})  # scopes that open the feed, whole or veiled


class PlatformExists(ClearinghouseError):
    """There is already a platform with this name; rotate its key instead."""


class PlatformUnknown(ClearinghouseError):
    """No platform has this name."""


class KeysInUse(ClearinghouseError):
    """The platform has `KEYS_AT_ONCE` valid keys; revoke the old one first."""


@dataclass(frozen=True, slots=True)
class Platform:
    """An authenticated platform, with the scopes of the key that it sent.

    Attributes:
        number: its row number.
        name: its name.
        scopes: those of the key.
        ids: converts between row numbers and the ids that this platform sees.
        key: the row number of the key.
        holds_veiled: whether any of its keys ever had a veiled scope.
        match_hour: hashes that each of its keys may look up in an hour; None for the default.
        match_day: hashes that each of its keys may look up in a day; None for the default.
    """

    number: int
    name: str
    scopes: frozenset[Scope]
    ids: PlatformIds
    key: int
    holds_veiled: bool = False
    match_hour: int | None = None
    match_day: int | None = None

    @property
    def veil(self) -> Veil:
        """The veil of its feed: with as many bits of each hash as the key permits, at least 128."""
        allowed = [type for scope, type in _VEILS.items() if scope in self.scopes]
        type = allowed[-1] if allowed else SignalType.PDQ_VEIL128
        return Veil(type, self.ids.veil_key)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as operators see it: without the key itself. Times are Unix times, by the hour.

    `match_hour` and `match_day` are the platform's, as in `Platform`.
    """

    platform: str
    key: int
    scopes: tuple[Scope, ...]
    added: Hour
    expires: Hour
    used: Hour | None
    state: str
    match_hour: int | None
    match_day: int | None


def add_platform(
    store: Store,
    name: str,
    scopes: Iterable[Scope],
    now: datetime,
    *,
    match_hour: int | None = None,
    match_day: int | None = None,
) -> str:
    """Add a platform and return its first key, which is not stored and cannot be read again.

    Args:
        store: the database.
        name: of the platform.
        scopes: of the key.
        now: the time.
        match_hour: hashes that each of its keys may look up in an hour; None for the default.
        match_day: hashes that each of its keys may look up in a day; None for the default.

    Raises:
        PlatformExists: a platform with this name has or had a key.
    """
    with store.write() as tx:
        known = tx.platforms.find(name)
        if known is not None and tx.platforms.list_keys(known.id):
            raise PlatformExists(
                "There is already a platform with this name. For another key, run "
                f"`clearinghouse platform rotate {name}`."
            )
        number = _insert(tx, name, now) if known is None else known.id
        if match_hour is not None or match_day is not None:
            tx.platforms.limit(number, match_hour=match_hour, match_day=match_day)
        audit.record(tx.vault, tx, Act.KEY_MADE, name, count=1, hour=hour(now))
        return _add_key(tx, number, ",".join(sorted(set(scopes))), now)


def set_limits(store: Store, name: str, now: datetime, **limits: int | None) -> None:
    """Set how many hashes each key of a platform may look up, from its next request on.

    Args:
        store: the database.
        name: of the platform.
        now: the time.
        limits: `match_hour`, `match_day` or both; None for the default.

    Raises:
        PlatformUnknown: no platform has this name.
    """
    with store.write() as tx:
        tx.platforms.limit(_named(tx, name).id, **limits)
        audit.record(tx.vault, tx, Act.LIMITS_SET, name, count=len(limits), hour=hour(now))


def find(store: Store, name: str) -> int:
    """Return the row number of a platform.

    Raises:
        PlatformUnknown: no platform has this name.
    """
    with store.read() as tx:
        return int(_named(tx, name).id)


def find_or_add(store: Store, name: str, now: datetime) -> int:
    """Return the row number of a platform; add it without a key if it does not exist."""
    with store.write() as tx:
        row = tx.platforms.find(name)
        return _insert(tx, name, now) if row is None else int(row.id)


def _named(tx: Transaction, name: str) -> AnyRow:
    row = tx.platforms.find(name)
    if row is None:
        raise PlatformUnknown(
            "No platform has this name. List them with `clearinghouse platform list`."
        )
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
    """Create another key for a platform and return it.

    Args:
        store: the database.
        name: of the platform.
        now: the time.
        scopes: of the new key; by default those of the newest key.

    Raises:
        PlatformUnknown: no platform has this name.
        KeysInUse: the platform has `KEYS_AT_ONCE` valid keys.
    """
    with store.write() as tx:
        platform = _named(tx, name)
        keys = tx.platforms.list_keys(platform.id)
        if not keys:
            raise PlatformUnknown(
                f"{name} has no key. To create one, run `clearinghouse platform add {name}`."
            )
        valid = [k for k in keys if k.revoked is None and k.expires > hour(now)]
        if len(valid) >= KEYS_AT_ONCE:
            raise KeysInUse(
                f"{name} has two valid keys. Once it uses the newer one, revoke the older: "
                f"`clearinghouse platform revoke {name} --key {valid[0].id}`."
            )
        audit.record(tx.vault, tx, Act.KEY_MADE, name, count=1, hour=hour(now))
        granted = keys[-1].scopes if scopes is None else ",".join(sorted(set(scopes)))
        return _add_key(tx, platform.id, granted, now)


def revoke_keys(store: Store, name: str, key: int | None, now: datetime) -> int:
    """Revoke one key of a platform, or all if `key` is None; return how many it revoked.

    Raises:
        PlatformUnknown: no platform has this name.
    """
    with store.write() as tx:
        revoked = tx.platforms.revoke_keys(_named(tx, name).id, key, hour(now))
        audit.record(tx.vault, tx, Act.KEYS_REVOKED, name, count=revoked, hour=hour(now))
        return revoked


def list_keys(store: Store, now: datetime) -> list[KeyInfo]:
    """Return the keys of all platforms, revoked and expired ones too."""
    with store.read() as tx:
        platforms = {row.id: row for row in tx.platforms.all()}
        return [
            KeyInfo(
                platform=platforms[row.platform_id].name,
                key=row.id,
                scopes=read_scopes(row.scopes),
                added=row.added,
                expires=row.expires,
                used=row.used,
                state="revoked" if row.revoked else "valid" if row.expires > hour(now) else "old",
                match_hour=platforms[row.platform_id].match_hour,
                match_day=platforms[row.platform_id].match_day,
            )
            for row in tx.platforms.list_keys()
        ]


def authenticate(store: Store, key: str | None, now: datetime) -> Platform:
    """Return the platform that a key belongs to.

    Raises:
        CredentialsMissing: there is no key.
        InvalidCredentials: the key is unknown, revoked or expired.
    """
    if not key:
        raise CredentialsMissing
    lookup = store.vault.lookup("key", key.strip().encode())
    with store.read() as tx:
        row = tx.platforms.find_key(lookup)
    if row is None or row.revoked is not None or row.expires <= now.timestamp():
        raise InvalidCredentials
    secret = store.vault.open(row.secret, "platforms", "secret", row.name)
    scopes = frozenset(read_scopes(row.scopes))
    return Platform(
        number=row.platform_id,
        name=row.name,
        scopes=scopes,
        ids=PlatformIds(secret),
        key=row.id,
        holds_veiled=bool(row.veiled),
        match_hour=row.match_hour,
        match_day=row.match_day,
    )


def authorize(store: Store, key: str | None, scopes: Collection[Scope], now: datetime) -> Platform:
    """Return the platform that a key belongs to, if the key has one of some scopes.

    Args:
        store: the database.
        key: as sent by the client; None if it sent none.
        scopes: the scopes of which the key needs one.
        now: the time.

    Raises:
        CredentialsMissing, InvalidCredentials: see `authenticate`.
        ScopeMissing: the key has none of the scopes.
    """
    platform = authenticate(store, key, now)
    if platform.scopes.isdisjoint(scopes):
        raise ScopeMissing
    return platform


def read_scopes(text: str) -> tuple[Scope, ...]:
    """Parse scopes as the database stores them, separated by commas."""
    return tuple(Scope(word) for word in text.split(","))
