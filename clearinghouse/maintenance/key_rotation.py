"""Rotation of the master key while the service runs: reseals every value, and renews lookups.

`rotate` has five steps. After a crash at any point, nothing is lost and the same command resumes.

1. Announce the successor: create it in a file next to the key, and store it in the database, sealed
   under the old key. From now on every worker opens values with both keys.
2. Reseal values, some hundred in a transaction, and write their lookup values under the new key to
   a column of its own. Values done before a crash are skipped. Meanwhile, other writers seal and
   look up with the old key.
3. Switch to the successor, in one transaction: reseal what was added meanwhile, the secrets of
   platforms and the allowlist, replace all lookup values, and record the new key as that of the
   database. No reader ever sees lookup values of both keys.
4. Replace the key file with the successor's. The old key is kept next to it as `master.old.DATE`:
   earlier backups open with it alone. Delete it together with them.
5. After some seconds, in which every worker has noticed the switch, delete the successor from the
   database.

Case numbers and keys of platforms are not stored. Their lookup values stay as they are, under the
steady key of the database, which is sealed under the master key: they are random and too long to be
guessed. The verifiers of passphrases need no key. Ids, cursors and keys of platforms do not change.

If somebody else may know the old key, rotate at once, and replace earlier backups.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import KeyMismatch, SettingInvalid
from clearinghouse.sealing.master_key import (
    KEY,
    NEXT,
    STEADY,
    key_file,
    read_master_keys,
    successor_file,
)
from clearinghouse.sealing.vault import KEY_BYTES, Vault, read_key
from clearinghouse.settings import Settings
from clearinghouse.times import Hour, hour
from nciihash.durable import atomic_write, fsync_folder

_BATCH: Final = 500  # values resealed in one transaction, so that other writers need not wait long
_NOTICED_SECONDS: Final = 5.0  # workers read the facts of the database each second


@dataclass(frozen=True, slots=True)
class RotationResult:
    """The result of a rotation.

    Attributes:
        resealed: how many values were sealed under the new key.
        damaged: how many values open with no key, and were left as they are.
    """

    resealed: int
    damaged: int


def rotate(
    store: Store,
    settings: Settings,
    *,
    now: datetime,
    successor: bytes | None = None,
    progress: Callable[[int], None] = lambda _count: None,
    pause: Callable[[float], None] = time.sleep,
) -> RotationResult:
    """Change the master key, or resume a rotation that was interrupted.

    Args:
        store: the store, opened with the old key.
        settings: where the key is.
        now: the time; its day names the file of the old key.
        successor: the new key, if keys are not in files.
        progress: called with the number of values resealed so far.
        pause: waits for a number of seconds.

    Raises:
        SettingInvalid: the key is in the environment, and there is no successor.
    """
    new = _announce_successor(store, settings, successor)
    resealed = damaged = 0
    with store.read() as tx:
        is_switched = tx.facts.read([KEY])[KEY] == new.check()
    if not is_switched:
        resealed = _reseal_signals(store, new, progress)
        resealed, damaged = _switch(store, new, resealed, hour(now))
    if settings.key is None:
        _replace_key_file(settings, new, f"{now:%Y-%m-%d}")
    _forget_successor(store, pause)
    return RotationResult(resealed, damaged)


def _announce_successor(store: Store, settings: Settings, successor: bytes | None) -> Vault:
    """Create the next key, or find the one of an interrupted rotation, and store it (step 1).

    Returns:
        A vault with the next key.
    """
    with store.read() as tx:
        is_announced = NEXT in tx.facts.read([NEXT])
    if settings.key is None:
        successor = read_key(successor_file(settings), create=True)
    elif successor is None and not is_announced:
        raise SettingInvalid(
            "The master key is in CLEARINGHOUSE_KEY. Set CLEARINGHOUSE_NEXT_KEY to a new one, 64 "
            "hexadecimal digits, and repeat the command. Afterwards start every worker with the "
            "new one as CLEARINGHOUSE_KEY."
        )
    with store.write() as tx:
        facts = tx.facts.read([NEXT])
        if NEXT in facts:  # of an interrupted rotation
            successor = tx.vault.open(facts[NEXT], "facts", NEXT)
        else:
            assert successor is not None  # noqa: S101 - see above
            tx.facts.write(NEXT, tx.vault.seal(successor, "facts", NEXT))
    new = Vault(successor, steady=store.vault.steady)
    if settings.key is None:  # the file may have been lost, and created again with another key
        _write_key(successor_file(settings), new)
    return new


def _reseal_signals(store: Store, new: Vault, progress: Callable[[int], None]) -> int:
    """Reseal the values of signals in batches, and return how many (step 2)."""
    total = 0
    after: int | None = 0
    while after is not None:
        with store.write() as tx:
            after, count, _ = _reseal_batch(tx, new, after)
        if after is not None:
            total += count
            progress(total)
    return total


def _switch(store: Store, new: Vault, resealed: int, hour: Hour) -> tuple[int, int]:
    """Reseal all the rest, and make the new key that of the database (step 3).

    Args:
        store: the store.
        new: a vault with the next key.
        resealed: how many values were resealed before.
        hour: the time.

    Returns:
        How many values were resealed in all, and how many do not open.
    """
    damaged = 0
    with store.write() as tx:
        after: int | None = 0
        while after is not None:  # signals added or changed since step 2
            after, count, bad = _reseal_batch(tx, new, after)
            resealed, damaged = resealed + count, damaged + bad
        _reseal_platforms(tx, new)
        _reseal_allowlist(tx, new)
        tx.master_key.switch_lookups()
        # a new key for the audit trail, so that an old master key with an old copy of the database
        # cannot forge later entries
        trail = (*tx.vault.trail, (audit.next_number(tx), os.urandom(KEY_BYTES)))
        final = Vault(new.masters[0], steady=tx.vault.steady, trail=trail)
        tx.facts.write(STEADY, final.seal(final.secrets, "facts", STEADY))
        tx.facts.write(KEY, final.check())
        audit.record(final, tx, Act.MASTER_CHANGED, count=resealed, hour=hour)
    return resealed, damaged


def _replace_key_file(settings: Settings, new: Vault, date: str) -> None:
    """Replace the key file with the successor's, and keep the old key next to it (step 4)."""
    file = key_file(settings)
    if read_master_keys(settings, create=False)[0] != new.masters[0]:
        old = file.with_name(f"{file.name}.old.{date}")
        number = 1
        while old.exists() and old.read_bytes() != file.read_bytes():
            number += 1
            old = file.with_name(f"{file.name}.old.{date}.{number}")
        with suppress(FileExistsError):
            os.link(file, old)
        fsync_folder(file.parent)
        _write_key(file, new)
    successor_file(settings).unlink(missing_ok=True)


