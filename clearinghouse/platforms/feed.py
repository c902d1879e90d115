"""The feed: pages of the log as one platform sees them, and snapshots."""

from collections.abc import Iterator, Sequence
from typing import Final

from clearinghouse.database.queries.log import LogEntry
from clearinghouse.database.store import Store
from clearinghouse.errors import CursorExpired
from clearinghouse.platforms.keys import Platform, Scope
from clearinghouse.platforms.live_index import cursor_name, feed_entries, read_place
from clearinghouse.sealing.platform_ids import PlatformIds
from nciihash.feed import FeedPage
from nciihash.veil import Veil

_SNAPSHOT_PAGE: Final = 1_000  # signals


def read_cursor(store: Store, platform: Platform, cursor: str | None) -> int:
    """Give the place in the log that a platform's cursor stands for; 0 for none.

    Raises:
        BadCursor: it was not made for this platform.
        CursorExpired: it belongs to another epoch of the log.
    """
    if cursor is None:
        return 0
    return read_place(store, platform, PlatformIds.CURSOR, cursor)


def view(platform: Platform, *, veil: bool) -> Veil | None:
    """Give the veil through which a platform sees the feed: if it asks for it, or may not else."""
    return platform.veil if veil or Scope.FEED not in platform.scopes else None


def read_page(
    store: Store, platform: Platform, after: int, limit: int, veil: Veil | None
) -> FeedPage:
    """Read a page of the log in the platform's own names.

    The page is whole: its cursor stands behind every entry that was looked at, and one state of the
    database is read.

    Raises:
        CursorExpired: the log has not got that far, so that it is not the log it was.
    """
    with store.read() as tx:
        if after > tx.log.head():
            raise CursorExpired  # of a log that was longer: the database was put back
        until, _ = tx.log.released()
        entries = tx.log.read(after, limit + 1, until=until)
    more = len(entries) > limit
    entries = entries[:limit]
    seq = entries[-1].seq if entries else after
    return _page(store, platform, entries, seq, veil, more=more)


def read_snapshot(store: Store, platform: Platform, veil: Veil | None) -> Iterator[FeedPage]:
    """Read every signal that is live now, in pages, without what has come and gone.

    Each page's cursor stands where the feed goes on behind that page: removals that are left out
    came before the first page was read, so that they concern nothing in any page.

    Raises:
        CursorExpired: the database was put back from a backup meanwhile.
    """
    epoch = store.epoch
    with store.read() as tx:
        head, _ = tx.log.released()
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
    """Write entries, and the place behind them, in the platform's own names."""
    shown = feed_entries(entries, store.vault, platform.names, veil)
    return FeedPage(shown, cursor_name(store, platform, seq), more)
