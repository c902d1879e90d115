"""Keep verdicts until the clearinghouse has them: through restarts, crashes and its absence.

The queue is one SQLite file of mode 0600 (beside it, while it is open, FILE-wal and FILE-shm). It
holds ids and verdicts, no hashes and nothing about uploads. What `add` has returned from survives a
power cut.

Verdicts leave in batches, one batch at a time. A batch is fixed before it is sent, under an
idempotency key that is kept with it, and nothing else is sent until the service has answered
it: a batch whose answer was lost is repeated as it was, which the service takes once, and no old
verdict can arrive behind a newer one about the same signal.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Final, Self

import httpx

from nciihash.client.platform import PlatformClient, check_ids
from nciihash.client.sans_io import RETRY_POLICY, RetryPolicy, new_idempotency_key
from nciihash.durable import sync_folder
from nciihash.errors import NciihashError, QueueFull, QueueInvalid, ServiceRefused, explained
from nciihash.sdk.background import Background
from nciihash.signals import Verdict
from nciihash.wire import VERDICTS_MAX, FeedbackTaken

WAITING_MAX: Final = 100_000  # ids about which verdicts may wait
PAUSES: Final = RetryPolicy(base=2.0, cap=60.0)

_ASKED_MAX: Final = 600.0  # seconds; a service cannot send a sender to sleep for longer
_MARK: Final = 0x4E434951  # "NCIQ"
_VERSION: Final = 1
_BUSY: Final = 60.0  # seconds to wait for another process's write
_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS waiting (
    turn INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, verdict TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sending (
    turn INTEGER PRIMARY KEY, id TEXT NOT NULL, verdict TEXT NOT NULL, key TEXT NOT NULL);
PRAGMA application_id = {_MARK};
PRAGMA user_version = {_VERSION};
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Verdicts on their way, and the key under which they are sent however often."""

    key: str
    verdicts: Mapping[str, Verdict]


class VerdictQueue:
    """Verdicts that wait to be sent; any number of threads and processes may add.

        with VerdictQueue("verdicts") as queue:
            queue.add({match.id: Verdict.BLOCKED})     # on the disk now
            queue.send(client)                         # or let a `VerdictSender` do it

    About each id the latest verdict waits, so that a picture which is uploaded a thousand times
    takes one place. Do not carry an open queue through a fork.

    Args:
        path: the queue's file; made when absent (its folder must exist).
        most: ids that may wait.

    Raises:
        QueueInvalid: the file is damaged, foreign or newer.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | PathLike[str], *, most: int = WAITING_MAX) -> None:
        self.path = Path(path)
        self._most = most
        self._lock = threading.Lock()
        new = not self.path.exists()
        # SQLite gives the files beside it the mode of this one.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if new:
            sync_folder(self.path.resolve().parent)
        self._database = sqlite3.connect(
            self.path, timeout=_BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        with self._faults():
            mark = self._number("PRAGMA application_id")
            version = self._number("PRAGMA user_version")
            if self._number("SELECT count(*) FROM sqlite_master") and mark != _MARK:
                raise QueueInvalid(f"{self.path} is no queue of verdicts. Name another file.")
            if version > _VERSION:
                raise QueueInvalid(
                    f"{self.path} was written by a newer version of nciihash: upgrade it."
                )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")  # each commit is on the disk
            if version < _VERSION:
                self._database.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._database.close()

    def __len__(self) -> int:
        """Count the verdicts that wait or are on their way."""
        with self._lock, self._faults():
            return self._count("waiting") + self._count("sending")

    def add(self, verdicts: Mapping[str, Verdict]) -> None:
        """Let verdicts wait, durably; a later one about an id takes the place of an earlier.

        Args:
            verdicts: by the ids that the feed or `match` gave.

        Raises:
            InvalidRequest: something is not an id.
            QueueFull: too many wait already; none of these was taken.
            OSError: the file cannot be written.
        """
        check_ids(verdicts)
        rows = [(id, Verdict(verdict).value) for id, verdict in verdicts.items()]
        with self._change():
            before = self._count("waiting")
            self._database.executemany(
                "INSERT INTO waiting (id, verdict) VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET verdict = excluded.verdict",
                rows,
            )
            if before < (after := self._count("waiting")) and after > self._most:
                raise QueueFull(
                    f"{before:,} verdicts wait in {self.path} already, and {self._most:,} may. See "
                    "why the clearinghouse does not take them, then add these again."
                )

    def send(self, client: PlatformClient) -> FeedbackTaken:
        """Send all that waits, a batch after the other.

        Args:
            client: a platform's client, with a key for feedback.

        Returns:
            How many were recorded, and how many ids this platform was never given.

        Raises:
            ServiceError: a wrong key, or no answer; what was not answered waits on.
            OSError: the file cannot be written.
        """
        recorded = unknown = 0
        while (batch := self.batch()) is not None:
            try:
                taken = client.feedback(batch.verdicts, idempotency_key=batch.key)
            except ServiceRefused as error:
                if error.problem != "idempotency_conflict":
                    raise
                # Another version of this program wrote the same verdicts down differently.
                self.rename(batch)
                continue
            self.done(batch)
            recorded += taken.recorded
            unknown += taken.unknown
        return FeedbackTaken(recorded=recorded, unknown=unknown)

    def batch(self) -> Batch | None:
        """Give the verdicts that are to be sent now: those on their way, or else the oldest.

        They stay the same, under the same key, until they are `done`. None when nothing waits.

        Raises:
            OSError: the file cannot be written.
        """
        with self._change():
            if not self._count("sending"):
                self._database.execute(
                    "INSERT INTO sending (turn, id, verdict, key)"
                    " SELECT turn, id, verdict, ? FROM waiting ORDER BY turn LIMIT ?",
                    (new_idempotency_key(), VERDICTS_MAX),
                )
                self._database.execute(
                    "DELETE FROM waiting WHERE turn IN (SELECT turn FROM sending)"
                )
            rows = self._database.execute(
                "SELECT key, id, verdict FROM sending ORDER BY turn"
            ).fetchall()
        if not rows:
            return None
        return Batch(str(rows[0][0]), {str(id): Verdict(verdict) for _, id, verdict in rows})

    def done(self, batch: Batch) -> None:
        """Forget verdicts that the service has answered.

        Raises:
            OSError: the file cannot be written.
        """
        with self._change():
            self._database.execute("DELETE FROM sending WHERE key = ?", (batch.key,))

    def rename(self, batch: Batch) -> None:
        """Send verdicts under another key from now on.

        Raises:
            OSError: the file cannot be written.
        """
        with self._change():
            self._database.execute(
                "UPDATE sending SET key = ? WHERE key = ?", (new_idempotency_key(), batch.key)
            )

    def _count(self, table: str) -> int:
        return self._number(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name from here

    def _number(self, question: str) -> int:
        (number,) = self._database.execute(question).fetchone()
        return int(number)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Guard a change: all of it is on the disk when the block has ended, or nothing."""
        with self._lock, self._faults():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path} cannot be used: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise QueueInvalid(
                f"{self.path} is damaged or no queue of verdicts. Move it away; a new one is made."
            ) from error


