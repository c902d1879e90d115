"""What a survivor's request brings, made ready before the one writer's lock is taken.

Checking, sealing and HMACs are done here (`clearinghouse.abuse.screening` says why). Their cost is
linear in the signals of a request, of which there are at most 1,024. The transaction that follows
inserts rows and does nothing else for each signal.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.abuse.fitness import refusal
from clearinghouse.abuse.screening import Screening, screen, screened
from clearinghouse.cases.idempotency import Attempt, Reply, once
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.sealing.vault import Vault
from nciihash.signals import Media, SignalType
from nciihash.wire import ItemIn, RefusalCode, SignalIn


@dataclass(frozen=True, slots=True)
class File:
    """One file: its row number, which is reserved, and the rows of its signals.

    `tags`: by which contributors' copies of its signals are known, if they were withdrawn before.
    `lawful`: a signal is near a picture that is known to be lawful. `unfit`: the indexes of the
    signals that cannot be used, each with the reason. `sent`: how many signals the request brought
    for the file.
    """

    number: int
    media: Media
    rows: tuple[dict[str, Any], ...]  # equal signals once; an ordinal is the index of the signal
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
    """The files of one request, and how they were screened."""

    files: tuple[File, ...]
    screening: Screening


def prepare(
    store: Store, lawful: LawfulList, items: Sequence[ItemIn], matched: Collection[SignalType]
) -> Intake:
    """Make files ready that are new, each under a row number of its own.

    Args:
        store: for row numbers and its vault.
        lawful: pictures that are known to be lawful.
        items: the files.
        matched: the types that this clearinghouse matches by; signals of others are not taken.
    """
    new = [(n, 0, item) for n, item in zip(store.reserve_items(len(items)), items, strict=True)]
    return _prepare(store, lawful, new, matched)


def prepare_part(
    store: Store,
    lawful: LawfulList,
    number: int,
    after: int,
    part: ItemIn,
    matched: Collection[SignalType],
) -> Intake:
    """Make a further part of a file ready.

    Args:
        store: for its vault.
        lawful: pictures that are known to be lawful.
        number: the file's row number.
        after: how many of its signals were sent before.
        part: the next ones.
        matched: as `prepare` takes it.
    """
    return _prepare(store, lawful, [(number, after, part)], matched)


def _prepare(
    store: Store,
    lawful: LawfulList,
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
    # one is enough: the others of the file were made from the same picture
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
    make_ready: Callable[[], Intake],
    act: Callable[[Transaction, Intake], Reply],
) -> Reply:
    """Run `act` once in a write transaction, on files that were made ready before it.

    Args:
        store: where they are filed.
        attempt: the idempotency key of the request.
        now: the time.
        make_ready: called before the transaction, and again if the list of lawful pictures or the
            master key changes in between.
        act: files them.

    Raises:
        IdempotencyConflict: the key was used with another body.
        Busy: they changed again and again.
    """

    def attempted() -> Reply:
        intake = make_ready()

        def checked(tx: Transaction) -> Reply:
            intake.screening.check(tx)
            return act(tx, intake)

        return once(store, attempt, now, checked)

    return screened(attempted)
