"""A bank that a background thread keeps up to date while a service matches against it.

The logger `nciihash.follower` gets the start and the end of following, the moments at which the
bank has everything in the feed, and rebuilds (INFO), and errors with what is done about them
(WARNING). No message has a hash, an id, a cursor or a key.
"""

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Final

import httpx
import numpy as np
from numpy.typing import NDArray

from nciihash.bank.bank import Bank
from nciihash.bank.candidates import Candidates
from nciihash.client.platform import PlatformClient
from nciihash.client.sans_io import RetryPolicy
from nciihash.errors import BankError, NciihashError, ServiceError
from nciihash.sdk.background import BackgroundThread, failure
from nciihash.sdk.bank_age import check_age, noted_age
from nciihash.sdk.follow_loop import DEFAULT_OPTIONS, FollowerOptions, Progress, Stop, follow
from nciihash.sdk.veiled import Confirmer, load_veil, save_veil
from nciihash.signals import Match, Signal, SignalType
from nciihash.veil import Veil
from nciihash.wire import Hits

_log: Final = logging.getLogger("nciihash.follower")


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a follower, for monitoring.

    Attributes:
        signals: the number of signals in the bank.
        age: seconds since the bank was last known to have everything in the feed, in an earlier run
            if not in this one; None if it never was. Without new entries it grows to
            `FollowerOptions.wait` and starts again at 0: alert when it exceeds some minutes.
        current: whether the last page of the feed is in the bank.
        rebuilding: whether a new bank is being built, because the cursor has expired.
        error: why the feed cannot be read or stored at the moment, as a sentence; None while it
            can.
    """

    signals: int
    age: float | None
    current: bool
    rebuilding: bool
    error: str | None


class BaseFollower(BackgroundThread):
    """A background thread that follows the feed into a bank.

    It never gives up: it reports errors in `health`, retries, and meanwhile the bank answers with
    what it has, unless it has never had everything in the feed or is older than `max_age`. Leaving
    the block aborts the long poll.

    Only one process may follow into a bank. Others on the same machine use a `BankReader`.

    Args:
        server: the address, `https://HOST`; `http://` only for a service on this machine.
        key: the platform's key, with the scope `feed`, or `veil` for a `VeiledFollower`.
        bank: the path of the bank; created if it does not exist.
        options: the page size, the retry policies and the pauses.
        max_age: seconds after which a bank that has not had everything in the feed is too old to be
            queried (`BankStale`); some minutes, and more than `FollowerOptions.wait`. None for no
            limit.
        http: an httpx transport to use instead of real connections.
        clock: monotonic time in seconds.
        now: Unix time in seconds.

    Raises:
        InvalidRequest: on entering the block, as the following: the address or the key is invalid.
        BankError: another process follows into the bank, it is damaged, or it is veiled and must
            not be, or the reverse.
        OSError: the bank cannot be opened.
    """

    def __init__(
        self,
        server: str,
        key: str,
        bank: str | PathLike[str],
        options: FollowerOptions = DEFAULT_OPTIONS,
        *,
        max_age: float | None = None,
        http: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._new_client: Callable[[RetryPolicy], PlatformClient] = lambda retry: PlatformClient(
            server, key, retry=retry, http=http
        )
        self._path = Path(bank)
        self._options = options
        self._max_age = max_age
        self._clock = clock
        self._now = now
        self._bank: Bank | None = None
        self._veil: Veil | None = None
        self._ready = threading.Event()  # set when the bank is current, and when the block ends
        self._progress = Progress()
        self._current_at: float | None = None  # by `clock`
        self._noted: float | None = None  # by `now`: when it was current in an earlier run
        self._failures = 0

    @property
    def bank(self) -> Bank:
        """The bank, for reading, whatever its age.

        Raises:
            BankError: the follower has not been started.
        """
        if self._bank is None:
            raise BankError("The follower has not been started. Use it in a `with` block.")
        return self._bank

    def ready(self, timeout: float | None = None) -> bool:
        """Wait until the bank has had everything in the feed once.

        Args:
            timeout: seconds to wait at most; None for no limit.

        Returns:
            Whether it has; False after the timeout, or if the block has ended first.
        """
        self._ready.wait(timeout)
        return self._current_at is not None

    def health(self) -> Health:
        """Return the state of the follower and the bank."""
        progress = self._progress
        return Health(
            signals=len(self.bank),
            age=self._age(),
            current=progress.current,
            rebuilding=progress.rebuilding,
            error=progress.error,
        )

    def _age(self) -> float | None:
        if (current_at := self._current_at) is not None:
            return self._clock() - current_at
        return noted_age(self._noted, self._now())

    def _reliable_bank(self) -> Bank:
        """Return the bank.

        Raises:
            BankStale: it has never had everything in the feed, or not for `max_age`.
        """
        bank = self.bank
        check_age(self._age(), self._max_age)
        return bank

    @abstractmethod
    def _check_bank(self) -> None:
        """Refuse a veiled bank, or one that is not."""

    @abstractmethod
    def _required_veil(self) -> Veil | None:
        """Return the veil of the bank; called in the background thread."""

    def _open(self) -> None:
        with ExitStack() as opened:
            self._client = opened.enter_context(self._new_client(self._options.retry))
            self._bank = opened.enter_context(Bank.open(self._path))
            self._veil = load_veil(self._path)
            self._check_bank()
            opened.pop_all()
        self._ready.clear()
        self._progress, self._current_at, self._failures = Progress(), None, 0
        self._noted = self.bank.current_at
        self._stop = Stop()
        _log.info("Following the feed into %s, which has %d signals", self._path, len(self.bank))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                follow(
                    self._client,
                    self.bank,
                    self._options,
                    stop=self._stop,
                    on_progress=self._on_progress,
                    veil=self._required_veil(),
                    now=self._now,
                )
            except Exception as error:  # noqa: BLE001 - `health` must report every error
                self._recover(error)

    def _on_progress(self, progress: Progress) -> None:
        _log_change(self._progress, progress)
        if progress.error is None:
            self._failures = 0
            if progress.current:
                self._current_at = self._clock()
                self._ready.set()
        self._progress = progress

    def _recover(self, error: Exception) -> None:
        """Report an error that ended `follow`, pause, and reopen the bank if that may help."""
        message = failure(error, "Following")
        self._progress = replace(self._progress, current=False, rebuilding=False, error=message)
        self._failures += 1
        pause = self._options.repair_backoff.pause(self._failures)
        _log.warning("Following failed, and is tried again in %.0f seconds: %s", pause, message)
        self._stopping.wait(pause)
        if isinstance(error, ServiceError) or self._stopping.is_set():
            return
        try:
            # A bank accepts no write after one has failed. Closed, it still answers queries: all of
            # them until it is replaced, and then those of threads that have already obtained it.
            self.bank.close()
            self._bank = Bank.open(self._path)
        except (NciihashError, OSError):
            pass  # the next call of `follow` fails because of it, and that error is reported

    def _interrupt(self) -> None:
        self._ready.set()
        self._stop.ask()
        self._client.break_off()

    def _close(self) -> None:
        try:
            self.bank.close()
        finally:
            self._client.close()
        _log.info("Stopped following the feed into %s", self._path)


def _log_change(before: Progress, after: Progress) -> None:
    """Log what has changed, so that an outage is one message and not one for each retry."""
    if after.error is not None:
        if after.error != before.error:
            _log.warning("The feed cannot be read, and that is retried: %s", after.error)
    elif after.rebuilding and not before.rebuilding:
        _log.info("The cursor has expired: building a new bank, while the old one answers")
    elif after.current and (not before.current or before.error is not None):
        _log.info("The bank has everything in the feed: %d signals", after.signals)


class Follower(BaseFollower):
    """A bank of whole hashes that follows the feed in a background thread and can be queried.

        with Follower("https://clearinghouse.example", key, "bank") as follower:
            follower.ready()
            matches = Matcher(follower).find("upload.jpg")

    In asyncio use `async with`, and `await asyncio.to_thread(matcher.find, path)`, since a query
    computes. Any number of threads may query. Each answer is exact for the bank at that
    moment: after the cursor has expired that is the complete old bank, until the new one is
    complete.
    """

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Return the matches of each signal: the bank's signals of its type within the threshold.

        Returns:
            One tuple for each signal, sorted by distance, then by id.

        Raises:
            BankStale: the bank has never had everything in the feed, or not for `max_age`.
        """
        return self._reliable_bank().query(signals)

    def candidates(self, type: SignalType, packed: NDArray[np.uint8], reach: int) -> Candidates:
        """Return the bank's candidates for each hash (`Bank.candidates`).

        Raises:
            BankStale: the bank has never had everything in the feed, or not for `max_age`.
        """
        return self._reliable_bank().candidates(type, packed, reach)

    def _check_bank(self) -> None:
        if self._veil is not None:
            raise BankError(
                "This bank is veiled, and a Follower needs whole hashes. Use another file, or a "
                "VeiledFollower."
            )

    def _required_veil(self) -> None:
        return None


