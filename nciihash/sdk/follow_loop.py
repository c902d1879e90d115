"""Follow a clearinghouse's feed into a bank on disk.

Each page is made durable in the bank and only then acknowledged, so that a survivor is never told
of a deletion, or an addition, that a power cut could undo. Whenever this process dies, the next one
goes on behind the last page on disk.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import Final

from nciihash.bank.bank import Bank
from nciihash.bank.contents import Replacement
from nciihash.client.platform import PlatformClient
from nciihash.client.sans_io import RetryPolicy
from nciihash.errors import CursorExpired, ServiceRefused, ServiceUnreachable, VeilChanged
from nciihash.feed import Added, FeedPage
from nciihash.veil import VEILS, Veil

WAIT: Final = 25.0  # seconds of one long poll; under the 30 that some proxies allow
LIMIT: Final = 5_000  # entries in a page
# Between attempts that failed although the client itself had tried several times.
PAUSES: Final = RetryPolicy(base=2.0, cap=60.0)

_ASKED_MAX: Final = 600.0  # seconds; a service cannot send a follower to sleep for longer
_SLICE: Final = 0.2  # seconds between looks at whether to stop


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a follower has come; counts are of this run.

    Attributes:
        signals: how many the bank holds.
        added: signals that joined.
        removed: signals that left.
        current: whether the bank holds everything that was in the feed at the last look.
        rebuilding: whether a new bank is being built, because the old one's cursor expired.
        trouble: why nothing can be fetched at the moment.
    """

    signals: int = 0
    added: int = 0
    removed: int = 0
    current: bool = False
    rebuilding: bool = False
    trouble: str | None = None


class _Stopped(BaseException):
    """Breaks off a wait in the main thread when a signal asks to stop."""


class Stop:
    """Asks a follower to end between two pages; `on_signals` lets SIGINT and SIGTERM ask.

    From another thread call `ask`: the follower ends at the end of its long poll.
    """

    def __init__(self) -> None:
        # Plain flags, no lock: a signal handler that took one could wait for itself.
        self.asked = False
        self.signal: int | None = None  # which one asked, if one did
        self._waiting = False

    def ask(self) -> None:
        """Ask."""
        self.asked = True

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask while the block runs, which is in the main thread."""

        def handle(number: int, _frame: FrameType | None) -> None:
            self.asked = True
            self.signal = number
            if self._waiting:
                raise _Stopped

        kept = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let a signal break off the block: nothing in it may need to be finished.

        Raises:
            _Stopped: it was asked, before or meanwhile.
        """
        self._waiting = True
        try:
            if self.asked:
                raise _Stopped
            yield
        finally:
            self._waiting = False

    def sleep(self, seconds: float) -> None:
        """Wait, unless asked to stop."""
        end = time.monotonic() + seconds
        with self.waiting():
            while not self.asked and (left := end - time.monotonic()) > 0:
                time.sleep(min(left, _SLICE))


def follow(
    client: PlatformClient,
    bank: Bank,
    *,
    once: bool = False,
    stop: Stop | None = None,
    tell: Callable[[Progress], None] | None = None,
    limit: int = LIMIT,
    wait: float = WAIT,
    veil: Veil | None = None,
    pauses: RetryPolicy = PAUSES,
) -> Progress:
    """Pull the feed into a bank until told to stop.

    An expired cursor builds a replacement beside the bank, which goes on matching meanwhile, and
    swaps it in when it is complete. While the service cannot be reached, or is busy, it is tried
    again and again, with growing random pauses.

    Args:
        client: a platform's client, with a key for the feed.
        bank: opened for following.
        once: end as soon as everything in the feed is in the bank and acknowledged, and raise what
            goes wrong instead of trying on.
        stop: asks to end.
        tell: hears of each page, of trouble, and of its end.
        limit: entries in a page.
        wait: seconds that the service may hold back an answer when nothing is new.
        veil: how the bank is veiled, when it is to hold only a part of each hash.
        pauses: how long to wait between attempts.

    Returns:
        How far it came.

    Raises:
        ServiceError: the key is wrong, an answer makes no sense, or, with `once`, no answer.
        BankError: the bank cannot be written.
        VeilChanged: the service now shows another part of each hash; nothing of it was taken in.
        OSError: the disk is full or failing.
    """
    stop = stop or Stop()
    follower = _Follower(client, bank, stop, tell, limit, veil=veil)
    failures = 0
    while not stop.asked:
        try:
            follower.acknowledge()
            if once and follower.progress.current:
                break
            follower.pull(wait if follower.progress.current and not once else 0.0)
            failures = 0
        except CursorExpired:
            if not follower.may_rebuild:
                raise
            follower.rebuild()
        except (ServiceUnreachable, ServiceRefused) as error:
            if once or not error.passing:
                raise
            failures += 1
            follower.report(replace(follower.progress, trouble=str(error)))
            asked = error.retry_after if isinstance(error, ServiceRefused) else None
            with suppress(_Stopped):
                stop.sleep(max(pauses.pause(failures), min(asked or 0.0, _ASKED_MAX)))
        except _Stopped:
            break
    return follower.progress


