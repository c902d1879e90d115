"""Notice that a database was put back from a backup, and begin a new epoch of the log then.

Row numbers stand behind platforms' ids and cursors. After a restore the same numbers would be given
again to other rows, and a platform's bank would take them for what it knows. So the farthest place
that the log has reached is noted in a file beside the key, outside the database and its backups; a
database that has not got that far was restored. Its log then begins a new epoch, in which every old
cursor has expired, and its row numbers jump over all that may have been given before. What was
withdrawn since the backup is withdrawn again, as the journal says
(`clearinghouse.database.withdrawal_journal`).
"""

import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from clearinghouse.database.engines import Database
from clearinghouse.database.queries.stopncii_records import SHARED
from clearinghouse.database.transaction import Transaction
from clearinghouse.database.withdrawal_journal import WithdrawalJournal
from nciihash.durable import naming

_log = logging.getLogger(__name__)

_JUMP: Final = 2**32  # rows that may have been added between the backup and the last note
# An hour of the order of StopNCII records (clearinghouse.database.queries.stopncii_records).
_RECORDS_JUMP: Final = SHARED * 3600
_BATCH: Final = 500  # signals withdrawn again with one statement
_NUMBERED: Final = ("cases", "items", "log", "signals", "platforms", "keys")
EPOCH_BYTES: Final = 7  # fits beside a kind and a number into one AES block


@dataclass(frozen=True, slots=True)
class HighWaterMark:
    """How far the log, and the places of the StopNCII door, had got at the last note."""

    seq: int
    record_seq: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the note; nothing was reached where there is none, or none that makes sense."""
        try:
            seq, record_seq = map(int, path.read_text().split())
        except (FileNotFoundError, ValueError):
            return cls(0, 0)
        return cls(seq, record_seq)

    def write(self, path: Path) -> None:
        """Replace the note, unless another worker has noted more already."""
        if self.seq <= self.read(path).seq:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with naming(path), os.fdopen(descriptor, "w") as file:
                file.write(f"{self.seq} {self.record_seq}\n")
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)  # it is tried again and again
            raise


def settle(
    database: Database,
    tx: Transaction,
    reached: HighWaterMark,
    journal: WithdrawalJournal,
    hour: int,
    *,
    anew: bool,
) -> int:
    """Bring a database that was put back up to what lies outside of it.

    Args:
        database: whose row numbers jump.
        tx: in the writer's place.
        reached: how far the log had got at the last note.
        journal: what was withdrawn.
        hour: the time.
        anew: begin a new epoch in any case.

    Returns:
        How many signals were withdrawn again.
    """
    head = tx.log.head()
    last = max(reached.seq, journal.reached())
    if anew or head < last:
        reached = HighWaterMark(max(last, head), max(reached.record_seq, tx.stopncii.last_seq()))
        _begin_epoch(database, tx, reached)
        _log.warning("The database is older than it was: a new epoch of the log begins.")
    if journal.is_of(tx.log.epoch()):
        return 0
    gone = 0
    for signals, keys in journal.replay(_BATCH):
        gone += tx.signals.withdraw_again(signals, hour)
        tx.platforms.revoke_keys_again(keys, hour)
    if gone:
        _log.warning("%d signals that had been withdrawn were withdrawn again.", gone)
    return gone


def _begin_epoch(database: Database, tx: Transaction, reached: HighWaterMark) -> None:
    for table in _NUMBERED:
        last = max(database.last_number(tx.connection, table), reached.seq)
        database.jump(tx.connection, table, last + _JUMP)
    # The head itself must move: an empty log would look restored again at the next start.
    tx.log.append("remove", [0])
    tx.facts.write("epoch", secrets.token_bytes(EPOCH_BYTES))
    tx.facts.write("record_seq", (reached.record_seq + _RECORDS_JUMP).to_bytes(8, "big"))
