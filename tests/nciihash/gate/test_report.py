import pytest

from nciihash.gate.decisions.records import DecisionKind, KindCount, StateCount
from nciihash.gate.decisions.report import COLUMNS, report
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.signals import Band, Media, Verdict

BLOCKED, NOT_BLOCKED, PENDING = Verdict.BLOCKED, Verdict.NOT_BLOCKED, Verdict.PENDING


def kind(decision, reason, *, stopped=False, dry_run=False, band=None, dialect=Dialect.HTTP):
    return DecisionKind(dialect, Media.IMAGE, decision, reason, band, stopped, dry_run)


BLOCK = kind(Decision.BLOCK, Reason.MATCH, stopped=True, band=Band.STRONG)
REVIEW = kind(Decision.REVIEW, Reason.FLOOD, band=Band.LIKELY)
CLEAR = kind(Decision.CLEAR, Reason.NO_MATCH)
UNCHECKED = kind(Decision.UNCHECKED, Reason.BANK_STALE, stopped=True, dialect=Dialect.CLAMD)


def dry(decision, reason, *, stopped=True):
    return kind(decision, reason, stopped=stopped, dry_run=True)


def test_uploads_verdicts_and_overturned_blocks_are_counted():
    result = report(
        "2026-11",
        [
            KindCount(CLEAR, 900),
            KindCount(BLOCK, 10),
            KindCount(REVIEW, 5),
            KindCount(UNCHECKED, 2),
        ],
        [
            StateCount(BLOCK, BLOCKED, None, 6),
            StateCount(BLOCK, BLOCKED, 1, 1),
            StateCount(BLOCK, NOT_BLOCKED, 5, 3),
            StateCount(REVIEW, NOT_BLOCKED, 2, 4),  # it was never stopped: nothing is overturned
            StateCount(REVIEW, PENDING, None, 1),
        ],
    )
    assert result.totals() == {
        "uploads": 917,
        "stopped": 12,
        "decided": 8,
        "median_hours": 2.0,  # of 1, 2, 2, 2, 2, 5, 5, 5
        "overturned": 3,
    }
    rows = {row.kind: row for row in result.rows}
    assert list(rows) == [UNCHECKED, BLOCK, CLEAR, REVIEW]
    assert (rows[BLOCK].decided, rows[BLOCK].median_hours, rows[BLOCK].overturned) == (4, 5.0, 3)
    assert rows[BLOCK].states == {BLOCKED: 7, NOT_BLOCKED: 3}
    assert (rows[CLEAR].decided, rows[CLEAR].median_hours) == (0, None)
    fields = rows[BLOCK].fields("2026-11")
    assert tuple(fields) == COLUMNS
    assert (fields["decision"], fields["band"], fields["blocked"]) == ("block", "strong", 7)
    assert rows[UNCHECKED].fields("2026-11")["band"] is None


@pytest.mark.parametrize(
    ("hours", "median"),
    [({3: 1}, 3.0), ({0: 1, 3: 1}, 1.5), ({0: 2, 7: 1}, 0.0), ({1: 1, 2: 1, 9: 2}, 5.5)],
)
def test_the_median_is_weighted(hours, median):
    states = [StateCount(BLOCK, BLOCKED, each, count) for each, count in hours.items()]
    assert report("2026-11", [], states).median_hours == median


def test_a_dry_run_says_what_would_have_been_stopped_and_why():
    result = report(
        "2026-11",
        [
            KindCount(BLOCK, 1),
            KindCount(dry(Decision.BLOCK, Reason.MATCH), 7),
            KindCount(dry(Decision.REVIEW, Reason.FLOOD), 2),
            KindCount(dry(Decision.REVIEW, Reason.FLOOD, stopped=False), 4),
            KindCount(dry(Decision.UNREADABLE, Reason.CORRUPT), 3),
            KindCount(dry(Decision.CLEAR, Reason.NO_MATCH, stopped=False), 80),
        ],
        [],
    )
    assert result.uploads == result.stopped == 1
    assert result.dry_run() == {
        "uploads": 96,
        "would_have_stopped": 12,
        "reasons": {"match": 7, "corrupt": 3, "flood": 2},
    }
    assert list(result.dry_run()["reasons"]) == ["match", "corrupt", "flood"]


def test_decisions_that_a_crash_left_uncounted_count():
    result = report("2026-11", [KindCount(BLOCK, 1)], [StateCount(BLOCK, BLOCKED, None, 4)])
    assert result.uploads == 4


def test_an_empty_month():
    result = report("2026-11", [], [])
    assert result.rows == ()
    assert result.totals()["uploads"] == 0
    assert result.dry_run()["reasons"] == {}