def _forget_successor(store: Store, pause: Callable[[float], None]) -> None:
    """Wait for every worker to notice, then delete the successor from the database (step 5)."""
    pause(_NOTICED_SECONDS)
    with store.write() as tx:
        tx.facts.write(NEXT, None)
    store.checkpoint()


def _reseal_batch(tx: Transaction, new: Vault, after: int) -> tuple[int | None, int, int]:
    """Reseal the values of some signals after a row number.

    Returns:
        The last row number, or None if there were no signals; how many values were resealed; and
        how many do not open.
    """
    found = tx.master_key.list_old_signals(after, _BATCH)
    rows: list[dict[str, Any]] = []
    for row in found:
        context = ("signals", "value", row.item_id, row.ordinal)
        with suppress(KeyMismatch):
            value = tx.vault.open(row.value, *context)
            lookup = new.lookup(row.type, value)
            rows.append(
                {"number": row.id, "sealed": new.seal(value, *context), "new_lookup": lookup}
            )
    tx.master_key.reseal_signals(rows)
    return (found[-1].id if found else None), len(rows), len(found) - len(rows)


def _reseal_platforms(tx: Transaction, new: Vault) -> None:
    """Reseal the secrets of all platforms."""
    for row in tx.platforms.all():
        context = ("platforms", "secret", row.name)
        with suppress(KeyMismatch):
            secret = tx.vault.open(row.secret, *context)
            tx.master_key.reseal_platform(row.id, new.seal(secret, *context))


def _reseal_allowlist(tx: Transaction, new: Vault) -> None:
    """Reseal the values of all hashes in the allowlist."""
    for _, sealed, lookup in tx.allowlist.read():
        context = ("lawful", "value", lookup.hex())
        with suppress(KeyMismatch):
            value = tx.vault.open(sealed, *context)
            tx.master_key.reseal_lawful(lookup, new.seal(value, *context))


def _write_key(file: Path, vault: Vault) -> None:
    with atomic_write(file) as written:
        written.write(vault.masters[0].hex().encode() + b"\n")
