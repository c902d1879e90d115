"""The status of a case: its files, and what each platform did about them."""

from collections import defaultdict
from datetime import datetime

from clearinghouse.database.schema import AnyRow
from clearinghouse.database.transaction import Transaction
from clearinghouse.platforms.keys import FOLLOWING, Scope, read_scopes
from clearinghouse.times import Hour, day, hour, moment
from nciihash.signals import Media, Verdict
from nciihash.wire import CaseState, CaseStatus, ItemStatus, PlatformStatus, Reason, TakenOut


def status(tx: Transaction, case: int, *, now: datetime) -> CaseStatus:
    """Return the status of a case."""
    row = tx.cases.read(case)
    listed = _Platforms(tx, case, now)
    item_flags = tx.reviews.item_flags(case)
    return CaseStatus(
        state=CaseState(row.state),
        reason=Reason(row.reason),
        opened=moment(row.opened),
        expires=moment(row.expires),
        items=tuple(
            ItemStatus(
                item=item.ordinal,
                media=Media(item.media),
                signals=item.signals,
                added=moment(item.added),
                withdrawn=_moment(item.withdrawn),
                held_back=item_flags[item.id][0] or 0 < item.held == item.live,
                being_checked=item.held,
                taken_out=_taken_out(item_flags[item.id][1]),
                complete=item.awaiting_after is None,
                platforms=listed.about(item),
            )
            for item in tx.cases.items(case)
        ),
    )


class _Platforms:
    """What each platform did about the files of one case.

    Anybody who has a picture can open a case for it. Counts of matches and verdicts are therefore
    those of the last midnight (UTC), rounded down to a power of ten: a case must not show when and
    how often a picture is uploaded somewhere.
    """

    def __init__(self, tx: Transaction, case: int, now: datetime) -> None:
        self._scopes: dict[int, set[Scope]] = defaultdict(set)
        for key in tx.platforms.list_keys():
            if key.revoked is None and key.expires > hour(now):
                self._scopes[key.platform_id] |= set(read_scopes(key.scopes))
        self._confirmed = {
            (item, platform): (_moment(has), _moment(gone))
            for item, platform, has, gone in tx.cases.acknowledgement_hours(case)
        }
        self._verdicts: dict[tuple[int, int], dict[Verdict, int]] = defaultdict(dict)
        today = day(now)
        for item, platform, verdict, count in tx.cases.verdicts(case, today):
            self._verdicts[item, platform][Verdict(verdict)] = coarse(count)
        self._matches = {
            (item, by): coarse(count) for item, by, count in tx.cases.matches(case, today)
        }
        self._names = [(row.id, row.name) for row in tx.platforms.all()]

    def about(self, item: AnyRow) -> tuple[PlatformStatus, ...]:
        """Return the participating platforms, and former ones that have something on this file."""
        rows = []
        for platform, name in self._names:
            scopes = self._scopes.get(platform, set())
            follows = not FOLLOWING.isdisjoint(scopes)
            # the log has no entry for a file that is held back
            has, gone = self._confirmed.get((item.id, platform), (None, None))
            verdicts = self._verdicts.get((item.id, platform), {})
            matches = self._matches.get((item.id, platform), 0)
            if platform not in self._scopes and not (has or matches or verdicts):
                continue
            rows.append(
                PlatformStatus(
                    platform=name,
                    # a platform without a valid key may still have what it once acknowledged
                    follows=follows or has is not None,
                    veiled=follows and Scope.FEED not in scopes,
                    has_it_since=has,
                    matches=matches,
                    verdicts=verdicts,
                    deletion_acknowledged=gone,
                )
            )
        return tuple(rows)


def coarse(count: int) -> int:
    """Round a count down to a power of ten; 0 stays 0."""
    return 10 ** (len(str(count)) - 1) if count else 0


def _taken_out(by: str | None) -> TakenOut | None:
    return None if by is None else TakenOut(by)


def _moment(hour: Hour | None) -> datetime | None:
    return None if hour is None else moment(hour)
