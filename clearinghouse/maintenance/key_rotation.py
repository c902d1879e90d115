"""Change the master key while the service runs: seal every value anew, and renew the look-ups.

In this order, so that a crash at any point loses nothing and the same command goes on from there:

1. The successor is made in a file beside the key, then noted in the database, sealed under the old
   key. From here on every worker opens with both keys.
2. Values are sealed anew, some hundred at a time, and their look-ups under the new key are written
   beside the old ones. What is done already is passed over. Writers in between seal with the old
   key, and find by the old look-ups.
3. In one transaction: what came meanwhile, the platforms' secrets, the list of lawful pictures,
   all look-ups at once, and the database belongs to the new key. Nobody ever sees look-ups of both.
4. The successor's file takes the key's place, and the old one is kept beside it as
   `master.old.DATE`: older backups open with it alone. Delete both together.
5. After some seconds, in which every worker has seen it, the note is deleted from the database.

What is kept: case numbers and platforms' keys are not known here, only their HMACs, which stay as
they are under a secret of the database, sealed under the master key. They are random and too long
to be guessed. So do the tags of passphrases, whose verifiers have no key. Platforms' ids, cursors
and keys do not change.

Where the old key was known to somebody, change it at once, and replace older backups.
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
    read_masters,
    successor_file,
)
from clearinghouse.sealing.vault import KEY_BYTES, Vault, read_key
from clearinghouse.settings import Settings
from clearinghouse.times import hour
from nciihash.durable import replacing, sync_folder

_BATCH: Final = 500  # values sealed anew in one transaction, so that writers between are not kept
_SEEN: Final = (
    5.0  # seconds in which every worker has looked at the database; it does so each second
)


@dataclass(frozen=True, slots=True)
class RotationResult:
    """How many values were sealed anew, and how many do not open with any key and were left."""

    resealed: int
    damaged: int


def rotate(
    store: Store,
    settings: Settings,
    *,
    now: datetime,
    successor: bytes | None = None,
    told: Callable[[int], None] = lambda _count: None,
    pause: Callable[[float], None] = time.sleep,
) -> RotationResult:
    """Change the master key, or finish a change that was broken off.

    Args:
        store: opened with the old key.
        settings: they say where keys lie.
        now: the time; the old key's file is named by its day.
        successor: the new key, where it is not in a file.
        told: called with the number of values done.
        pause: waits some seconds.

    Raises:
        SettingInvalid: the key is in the environment, and no successor was given.
    """
    with store.read() as tx:
        noted = NEXT in tx.facts.read([NEXT])
    if settings.key is None:
        successor = read_key(successor_file(settings), create=True)
    elif successor is None and not noted:
        raise SettingInvalid(
            "The key is in the environment. Put the new one, 64 hexadecimal digits, into "
            "CLEARINGHOUSE_NEXT_KEY, and start every worker with it as CLEARINGHOUSE_KEY from then "
            "on."
        )
    with store.write() as tx:
        facts = tx.facts.read([NEXT, KEY])
        if NEXT in facts:  # of a change that was broken off
            successor = tx.vault.open(facts[NEXT], "facts", NEXT)
        else:
            assert successor is not None  # noqa: S101 - see above
            tx.facts.write(NEXT, tx.vault.seal(successor, "facts", NEXT))
    new = Vault(successor, steady=store.vault.steady)
    if settings.key is None:  # what lies there may have been lost since, and made anew
        _write(successor_file(settings), new)
    done = damaged = 0
    with store.read() as tx:
        switched = tx.facts.read([KEY])[KEY] == new.check()
    if not switched:
        after = 0
        while True:
            with store.write() as tx:
                last, count, _ = _reseal(tx, new, after)
            if last is None:
                break
            after = last
            done += count
            told(done)
        with store.write() as tx:
            after = 0
            while True:  # what came meanwhile
                last, count, bad = _reseal(tx, new, after)
                if last is None:
                    break
                after = last
                done, damaged = done + count, damaged + bad
            for row in tx.platforms.all():
                place = ("platforms", "secret", row.name)
                with suppress(KeyMismatch):
                    secret = tx.vault.open(row.secret, *place)
                    tx.master_key.reseal_platform(row.id, new.seal(secret, *place))
            for _, sealed, lookup in tx.allowlist.read():
                place = ("lawful", "value", lookup.hex())
                with suppress(KeyMismatch):
                    tx.master_key.reseal_lawful(
                        lookup, new.seal(tx.vault.open(sealed, *place), *place)
                    )
            tx.master_key.take_next_lookups()
            # old key and old copy together must not be enough to forge what comes from now on
            trail = (*tx.vault.trail, (audit.next_number(tx), os.urandom(KEY_BYTES)))
            new = Vault(successor, steady=tx.vault.steady, trail=trail)
            tx.facts.write(STEADY, new.seal(new.secrets, "facts", STEADY))
            tx.facts.write(KEY, new.check())
            audit.record(new, tx, Act.MASTER_CHANGED, count=done, hour=hour(now))
    if settings.key is None:
        _replace_file(settings, new, f"{now:%Y-%m-%d}")
    pause(_SEEN)
    with store.write() as tx:
        tx.facts.write(NEXT, None)
    store.sweep()
    return RotationResult(done, damaged)


def _reseal(tx: Transaction, new: Vault, after: int) -> tuple[int | None, int, int]:
    """Seal some values anew; give the last row, None at the end, and the counts."""
    found = tx.master_key.sealed_signals(after, _BATCH)
    rows: list[dict[str, Any]] = []
    for row in found:
        place = ("signals", "value", row.item_id, row.ordinal)
        with suppress(KeyMismatch):
            value = tx.vault.open(row.value, *place)
            lookup = new.lookup(row.type, value)
            rows.append({"number": row.id, "sealed": new.seal(value, *place), "found": lookup})
    tx.master_key.reseal_signals(rows)
    return (found[-1].id if found else None), len(rows), len(found) - len(rows)


def _replace_file(settings: Settings, new: Vault, date: str) -> None:
    """Put the successor in the place of the key, and keep the old one beside it."""
    file = key_file(settings)
    if read_masters(settings, create=False)[0] != new.masters[0]:
        old = file.with_name(f"{file.name}.old.{date}")
        number = 1
        while old.exists() and old.read_bytes() != file.read_bytes():
            number += 1
            old = file.with_name(f"{file.name}.old.{date}.{number}")
        with suppress(FileExistsError):
            os.link(file, old)
        sync_folder(file.parent)
        _write(file, new)
    successor_file(settings).unlink(missing_ok=True)


def _write(file: Path, vault: Vault) -> None:
    with replacing(file) as written:
        written.write(vault.masters[0].hex().encode() + b"\n")
