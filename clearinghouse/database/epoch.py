"""Detect that the database was restored from a backup, and begin a new epoch of the log.

The ids and cursors of platforms are encrypted row numbers. After a restore, the same numbers would
be allocated to other rows, and a platform would mistake these for the ones it knows. So a
high-water mark, the last position of the log, is kept in a file next to the key, outside the
database and its backups. A database whose log ends before the mark was restored. Its log then
begins a new epoch, in which every earlier cursor has expired, and its row numbers are advanced past
all that may have been allocated before. Whatever was withdrawn after the backup is withdrawn again
from the journal (`clearinghouse.database.withdrawal_journal`); what expired since, only if it has
expired by the present clock.
"""

import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from clearinghouse.database.engines import Database
from clearinghouse.database.queries.stopncii_records import RECORDS_PER_TIMESTAMP
from clearinghouse.database.transaction import Transaction
from clearinghouse.database.withdrawal_journal import WithdrawalJournal
from clearinghouse.times import Hour
from nciihash.durable import filename_in_errors

_log = logging.getLogger(__name__)

_ID_GAP: Final = 2**32  # more rows than can have been added after the mark was last written
_RECORD_SEQ_GAP: Final = RECORDS_PER_TIMESTAMP * 3600  # an hour in the order of StopNCII records
_BATCH: Final = 500  # journal entries replayed at a time
_NUMBERED_TABLES: Final = ("cases", "items", "log", "signals", "platforms", "keys")
EPOCH_BYTES: Final = 7  # fits in one AES block with a kind and a number (`PlatformIds`)


@dataclass(frozen=True, slots=True)
class HighWaterMark:
    """The last position of the log and the last `record_seq`, as of the last write of the file."""

    seq: int
    record_seq: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; zeros if it is missing or malformed."""
        try:
            seq, record_seq = map(int, path.read_text().split())
        except (FileNotFoundError, ValueError):
            return cls(0, 0)
        return cls(seq, record_seq)

    def write(self, path: Path) -> None:
        """Replace the file, unless another worker has written a higher mark."""
        if self.seq <= self.read(path).seq:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with filename_in_errors(path), os.fdopen(descriptor, "w") as file:
                file.write(f"{self.seq} {self.record_seq}\n")
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)  # callers retry, and would leave many of them
            raise


def reconcile(
    database: Database,
    tx: Transaction,
    mark: HighWaterMark,
    journal: WithdrawalJournal,
    hour: Hour,
    *,
    new_epoch: bool,
) -> int:
    """Detect a restored database, begin a new epoch for it, and replay the journal.

    Args:
        database: allocates the row numbers.
        tx: a write transaction.
        mark: the high-water mark outside the database.
        journal: the withdrawals.
        hour: the time.
        new_epoch: begin a new epoch even if the database does not look restored.

    Returns:
        How many signals were removed again: those withdrawn, and those of cases that have expired.
    """
    head = tx.log.head()
    last = max(mark.seq, journal.last_seq())
    if new_epoch or head < last:
        mark = HighWaterMark(max(last, head), max(mark.record_seq, tx.stopncii.last_seq()))
        _begin_epoch(database, tx, mark)
        _log.warning("The database was restored from a backup. A new epoch of the log begins.")
    if journal.is_replayed_in(tx.log.epoch()):
        return 0
    withdrawn = expired = 0
    for batch in journal.replay(_BATCH):
        withdrawn += tx.signals.withdraw_again(batch.withdrawn, hour)
        expired += tx.signals.expire_again(batch.expired, hour)
        tx.platforms.revoke_keys_again(batch.keys, hour)
    if withdrawn or expired:
        _log.warning(
            "From the journal of withdrawals, %d signals were withdrawn again, and %d of expired "
            "cases removed again.",
            withdrawn,
            expired,
        )
    return withdrawn + expired


def _begin_epoch(database: Database, tx: Transaction, mark: HighWaterMark) -> None:
    for table in _NUMBERED_TABLES:
        last = max(database.last_id(tx.connection, table), mark.seq)
        database.advance_ids(tx.connection, table, last + _ID_GAP)
    # An entry moves the head past the mark. An empty log would look restored at the next start.
    tx.log.append("remove", [0])
    tx.facts.write("epoch", secrets.token_bytes(EPOCH_BYTES))
    tx.facts.write("record_seq", (mark.record_seq + _RECORD_SEQ_GAP).to_bytes(8, "big"))
