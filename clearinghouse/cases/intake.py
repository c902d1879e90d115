"""What a survivor's request brings, made ready before the one writer's lock is taken.

Checking, sealing and HMACs are done here (`clearinghouse.abuse.screening` says why). Their cost is
linear in the signals of a request, of which there are at most 1,024. The transaction that follows
inserts rows and does nothing else for each signal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.abuse.screening import Screening, screen, screened
from clearinghouse.cases.idempotency import Attempt, Reply, once
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.sealing.vault import Vault
from nciihash.signals import QUALITY_MIN, Media
from nciihash.wire import ItemIn, SignalIn


@dataclass(frozen=True, slots=True)
class File:
    """One file: its row number, which is reserved, and the rows of its signals.

    `tags`: by which contributors' copies of its signals are known, if they were withdrawn before.
    `lawful`: a signal is near a picture that is known to be lawful. `low_quality`: the indexes of
    the signals that cannot be used. `sent`: how many signals the request brought for the file.
    """

    number: int
    media: Media
    rows: tuple[dict[str, Any], ...]
    tags: tuple[bytes, ...]
    lawful: bool
    low_quality: tuple[int, ...]
    sent: int
    more: bool

    @property
    def accepted(self) -> int:
        """How many of the signals can be used."""
        return self.sent - len(self.low_quality)


@dataclass(frozen=True, slots=True)
class Intake:
    """The files of one request, and how they were screened."""

    files: tuple[File, ...]
    screening: Screening


def prepare(store: Store, lawful: LawfulList, items: Sequence[ItemIn]) -> Intake:
    """Make files ready that are new, each under a row number of its own."""
    numbers = store.reserve_items(len(items))
    return _prepare(store, lawful, [(n, 0, item) for n, item in zip(numbers, items, strict=True)])


def prepare_part(store: Store, lawful: LawfulList, number: int, after: int, part: ItemIn) -> Intake:
    """Make a further part of a file ready.

    Args:
        store: for its vault.
        lawful: pictures that are known to be lawful.
        number: the file's row number.
        after: how many of its signals were sent before.
        part: the next ones.
    """
    return _prepare(store, lawful, [(number, after, part)])


def _prepare(store: Store, lawful: LawfulList, items: Sequence[tuple[int, int, ItemIn]]) -> Intake:
    fit = [[(n, s) for n, s in enumerate(item.signals) if fits(s)] for _, _, item in items]
    screening = screen(store, lawful, [s.hashed.signal for kept in fit for _, s in kept])
    near = iter(screening.near)
    # one is enough: the others of the file were made from the same picture
    is_lawful = [any(list(islice(near, len(kept)))) for kept in fit]
    files = []
    for (number, after, item), kept, is_near in zip(items, fit, is_lawful, strict=True):
        taken = {n for n, _ in kept}
        files.append(
            File(
                number=number,
                media=item.media,
                rows=tuple(_rows(screening.vault, number, after, kept)),
                tags=tuple(
                    screening.vault.tag(s.type, s.hashed.signal.value)
                    for s in dict.fromkeys(s for _, s in kept)
                ),
                lawful=is_near,
                low_quality=tuple(n for n in range(len(item.signals)) if n not in taken),
                sent=len(item.signals),
                more=item.more,
            )
        )
    return Intake(tuple(files), screening)


def fits(signal: SignalIn) -> bool:
    """Whether a signal can be used."""
    return signal.quality is None or signal.quality >= QUALITY_MIN


def _rows(
    vault: Vault, number: int, after: int, signals: Sequence[tuple[int, SignalIn]]
) -> list[dict[str, Any]]:
    """Make the rows of a file's signals, equal ones once; their ordinals are their indexes."""
    first: dict[SignalIn, int] = {}
    for index, signal in signals:
        first.setdefault(signal, after + index)
    rows = []
    for signal, ordinal in first.items():
        value = bytes.fromhex(signal.value)
        rows.append(
            {
                "item_id": number,
                "ordinal": ordinal,
                "type": signal.type.value,
                "value": vault.seal(value, "signals", "value", number, ordinal),
                "lookup": vault.lookup(signal.type, value),
                "quality": signal.quality,
                "variant": signal.variant.value,
            }
        )
    return rows


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