class _Follower:
    """One run: where its pages go, and what is not acknowledged yet."""

    def __init__(
        self,
        client: PlatformClient,
        bank: Bank,
        stop: Stop,
        tell: Callable[[Progress], None] | None,
        limit: int,
        *,
        veil: Veil | None,
    ) -> None:
        self.progress = Progress(signals=len(bank))
        self._client = client
        self._bank = bank
        self._stop = stop
        self._tell = tell
        self._limit = limit
        self._veil = veil
        self._replacement: Replacement | None = None
        # Once, until a cursor is taken again: a service that refuses those it has just given
        # would be asked for its whole feed for ever.
        self.may_rebuild = True
        # A run that was killed may have left its last page on disk and unacknowledged.
        self._pending = bank.cursor

    def acknowledge(self) -> None:
        """Confirm what is in the bank and was not confirmed."""
        if self._pending is not None:
            with self._stop.waiting():
                self._client.acknowledge(self._pending)
            self._pending = None
            self.may_rebuild = True

    def pull(self, wait: float) -> None:
        """Fetch the next page and make it durable."""
        target = self._bank if self._replacement is None else self._replacement
        with self._stop.waiting():
            page = self._client.feed(
                target.cursor, limit=self._limit, wait=wait, veil=self._veil is not None
            )
        _require(self._veil, page)
        confirmed = self._bank.cursor
        applied = target.append(page)
        if self._replacement is not None and not page.more:
            self._bank.adopt(self._replacement)
            self._replacement = None
            self._pending = page.cursor
        elif self._bank.cursor != confirmed:
            self._pending = self._bank.cursor
        self.report(
            replace(
                self.progress,
                signals=len(self._bank),
                added=self.progress.added + applied.added,
                removed=self.progress.removed + applied.removed,
                current=not page.more,
                rebuilding=self._replacement is not None,
                trouble=None,
            )
        )

    def rebuild(self) -> None:
        """Begin a new bank from the beginning of the feed."""
        self._replacement = self._bank.replacement()
        self._pending = None
        self.may_rebuild = False
        self.report(replace(self.progress, current=False, rebuilding=True))

    def report(self, progress: Progress) -> None:
        """Tell how far it came."""
        self.progress = progress
        if self._tell is not None:
            self._tell(progress)


def _require(veil: Veil | None, page: FeedPage) -> None:
    """Refuse a page that a bank under this veil, or under none, would never be asked for."""
    for entry in page.entries:
        if not isinstance(entry, Added) or entry.signal.type not in VEILS:
            continue
        if veil is None:
            raise VeilChanged(
                "The clearinghouse shows this key only a part of each hash. Follow with --veil, "
                "into a bank of its own."
            )
        if entry.signal.type is not veil.type:
            raise VeilChanged(
                f"The clearinghouse now shows this key {entry.signal.type} of each hash, and the "
                f"bank holds {veil.type}. Follow into a new --bank, then match against that one."
            )
