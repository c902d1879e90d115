"""A bank that another process on this machine follows the feed into, kept up to date for queries.

The process that follows notes next to the bank when it had everything in the feed
(`Bank.current_at`). The reader's age is the time since that note, by the clock of this machine.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash.bank.bank import Bank
from nciihash.bank.candidates import Candidates
from nciihash.errors import BankError
from nciihash.sdk.background import BackgroundThread, failure
from nciihash.sdk.bank_age import check_age, noted_age
from nciihash.sdk.follower import Health
from nciihash.sdk.veiled import load_veil
from nciihash.signals import Match, Signal, SignalType

# The age up to which a bank counts as current. A follower without news waits for 25 seconds.
_CURRENT_SECONDS: Final = 60.0
_log: Final = logging.getLogger("nciihash.follower")


class BankReader(BackgroundThread):
    """A bank of whole hashes that another process follows into, for queries in this one.

        with BankReader("bank", max_age=300) as reader:
            reader.ready()
            matches = Matcher(reader).find("upload.jpg")

    One process of a service, or `nciihash follow`, follows the feed into the bank; any number of
    others read it like this. A background thread loads what is new every `interval` seconds. Like a
    `Follower`, it never gives up: it reports errors in `health` and retries, and waits for a bank
    that does not exist yet. In asyncio use `async with`.

    Args:
        bank: the path of the bank.
        interval: seconds between two checks of the files.
        max_age: seconds after which a bank that has not had everything in the feed is too old to be
            queried (`BankStale`); some minutes. None for no limit.
        now: Unix time in seconds.

    Raises:
        BankError: on entering the block: the bank is damaged, or it is veiled.
        OSError: on entering the block: the bank cannot be opened.
    """

    def __init__(
        self,
        bank: str | PathLike[str],
        *,
        interval: float = 1.0,
        max_age: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._path = Path(bank)
        self._interval = interval
        self._max_age = max_age
        self._now = now
        self._bank: Bank | None = None
        self._current_at: float | None = None  # of what is in memory
        self._error: str | None = None
        self._ready = threading.Event()  # set when the age is known, and when the block ends

    @property
    def bank(self) -> Bank:
        """The bank, for reading, whatever its age.

        Raises:
            BankError: there is none yet, or the reader has not been started.
        """
        if self._bank is None:
            raise BankError(
                f"There is no bank at {self._path} yet. Follow the feed into it, and use the "
                "reader in a `with` block."
            )
        return self._bank

    def ready(self, timeout: float | None = None) -> bool:
        """Wait until the bank is known to have had everything in the feed.

        Args:
            timeout: seconds to wait at most; None for no limit.

        Returns:
            Whether it has; False after the timeout, or if the block has ended first.
        """
        self._ready.wait(timeout)
        return self._current_at is not None

    def health(self) -> Health:
        """Return the state of the bank.

        `current` is whether it had everything in the feed within the last minute, and `rebuilding`
        is not known here. The error is of reading the bank; the one who follows has its own.
        """
        age = noted_age(self._current_at, self._now())
        return Health(
            signals=0 if self._bank is None else len(self._bank),
            age=age,
            current=age is not None and age <= _CURRENT_SECONDS,
            rebuilding=False,
            error=self._error,
        )

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Return the matches of each signal, as `Follower.query` does.

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

    def _reliable_bank(self) -> Bank:
        check_age(noted_age(self._current_at, self._now()), self._max_age)
        return self.bank

    def _open(self) -> None:
        self._ready.clear()
        self._bank, self._current_at, self._error = None, None, None
        if self._path.exists():
            self._read()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self._read()
            except Exception as error:  # noqa: BLE001 - `health` must report every error
                self._report(failure(error, "Reading"))
            else:
                self._report(None)

    def _read(self) -> None:
        """Load what is new, and note the age of what is in memory.

        The note is read before the pages: what is loaded afterwards is at least as new.
        """
        if self._bank is None:
            if load_veil(self._path) is not None:
                raise BankError(
                    "This bank is veiled, and a BankReader needs whole hashes. Use another file."
                )
            self._bank = Bank.read(self._path)
        current_at = self._bank.current_at
        if self._bank.refresh() and current_at is None:  # it may have replaced another bank
            current_at = self._bank.current_at
            self._bank.refresh()
        self._current_at = current_at
        if current_at is not None:
            self._ready.set()

    def _report(self, error: str | None) -> None:
        if error is not None and error != self._error:
            _log.warning("The bank cannot be read, and that is retried: %s", error)
        self._error = error

    def _interrupt(self) -> None:
        self._ready.set()

    def _close(self) -> None:
        if self._bank is not None:
            self._bank.close()
