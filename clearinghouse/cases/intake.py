"""Submitted files, prepared before the write lock is taken.

Checks, sealing and HMACs are done here (`clearinghouse.abuse.screening` explains why). Their cost
is linear in the signals of a request, of which there are at most 1,024. The transaction that
follows only inserts rows.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.abuse.fitness import refusal
from clearinghouse.abuse.screening import Screening, retry_if_outdated, screen
from clearinghouse.cases.idempotency import Attempt, Reply, once
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.sealing.vault import Vault
from nciihash.signals import Media, SignalType
from nciihash.wire import ItemIn, RefusalCode, SignalIn


@dataclass(frozen=True, slots=True)
class File:
    """A submitted file.

    Attributes:
        number: its reserved row number.
        media: what it is.
        rows: the rows of its usable signals, equal ones once. `ordinal` is the index of the signal
            in the file.
        tags: of its signals, by which withdrawn values are remembered (`Vault.tag`).
        lawful: whether a signal is near a picture known to be lawful.
        unfit: the index of each unusable signal, with the reason.
        sent: how many signals the request has for the file.
        more: whether further parts will follow.
    """

    number: int
    media: Media
    rows: tuple[dict[str, Any], ...]
    tags: tuple[bytes, ...]
    lawful: bool
    unfit: tuple[tuple[int, RefusalCode], ...]
    sent: int
    more: bool

    @property
    def accepted(self) -> int:
        """How many of the signals can be used."""
        return self.sent - len(self.unfit)


@dataclass(frozen=True, slots=True)
class Intake:
    """The files of one request, and their screening."""

    files: tuple[File, ...]
    screening: Screening


def prepare(
    store: Store, lawful: AllowlistIndex, items: Sequence[ItemIn], matched: Collection[SignalType]
) -> Intake:
    """Prepare new files, and reserve their row numbers.

    Args:
        store: for row numbers and its vault.
        lawful: the list of lawful pictures.
        items: the files.
        matched: the types that this clearinghouse matches; signals of others are refused.
    """
    new = [(n, 0, item) for n, item in zip(store.reserve_items(len(items)), items, strict=True)]
    return _prepare(store, lawful, new, matched)


def prepare_part(
    store: Store,
    lawful: AllowlistIndex,
    number: int,
    after: int,
    part: ItemIn,
    matched: Collection[SignalType],
) -> Intake:
    """Prepare a further part of a file.

    Args:
        store: for its vault.
        lawful: the list of lawful pictures.
        number: row number of the file.
        after: how many of its signals were sent before.
        part: the next signals.
        matched: as in `prepare`.
    """
    return _prepare(store, lawful, [(number, after, part)], matched)


def _prepare(
    store: Store,
    lawful: AllowlistIndex,
    items: Sequence[tuple[int, int, ItemIn]],
    matched: Collection[SignalType],
) -> Intake:
    codes = [[refusal(signal, matched) for signal in item.signals] for _, _, item in items]
    fit = [
        [(n, signal) for n, signal in enumerate(item.signals) if found[n] is None]
        for (_, _, item), found in zip(items, codes, strict=True)
    ]
    screening = screen(store, lawful, [s.hashed.signal for kept in fit for _, s in kept])
    near = iter(screening.near)
    # one signal is enough: all those of a file are from the same picture
    is_lawful = [any(list(islice(near, len(kept)))) for kept in fit]
    files = []
    for (number, after, item), found, kept, is_near in zip(
        items, codes, fit, is_lawful, strict=True
    ):
        first: dict[SignalIn, int] = {}  # of equal signals
        for index, signal in kept:
            first.setdefault(signal, after + index)
        files.append(
            File(
                number=number,
                media=item.media,
                rows=tuple(_row(screening.vault, number, n, s) for s, n in first.items()),
                tags=tuple(screening.vault.tag(s.type, s.hashed.signal.value) for s in first),
                lawful=is_near,
                unfit=tuple((n, code) for n, code in enumerate(found) if code is not None),
                sent=len(item.signals),
                more=item.more,
            )
        )
    return Intake(tuple(files), screening)


def _row(vault: Vault, number: int, ordinal: int, signal: SignalIn) -> dict[str, Any]:
    value = bytes.fromhex(signal.value)
    return {
        "item_id": number,
        "ordinal": ordinal,
        "type": signal.type.value,
        "value": vault.seal(value, "signals", "value", number, ordinal),
        "lookup": vault.lookup(signal.type, value),
        "quality": signal.quality,
        "variant": signal.variant.value,
    }


def submit(
    store: Store,
    attempt: Attempt | None,
    now: datetime,
    prepare_files: Callable[[], Intake],
    act: Callable[[Transaction, Intake], Reply],
) -> Reply:
    """Run `act` once in a write transaction, on files prepared before it.

    Args:
        store: the store.
        attempt: the attempt, if the request is idempotent.
        now: the time.
        prepare_files: called before the transaction, and again if the allowlist or the master key
            changes in between.
        act: stores the files.

    Raises:
        IdempotencyConflict: the idempotency key was used with another body.
        Busy: the list or the key changed on every attempt.
    """

    def attempted() -> Reply:
        intake = prepare_files()

        def checked(tx: Transaction) -> Reply:
            intake.screening.check(tx)
            return act(tx, intake)

        return once(store, attempt, now, checked)

    return retry_if_outdated(attempted)
