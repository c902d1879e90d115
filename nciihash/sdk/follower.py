"""Keep a bank up to date beside a service that matches against it."""

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

from nciihash.bank.bank import Bank
from nciihash.client.platform import PlatformClient
from nciihash.client.sans_io import RETRY_POLICY, RetryPolicy
from nciihash.errors import BankError, NciihashError, ServiceError, explained
from nciihash.sdk.background import Background
from nciihash.sdk.follow_loop import PAUSES, WAIT, Progress, Stop, follow
from nciihash.sdk.veiled import Confirmer, keep_veil, kept_veil
from nciihash.signals import Match, Signal
from nciihash.veil import Veil
from nciihash.wire import Hits

# Between attempts after what does not pass by itself: a wrong key, a full disk, a damaged file.
REPAIRS: Final = RetryPolicy(base=10.0, cap=300.0)
# For one question about an upload, whose sender waits.
CONFIRMING: Final = RetryPolicy(
    attempts=3, total=5.0, base=0.2, cap=1.0, connect_timeout=2.0, read_timeout=5.0
)


@dataclass(frozen=True, slots=True)
class Health:
    """How a follower fares.

    Attributes:
        signals: how many the bank holds.
        age: seconds since the bank was last known to hold everything in the feed, None if it never
            was. While nothing is new it grows to `follow_loop.WAIT` and begins again; alarm at some
            minutes.
        current: whether the last page of the feed is in the bank.
        rebuilding: whether a new bank is being built beside this one, whose cursor expired.
        trouble: why nothing can be fetched or kept at the moment, as a sentence.
    """

    signals: int
    age: float | None
    current: bool
    rebuilding: bool
    trouble: str | None


