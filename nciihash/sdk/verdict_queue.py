"""A durable queue of verdicts, which survives restarts, crashes and outages of the clearinghouse.

The queue is one SQLite file of mode 0600 (with FILE-wal and FILE-shm while it is open). It contains
ids and verdicts, no hashes and nothing about uploads. When `add` returns, the verdicts survive a
power cut.

Verdicts are sent in batches, one at a time. A batch and its idempotency key are stored before it is
sent, and no other is sent until the service has responded. So a batch whose response was lost is
repeated unchanged and recorded once, and an older verdict can never arrive after a newer one about
the same signal.

The logger `nciihash.verdicts` gets the start and the end of sending, the first success and the
first one after errors (INFO), and errors (WARNING). No message has an id, a verdict or a key.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Final, Self

import httpx

from nciihash.client.platform import PlatformClient, check_ids
from nciihash.client.sans_io import RETRY_POLICY, RetryPolicy, new_idempotency_key
from nciihash.errors import (
    QueueFull,
    QueueInvalid,
    ServiceRefused,
)
from nciihash.sdk.background import BackgroundThread, failure
from nciihash.sdk.sqlite_file import SQLiteFile
from nciihash.signals import Verdict
from nciihash.wire import VERDICTS_MAX, FeedbackTaken

WAITING_MAX: Final = 100_000  # verdicts in a queue
BACKOFF: Final = RetryPolicy(base=2.0, cap=60.0)

_log: Final = logging.getLogger("nciihash.verdicts")
_RETRY_AFTER_MAX: Final = 600.0  # seconds; the service cannot make a sender pause for longer
_APPLICATION_ID: Final = 0x4E434951  # "NCIQ"
_VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS waiting (
    turn INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, verdict TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sending (
    turn INTEGER PRIMARY KEY, id TEXT NOT NULL, verdict TEXT NOT NULL, key TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """The verdicts that are being sent, and their idempotency key, the same for every attempt."""

    key: str
    verdicts: Mapping[str, Verdict]


class VerdictQueue:
    """A durable queue of verdicts; any number of threads and processes may add to it.

        with VerdictQueue("verdicts") as queue:
            queue.add({match.id: Verdict.BLOCKED})     # on disk now
            queue.send(client)                         # or let a `VerdictSender` do it

    Of each id the queue contains the latest verdict only, so a picture that is uploaded a thousand
    times takes one row. Do not use an open queue after a fork.

    Args:
        path: the path of the queue; created if it does not exist (its folder must exist).
        max_waiting: the largest number of verdicts.

    Raises:
        QueueInvalid: the file is damaged, is not a queue, or was written by a newer version.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | PathLike[str], *, max_waiting: int = WAITING_MAX) -> None:
        self._file = SQLiteFile(
            path,
            application_id=_APPLICATION_ID,
            version=_VERSION,
            tables=_TABLES,
            content="a queue of verdicts",
            invalid=QueueInvalid,
        )
        self.path = self._file.path
        self._max_waiting = max_waiting

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the verdicts stay in it."""
        self._file.close()

    def __len__(self) -> int:
        """Return the number of verdicts that the service has not confirmed yet."""
        with self._file.read():
            return self._count("waiting") + self._count("sending")

    def add(self, verdicts: Mapping[str, Verdict]) -> None:
        """Add verdicts durably; a later verdict on an id replaces an earlier one.

        Args:
            verdicts: verdicts by the ids that the feed or `match` returned.

        Raises:
            InvalidRequest: something is not an id.
            QueueFull: the queue is full; none of these verdicts was added.
            OSError: the file cannot be written.
        """
        check_ids(verdicts)
        rows = [(id, Verdict(verdict).value) for id, verdict in verdicts.items()]
        with self._file.change() as database:
            before = self._count("waiting")
            database.executemany(
                "INSERT INTO waiting (id, verdict) VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET verdict = excluded.verdict",
                rows,
            )
            if before < (after := self._count("waiting")) and after > self._max_waiting:
                raise QueueFull(
                    f"{self.path} is full: it contains {before:,} verdicts of at most "
                    f"{self._max_waiting:,}. Find out why the clearinghouse does not accept them, "
                    "then add these again."
                )

    def waiting(self, ids: Iterable[str]) -> dict[str, Verdict]:
        """Return those verdicts on signals that a later `add` would replace.

        Verdicts that are being sent are not among them.

        Args:
            ids: the ids of the signals.

        Raises:
            OSError: the file cannot be read.
        """
        with self._file.read() as database:
            rows = (
                database.execute("SELECT id, verdict FROM waiting WHERE id = ?", (id,)).fetchone()
                for id in ids
            )
            return {id: Verdict(verdict) for id, verdict in filter(None, rows)}

    def send(self, client: PlatformClient) -> FeedbackTaken:
        """Send all verdicts, one batch after another.

        Args:
            client: a platform's client, with a key for feedback.

        Returns:
            How many verdicts were recorded, and how many ids this platform never received.

        Raises:
            ServiceError: the key is wrong, or there is no response; unconfirmed verdicts stay in
                the queue.
            OSError: the file cannot be written.
        """
        recorded = unknown = 0
        while (batch := self.batch()) is not None:
            try:
                reply = client.feedback(batch.verdicts, idempotency_key=batch.key)
            except ServiceRefused as error:
                if error.problem != "idempotency_conflict":
                    raise
                # another version of this program serialized the same verdicts differently
                self.rename(batch)
                continue
            self.done(batch)
            recorded += reply.recorded
            unknown += reply.unknown
        return FeedbackTaken(recorded=recorded, unknown=unknown)

    def batch(self) -> Batch | None:
        """Return the verdicts to send now: the batch that is being sent, or else the oldest ones.

        The batch and its key stay the same until `done`. None if the queue is empty.

        Raises:
            OSError: the file cannot be written.
        """
        with self._file.change() as database:
            if not self._count("sending"):
                database.execute(
                    "INSERT INTO sending (turn, id, verdict, key)"
                    " SELECT turn, id, verdict, ? FROM waiting ORDER BY turn LIMIT ?",
                    (new_idempotency_key(), VERDICTS_MAX),
                )
                database.execute("DELETE FROM waiting WHERE turn IN (SELECT turn FROM sending)")
            rows = database.execute("SELECT key, id, verdict FROM sending ORDER BY turn").fetchall()
        if not rows:
            return None
        return Batch(str(rows[0][0]), {str(id): Verdict(verdict) for _, id, verdict in rows})

    def done(self, batch: Batch) -> None:
        """Remove a batch that the service has confirmed.

        Raises:
            OSError: the file cannot be written.
        """
        with self._file.change() as database:
            database.execute("DELETE FROM sending WHERE key = ?", (batch.key,))

    def rename(self, batch: Batch) -> None:
        """Replace the idempotency key of a batch.

        Raises:
            OSError: the file cannot be written.
        """
        with self._file.change() as database:
            database.execute(
                "UPDATE sending SET key = ? WHERE key = ?", (new_idempotency_key(), batch.key)
            )

    def _count(self, table: str) -> int:
        return self._file.number(f"SELECT count(*) FROM {table}")  # noqa: S608 - the names are constants


@dataclass(frozen=True, slots=True)
class SenderState:
    """The state of a sender, for monitoring; `recorded` and `unknown` count since its start.

    Attributes:
        waiting: verdicts that the service has not confirmed yet.
        recorded: verdicts that the service recorded.
        unknown: verdicts on ids that this platform never received.
        error: why nothing can be sent at the moment, as a sentence; None while it can.
    """

    waiting: int = 0
    recorded: int = 0
    unknown: int = 0
    error: str | None = None


class VerdictSender(BackgroundThread):
    """A background thread that sends the verdicts of a queue.

        with VerdictQueue("verdicts") as queue, VerdictSender(server, key, queue):
            queue.add({match.id: Verdict.BLOCKED})

    In asyncio use `async with`. It never gives up: it reports errors in `health` and retries. What
    has not been sent when the block ends is sent by the next run.

    Args:
        server: the address, `https://HOST`; `http://` only for a service on this machine.
        key: the platform's key, with the scope `feedback`.
        queue: the queue; keep it open longer than the block.
        interval: seconds between checks of the queue.
        retry: the retry policy of each request.
        backoff: the pauses (`base`, `cap`) after the retries of a request have failed.
        http: an httpx transport to use instead of real connections.

    Raises:
        InvalidRequest: on entering the block: the address or the key is invalid.
    """

    def __init__(
        self,
        server: str,
        key: str,
        queue: VerdictQueue,
        *,
        interval: float = 1.0,
        retry: RetryPolicy = RETRY_POLICY,
        backoff: RetryPolicy = BACKOFF,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__()
        self._new_client: Callable[[], PlatformClient] = lambda: PlatformClient(
            server, key, retry=retry, http=http
        )
        self._queue = queue
        self._interval = interval
        self._backoff = backoff
        self._state = SenderState()

    def health(self) -> SenderState:
        """Return the state of the sender and the queue.

        Raises:
            OSError: the queue cannot be read.
        """
        return replace(self._state, waiting=len(self._queue))

    def _open(self) -> None:
        self._client = self._new_client()
        _log.info("Sending the verdicts of %s", self._queue.path)

    def _run(self) -> None:
        failures, first = 0, True
        while not self._stopping.is_set():
            try:
                reply = self._queue.send(self._client)
            except Exception as error:  # noqa: BLE001 - it never gives up
                message = failure(error, "Sending")
                if not failures or message != self._state.error:
                    _log.warning("Verdicts cannot be sent, and that is retried: %s", message)
                self._state = replace(self._state, error=message)
                retry_after = error.retry_after if isinstance(error, ServiceRefused) else None
                failures += 1
                pause = max(
                    self._backoff.pause(failures), min(retry_after or 0.0, _RETRY_AFTER_MAX)
                )
            else:
                if first or failures:
                    _log.info("All verdicts were sent")
                failures, first = 0, False
                self._state = SenderState(
                    recorded=self._state.recorded + reply.recorded,
                    unknown=self._state.unknown + reply.unknown,
                )
                pause = self._interval
            self._stopping.wait(pause)

    def _interrupt(self) -> None:
        self._client.break_off()

    def _close(self) -> None:
        self._client.close()
        _log.info("Stopped sending the verdicts of %s", self._queue.path)
