"""Follow a clearinghouse's feed into a bank on disk.

Each page is made durable in the bank before it is acknowledged, so that no survivor is shown an
addition or a deletion that a power cut could undo. After a crash the next run continues after the
last page on disk.
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import Final

from nciihash.bank.bank import Bank
from nciihash.bank.contents import ReplacementBank
from nciihash.client.platform import PlatformClient
from nciihash.client.sans_io import RETRY_POLICY, RetryPolicy
from nciihash.errors import (
    CursorExpired,
    ServiceRefused,
    ServiceUnreachable,
    VeilChanged,
    describe_os_error,
)
from nciihash.feed import Added, FeedPage
from nciihash.veil import VEILS, Veil

_log: Final = logging.getLogger("nciihash.follower")
_BACKOFF: Final = RetryPolicy(base=2.0, cap=60.0)
_REPAIR_BACKOFF: Final = RetryPolicy(base=10.0, cap=300.0)
_CONFIRM_RETRY: Final = RetryPolicy(
    attempts=3, total=5.0, base=0.2, cap=1.0, connect_timeout=2.0, read_timeout=5.0
)
_RETRY_AFTER_MAX: Final = 600.0  # seconds; the service cannot make a follower pause for longer
_STOP_CHECK: Final = 0.2  # seconds between checks of `Stop.asked` during a pause


@dataclass(frozen=True, slots=True)
class FollowerOptions:
    """How a follower reads the feed, and how it retries.

    `follow` takes a client with its own retry policy and uses `limit`, `wait` and `backoff` only.

    Attributes:
        limit: entries per page, at most 10,000.
        wait: seconds for which the service may delay an empty page (long poll), at most 30; the
            default is less than the 30 after which some proxies cut a connection.
        retry: the retry policy of each request.
        backoff: the pauses (`base`, `cap`) while the service is unavailable, after the retries of a
            request have failed.
        repair_backoff: the pauses after an error that does not pass by itself: a wrong key, a full
            disk, a damaged file.
        confirm_retry: the retry policy of a `VeiledFollower` for confirming candidates, which an
            upload waits for.
    """

    limit: int = 5_000
    wait: float = 25.0
    retry: RetryPolicy = RETRY_POLICY
    backoff: RetryPolicy = _BACKOFF
    repair_backoff: RetryPolicy = _REPAIR_BACKOFF
    confirm_retry: RetryPolicy = _CONFIRM_RETRY


DEFAULT_OPTIONS: Final = FollowerOptions()


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a follower; counts are of the current run.

    Attributes:
        signals: the number of signals in the bank.
        added: the number of signals added.
        removed: the number of signals removed.
        current: whether the bank had everything in the feed when the last page was read.
        rebuilding: whether a new bank is being built, because the cursor has expired.
        error: why the feed cannot be read at the moment, as a sentence; None while it can.
    """

    signals: int = 0
    added: int = 0
    removed: int = 0
    current: bool = False
    rebuilding: bool = False
    error: str | None = None


class _Stopped(BaseException):
    """Interrupts a wait in the main thread when a signal requests a stop."""


class Stop:
    """A request to a follower to end after the current page.

    `on_signals` makes SIGINT and SIGTERM request it, also during a long poll. Another thread can
    call `ask`, which takes effect after the long poll.

    Attributes:
        asked: whether a stop was requested.
        signal: the number of the signal that requested it, if one did.
    """

    def __init__(self) -> None:
        # plain flags: a signal handler that takes a lock could wait for the thread it interrupts
        self.asked = False
        self.signal: int | None = None
        self._waiting = False

    def ask(self) -> None:
        """Request the stop."""
        self.asked = True

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM while the block runs, which must be in the main thread."""

        def handle(number: int, _frame: FrameType | None) -> None:
            self.asked = True
            self.signal = number
            if self._waiting:
                raise _Stopped

        previous = {
            number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Allow a signal to interrupt the block, which may do nothing that has to be finished.

        Raises:
            _Stopped: a stop was requested, before the block or by a signal during it.
        """
        self._waiting = True
        try:
            if self.asked:
                raise _Stopped
            yield
        finally:
            self._waiting = False

    def sleep(self, seconds: float) -> None:
        """Pause, but no longer than until a stop is requested."""
        end = time.monotonic() + seconds
        with self.waiting():
            while not self.asked and (remaining := end - time.monotonic()) > 0:
                time.sleep(min(remaining, _STOP_CHECK))