class Following(Background):
    """What follows a feed into a bank in a thread: a `Follower`, or a `VeiledFollower`.

    It never gives up. What goes wrong is told in `health` and tried again; meanwhile the bank
    answers from what it has. Leaving the block breaks off the request that waits for news.

    One process follows into a bank. Others beside it open the same file with `Bank.read` and call
    `refresh`.

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        key: the platform's key, with the scope `feed`, or `veil` for a `VeiledFollower`.
        bank: the bank's file; made when absent.
        wait: seconds that the service may hold back an answer when nothing is new.
        retry: how often and how long to try a request again.
        pauses: how long to wait while the service is away.
        repairs: how long to wait after what does not pass by itself.
        http: what carries the requests, instead of real connections.
        clock: seconds that never go back.

    Raises:
        InvalidRequest: at the beginning of the block, like the following: the address or the key
            cannot be right.
        BankError: another process follows into the bank, or it is damaged, or of the other kind.
        OSError: the disk refuses.
    """

    def __init__(
        self,
        server: str,
        key: str,
        bank: str | PathLike[str],
        *,
        wait: float = WAIT,
        retry: RetryPolicy = RETRY_POLICY,
        pauses: RetryPolicy = PAUSES,
        repairs: RetryPolicy = REPAIRS,
        http: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._client: Callable[[RetryPolicy], PlatformClient] = lambda retry: PlatformClient(
            server, key, retry=retry, http=http
        )
        self._retry = retry
        self._path = Path(bank)
        self._wait = wait
        self._pauses = pauses
        self._repairs = repairs
        self._clock = clock
        self._bank: Bank | None = None
        self._known: Veil | None = None  # how the bank is veiled
        self._filled = threading.Event()
        self._progress = Progress()
        self._looked: float | None = None
        self._failures = 0

    @property
    def bank(self) -> Bank:
        """Give the bank, to be read.

        Raises:
            BankError: the follower has not begun.
        """
        if self._bank is None:
            raise BankError("The follower has not begun: use it in a `with` block.")
        return self._bank

    def ready(self, timeout: float | None = None) -> bool:
        """Wait until the bank has held everything in the feed once; tell whether it has.

        It hears of the end of the block, too.

        Args:
            timeout: seconds to wait at most; None for as long as it takes.
        """
        self._filled.wait(timeout)
        return self._looked is not None

    def health(self) -> Health:
        """Tell how it fares."""
        progress, looked = self._progress, self._looked
        return Health(
            signals=len(self.bank),
            age=None if looked is None else self._clock() - looked,
            current=progress.current,
            rebuilding=progress.rebuilding,
            trouble=progress.trouble,
        )

    @abstractmethod
    def _admit(self) -> None:
        """Refuse a bank of the other kind."""

    @abstractmethod
    def _veil(self) -> Veil | None:
        """Tell how the bank is veiled, in the thread that follows."""

    def _open(self) -> None:
        with ExitStack() as opened:
            self._asking = opened.enter_context(self._client(self._retry))
            self._bank = opened.enter_context(Bank.open(self._path))
            self._known = kept_veil(self._path)
            self._admit()
            opened.pop_all()
        self._filled.clear()
        self._progress, self._looked, self._failures = Progress(), None, 0
        self._stop = Stop()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                follow(
                    self._asking,
                    self.bank,
                    stop=self._stop,
                    tell=self._hear,
                    wait=self._wait,
                    veil=self._veil(),
                    pauses=self._pauses,
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, `health` must tell it
                self._mend(error)

    def _hear(self, progress: Progress) -> None:
        if progress.trouble is None:
            self._failures = 0
            if progress.current:
                self._looked = self._clock()
                self._filled.set()
        self._progress = progress

    def _mend(self, error: Exception) -> None:
        """Tell what broke the following off, wait a while, and open the bank anew if need be."""
        match error:
            case NciihashError():
                words = str(error)
            case OSError():
                words = explained(error)
            case _:
                words = (
                    "Following broke off in a way that nobody foresaw "
                    f"({type(error).__name__}). It is tried again; please report it."
                )
        self._progress = replace(self._progress, current=False, rebuilding=False, trouble=words)
        self._failures += 1
        self._over.wait(self._repairs.pause(self._failures))
        if isinstance(error, ServiceError) or self._over.is_set():
            return
        try:
            # After a failed write it takes no other. It answers until the new one is there, and
            # after that to whoever has asked it already.
            self.bank.close()
            self._bank = Bank.open(self._path)
        except (NciihashError, OSError):
            pass  # the next attempt to follow fails by it, and tells

    def _interrupt(self) -> None:
        self._filled.set()
        self._stop.ask()
        self._asking.break_off()

    def _close(self) -> None:
        try:
            self.bank.close()
        finally:
            self._asking.close()


class Follower(Following):
    """A bank that follows a clearinghouse's feed in a thread, and answers at any moment.

        with Follower("https://clearinghouse.example", key, "bank") as follower:
            follower.ready()
            [matches] = follower.query([hashed.signal])

    In asyncio it is `async with`, and `await asyncio.to_thread(follower.query, signals)`, since a
    query computes. Any number of threads may ask. Each answer is exact, of the bank as it is at
    that moment: after an expired cursor of the old one whole, until the new one is whole.
    """

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Find, for each signal, the bank's signals of its type within the type's threshold.

        Returns:
            One tuple for each signal, sorted by distance, then by id.
        """
        return self.bank.query(signals)

    def _admit(self) -> None:
        if self._known is not None:
            raise BankError(
                "This bank is veiled, and a Follower keeps whole hashes. Give it another file, or "
                "use a VeiledFollower."
            )

    def _veil(self) -> None:
        return None


class VeiledFollower(Following):
    """A bank of parts of hashes that follows in a thread, and has candidates confirmed.

        with VeiledFollower("https://clearinghouse.example", key, "bank") as follower:
            follower.ready()
            [hits] = follower.query([hashed.signal])

    The key has the scopes `veil` and `match`. What is like nothing in the bank is answered here,
    and does not leave this machine; the clearinghouse is asked about the rest, and its answer is a
    band. Otherwise it is as a `Follower`.

    Args:
        confirming: how often and how long to ask about candidates.
    """

    def __init__(
        self,
        server: str,
        key: str,
        bank: str | PathLike[str],
        *,
        wait: float = WAIT,
        retry: RetryPolicy = RETRY_POLICY,
        confirming: RetryPolicy = CONFIRMING,
        pauses: RetryPolicy = PAUSES,
        repairs: RetryPolicy = REPAIRS,
        http: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            server,
            key,
            bank,
            wait=wait,
            retry=retry,
            pauses=pauses,
            repairs=repairs,
            http=http,
            clock=clock,
        )
        self._confirming = confirming

    def query(self, signals: Sequence[Signal]) -> list[Hits]:
        """Find what each signal matches; the hashes of candidates go to the clearinghouse.

        Raises:
            ServiceError: there are candidates and nobody confirms them: hold what they are of back,
                and ask again. Signals without candidates raise nothing, so ask file by file.
        """
        if self._known is None:  # nothing has come yet
            return [Hits()] * len(signals)
        confirmer = Confirmer(self.bank, self._known, self._asker.match)
        hits = confirmer.find(signals)
        if confirmer.trouble is not None:
            raise confirmer.trouble
        return hits

    def _admit(self) -> None:
        if self._known is None and self.bank.cursor is not None:
            raise BankError(
                "This bank holds whole hashes, and a VeiledFollower keeps parts of them. Give it "
                "another file, or use a Follower."
            )

    def _veil(self) -> Veil:
        if (veil := self._known) is None:
            veil = self._asking.veil()
            keep_veil(self._path, veil)
            self._known = veil
        return veil

    def _open(self) -> None:
        super()._open()
        self._asker = self._client(self._confirming)

    def _close(self) -> None:
        try:
            super()._close()
        finally:
            self._asker.close()