@dataclass(frozen=True, slots=True)
class SenderState:
    """How a sender fares; counts are of this run.

    Attributes:
        waiting: verdicts that are not answered yet.
        recorded: verdicts that the service took.
        unknown: ids that it never gave to this platform.
        trouble: why nothing can be sent at the moment, as a sentence.
    """

    waiting: int = 0
    recorded: int = 0
    unknown: int = 0
    trouble: str | None = None


class VerdictSender(Background):
    """Sends what waits in a queue, in a thread, until the end of the block.

        with VerdictQueue("verdicts") as queue, VerdictSender(server, key, queue):
            queue.add({match.id: Verdict.BLOCKED})

    In asyncio it is `async with`. It never gives up: what goes wrong is told in `health` and tried
    again. What is not sent when the block ends is sent in the next run.

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        key: the platform's key, with the scope `feedback`.
        queue: where the verdicts wait; open for longer than the block.
        every: seconds between looks into the queue.
        retry: how often and how long to try a request again.
        pauses: how long to wait after failures.
        http: what carries the requests, instead of real connections.

    Raises:
        InvalidRequest: at the beginning of the block: the address or the key cannot be right.
    """

    def __init__(
        self,
        server: str,
        key: str,
        queue: VerdictQueue,
        *,
        every: float = 1.0,
        retry: RetryPolicy = RETRY_POLICY,
        pauses: RetryPolicy = PAUSES,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__()
        self._client: Callable[[], PlatformClient] = lambda: PlatformClient(
            server, key, retry=retry, http=http
        )
        self._queue = queue
        self._every = every
        self._pauses = pauses
        self._sent = SenderState()

    def health(self) -> SenderState:
        """Tell how it fares.

        Raises:
            OSError: the queue cannot be read.
        """
        return replace(self._sent, waiting=len(self._queue))

    def _open(self) -> None:
        self._asking = self._client()

    def _run(self) -> None:
        failures = 0
        while not self._over.is_set():
            try:
                taken = self._queue.send(self._asking)
            except (NciihashError, OSError) as error:
                failures += 1
                trouble = explained(error) if isinstance(error, OSError) else str(error)
                self._sent = replace(self._sent, trouble=trouble)
                asked = error.retry_after if isinstance(error, ServiceRefused) else None
                pause = max(self._pauses.pause(failures), min(asked or 0.0, _ASKED_MAX))
            else:
                failures = 0
                self._sent = SenderState(
                    recorded=self._sent.recorded + taken.recorded,
                    unknown=self._sent.unknown + taken.unknown,
                )
                pause = self._every
            self._over.wait(pause)

    def _interrupt(self) -> None:
        self._asking.break_off()

    def _close(self) -> None:
        self._asking.close()