def follow(
    client: PlatformClient,
    bank: Bank,
    options: FollowerOptions = DEFAULT_OPTIONS,
    *,
    once: bool = False,
    stop: Stop | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    veil: Veil | None = None,
    now: Callable[[], float] = time.time,
) -> Progress:
    """Read the feed into a bank until a stop is requested.

    If the cursor has expired, a replacement is built while the bank still answers, and adopted when
    it is complete. While the service is unreachable or busy, requests are retried without end, with
    random pauses of growing length.

    Args:
        client: a platform's client, with a key that may read the feed.
        bank: the bank, opened for following.
        options: the page size, the wait of a long poll and the pauses.
        once: return as soon as everything in the feed is in the bank and acknowledged, and raise
            errors that would otherwise be retried.
        stop: requests the end.
        on_progress: called after each page, when a rebuild begins, and when an error is retried.
        veil: the veil of a bank that contains only a part of each hash.
        now: Unix time in seconds; it is noted next to the bank when the bank has everything in the
            feed, for processes that read the bank (`Bank.current_at`).

    Returns:
        The progress at the end.

    Raises:
        ServiceError: the key is wrong, a response is invalid, or, with `once`, there is none.
        BankError: the bank cannot be written.
        VeilChanged: the service now returns another part of each hash; nothing of it was stored.
        OSError: the disk is full or failing.
    """
    stop = stop or Stop()
    run = _Run(client, bank, options, stop, on_progress, veil, now)
    failures = 0
    while not stop.asked:
        try:
            run.acknowledge()
            if once and run.progress.current:
                break
            run.pull(options.wait if run.progress.current and not once else 0.0)
            failures = 0
        except CursorExpired:
            if not run.may_rebuild:
                raise
            run.rebuild()
        except (ServiceUnreachable, ServiceRefused) as error:
            if once or not error.transient:
                raise
            failures += 1
            run.report(replace(run.progress, error=str(error)))
            retry_after = error.retry_after if isinstance(error, ServiceRefused) else None
            pause = max(options.backoff.pause(failures), min(retry_after or 0.0, _RETRY_AFTER_MAX))
            with suppress(_Stopped):
                stop.sleep(pause)
        except _Stopped:
            break
    return run.progress


class _Run:
    """The state of one run of `follow`: its progress, and the cursor still to be acknowledged."""

    def __init__(
        self,
        client: PlatformClient,
        bank: Bank,
        options: FollowerOptions,
        stop: Stop,
        on_progress: Callable[[Progress], None] | None,
        veil: Veil | None,
        now: Callable[[], float],
    ) -> None:
        self.progress = Progress(signals=len(bank))
        self._client = client
        self._bank = bank
        self._options = options
        self._stop = stop
        self._on_progress = on_progress
        self._veil = veil
        self._now = now
        self._replacement: ReplacementBank | None = None
        # One rebuild until a cursor is accepted again: a service that refuses the cursors it has
        # just issued would otherwise be asked for its whole feed forever.
        self.may_rebuild = True
        # a run that was killed may have left its last page on disk without acknowledging it
        self._unacknowledged = bank.cursor

    def acknowledge(self) -> None:
        """Acknowledge what is in the bank and has not been acknowledged."""
        if self._unacknowledged is not None:
            with self._stop.waiting():
                self._client.acknowledge(self._unacknowledged)
            self._unacknowledged = None
            self.may_rebuild = True

    def pull(self, wait: float) -> None:
        """Fetch the next page and make it durable."""
        target = self._bank if self._replacement is None else self._replacement
        with self._stop.waiting():
            page = self._client.feed(
                target.cursor,
                limit=self._options.limit,
                wait=wait,
                veil=self._veil is not None,
            )
        _check_veil(self._veil, page)
        before = self._bank.cursor
        changes = target.append(page)
        if self._replacement is not None and not page.more:
            self._bank.adopt(self._replacement)
            self._replacement = None
            self._unacknowledged = page.cursor
        elif self._bank.cursor != before:
            self._unacknowledged = self._bank.cursor
        if not page.more:
            self._note_current()
        self.report(
            replace(
                self.progress,
                signals=len(self._bank),
                added=self.progress.added + changes.added,
                removed=self.progress.removed + changes.removed,
                current=not page.more,
                rebuilding=self._replacement is not None,
                error=None,
            )
        )

    def rebuild(self) -> None:
        """Start a replacement of the bank, from the beginning of the feed."""
        self._replacement = self._bank.replacement()
        self._unacknowledged = None
        self.may_rebuild = False
        self.report(replace(self.progress, current=False, rebuilding=True))

    def _note_current(self) -> None:
        try:
            self._bank.note_current(self._now())
        except OSError as error:  # the bank itself is on the disk; it only looks older to readers
            _log.warning(
                "Other processes cannot see how old the bank is: %s", describe_os_error(error)
            )

    def report(self, progress: Progress) -> None:
        """Update the progress and report it."""
        self.progress = progress
        if self._on_progress is not None:
            self._on_progress(progress)


def _check_veil(veil: Veil | None, page: FeedPage) -> None:
    """Refuse a page whose hashes are not veiled as the bank is.

    Raises:
        VeilChanged: the page has veiled hashes of another type, or for a bank without a veil.
    """
    for entry in page.entries:
        if not isinstance(entry, Added) or entry.signal.type not in VEILS:
            continue
        if veil is None:
            raise VeilChanged(
                "With this key the clearinghouse returns only a part of each hash. Follow with "
                "--veil into another bank, or ask the operator for a key with the scope `feed`."
            )
        if entry.signal.type is not veil.type:
            raise VeilChanged(
                f"With this key the clearinghouse now returns hashes of type {entry.signal.type}, "
                f"but the bank contains {veil.type}. Follow into a new --bank, then match against "
                "that one."
            )
