"""The feed: pages of the log under a platform's own ids, and snapshots of what is live."""

from collections.abc import Iterator, Sequence
from typing import Final

from clearinghouse.database.queries.log import LogEntry
from clearinghouse.database.store import Store
from clearinghouse.errors import CursorExpired
from clearinghouse.platforms.keys import Platform, Scope
from clearinghouse.platforms.live_index import feed_entries, make_cursor, read_seq
from clearinghouse.sealing.platform_ids import PlatformIds
from nciihash.feed import FeedPage
from nciihash.veil import Veil

_SNAPSHOT_PAGE: Final = 1_000  # signals


def read_cursor(store: Store, platform: Platform, cursor: str | None) -> int:
    """Return the log position (seq) that a platform's cursor encodes; 0 for no cursor.

    Raises:
        BadCursor: the cursor was not issued to this platform.
        CursorExpired: the cursor is of another epoch of the log.
    """
    if cursor is None:
        return 0
    return read_seq(store, platform, PlatformIds.CURSOR, cursor)


def view(platform: Platform, *, veil: bool) -> Veil | None:
    """Return the veil to apply to a platform's feed; None if it gets whole hashes.

    Args:
        platform: the reader.
        veil: whether it asked for veiled hashes although its key may read whole ones.
    """
    return platform.veil if veil or Scope.FEED not in platform.scopes else None


def read_page(
    store: Store, platform: Platform, after: int, limit: int, veil: Veil | None
) -> FeedPage:
    """Return a page of the log under the platform's own ids.

    The page is read in one transaction, and its cursor comes after every entry that was examined,
    also after those that are not sent (`feed_entries`).

    Args:
        store: the database.
        platform: the reader.
        after: the log position (seq) after which to read.
        limit: the maximum number of log entries to examine.
        veil: applied to each hash; None for whole hashes.

    Raises:
        CursorExpired: `after` is beyond the end of the log: the database was restored.
    """
    with store.read() as tx:
        if after > tx.log.head():
            raise CursorExpired  # the log was longer before the database was restored
        until, _ = tx.log.release_point()
        entries = tx.log.read(after, limit + 1, until=until)
    more = len(entries) > limit
    entries = entries[:limit]
    seq = entries[-1].seq if entries else after
    return _page(store, platform, entries, seq, veil, more=more)


def read_snapshot(store: Store, platform: Platform, veil: Veil | None) -> Iterator[FeedPage]:
    """Yield pages of the signals that are live now, without those that were added and removed.

    The feed continues from the cursor of any of these pages. The omitted removals were logged
    before the first page was read, so they concern no signal in the pages.

    Raises:
        CursorExpired: the database was restored from a backup while pages were read.
    """
    epoch = store.epoch
    with store.read() as tx:
        head, _ = tx.log.release_point()
    after, more = 0, True
    while more:
        with store.read() as tx:
            entries = tx.log.read(after, _SNAPSHOT_PAGE + 1, until=head, live=True)
            if tx.log.epoch() != epoch:
                raise CursorExpired
        more = len(entries) > _SNAPSHOT_PAGE
        entries = entries[:_SNAPSHOT_PAGE]
        after = entries[-1].seq if more else head
        yield _page(store, platform, entries, after, veil, more=more)


def _page(
    store: Store,
    platform: Platform,
    entries: Sequence[LogEntry],
    seq: int,
    veil: Veil | None,
    *,
    more: bool,
) -> FeedPage:
    """Return entries and the cursor after them under the platform's own ids."""
    page = feed_entries(entries, store.vault, platform.ids, veil)
    return FeedPage(page, make_cursor(store, platform, seq), more)