class VeiledFollower(BaseFollower):
    """A bank of veiled hashes that follows the feed in a background thread and can be queried.

        with VeiledFollower("https://clearinghouse.example", key, "bank") as follower:
            follower.ready()
            [hits] = follower.query([hashed.signal])

    The key needs the scopes `veil` and `match`. A signal that resembles nothing in the bank is
    answered locally and never leaves this machine. The others are candidates: the clearinghouse is
    queried about them and returns a band. Everything else is as with a `Follower`.
    """

    def query(self, signals: Sequence[Signal]) -> list[Hits]:
        """Return the hits of each signal; the hashes of candidates are sent to the clearinghouse.

        Raises:
            BankStale: the bank has never had everything in the feed, or not for `max_age`.
            ServiceError: there are candidates, and they cannot be confirmed at the moment. Delay
                the upload and query again. Signals without candidates cause no error, so query
                file by file.
        """
        confirmer = self._confirmer()
        hits = confirmer.find(signals)
        if confirmer.error is not None:
            raise confirmer.error
        return hits

    def asks(self, signals: Sequence[Signal]) -> bool:
        """Whether a query of these signals asks the clearinghouse, because one is a candidate.

        Raises:
            BankStale: the bank has never had everything in the feed, or not for `max_age`.
        """
        return bool(self._confirmer().candidates(signals))

    def _confirmer(self) -> Confirmer:
        bank = self._reliable_bank()
        assert self._veil is not None  # noqa: S101 - it was stored before the first page
        return Confirmer(bank, self._veil, self._confirm_client.match)

    def _check_bank(self) -> None:
        if self._veil is None and self.bank.cursor is not None:
            raise BankError(
                "This bank contains whole hashes, and a VeiledFollower needs veiled ones. Use "
                "another file, or a Follower."
            )

    def _required_veil(self) -> Veil:
        if (veil := self._veil) is None:
            veil = self._client.veil()
            save_veil(self._path, veil)
            self._veil = veil
        return veil

    def _open(self) -> None:
        super()._open()
        self._confirm_client = self._new_client(self._options.confirm_retry)

    def _close(self) -> None:
        try:
            super()._close()
        finally:
            self._confirm_client.close()
