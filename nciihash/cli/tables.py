"""Tables for people: hashes, near-duplicates, matches, and the status of cases."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from os import PathLike, fsdecode
from pathlib import Path
from typing import Final

from rich.table import Table
from rich.text import Text

from nciihash.gate.decisions.report import Report
from nciihash.sdk.lookup import LookupResult
from nciihash.signals import QUALITY_MIN, Band, Hashed, Item, Match, SignalType, Verdict
from nciihash.vpdq import Share
from nciihash.wire import CaseStatus, Hit, ItemStatus, PlatformStatus, TakenOut
from nciihash.wire.advocates import AssistedCase

_UNKNOWN: Final = "not known"
_NOT_RETURNED: Final = "not returned"  # by a clearinghouse

_VERDICTS: Final = {
    Verdict.PENDING: "under review",
    Verdict.BLOCKED: "blocked",
    Verdict.NOT_BLOCKED: "not blocked",
    Verdict.UNSURE: "unsure",
}


def shown(text: str | PathLike[str]) -> str:
    """Return a file name, or text from a service, without characters that control a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in fsdecode(text))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def hash_table(rows: Iterable[tuple[str, Item]]) -> Table:
    """Return a table of files' hashes, one per row, each with its quality."""
    rows = list(rows)
    timed = any(hashed.time is not None for _, item in rows for hashed in item.hashes)
    table = _table("File", *(("Second",) if timed else ()), "Type", "Variant", "Hash", "Quality")
    # A 64-digit hash in three lines leaves space for a file name on a narrow terminal.
    table.columns[-2].min_width = 24
    for name, item in rows:
        for hashed in item.hashes:
            time = "" if hashed.time is None else f"{hashed.time:.2f}"
            table.add_row(
                Text(shown(name)),
                *((time,) if timed else ()),
                hashed.signal.type.value,
                hashed.variant.value,
                hashed.signal.hex,
                _quality(hashed),
            )
    return table


def _quality(hashed: Hashed) -> str:
    """Return the quality of a hash, and why it cannot be submitted if it cannot."""
    if hashed.quality is None:
        return "-"
    if hashed.quality < QUALITY_MIN:
        return f"{hashed.quality} (too plain to submit)"
    return f"{hashed.quality} (too regular to submit)" if hashed.tied else str(hashed.quality)


def group_table(groups: Iterable[Sequence[tuple[Path, int]]]) -> Table:
    """Return a table of near-duplicates.

    Args:
        groups: the files of each group, each with its distance in bits to the nearest other one.
    """
    table = _table("Group", "File", "Distance")
    for number, group in enumerate(groups, 1):
        for path, distance in group:
            table.add_row(f"{number:,}", Text(shown(path)), f"{distance} bits")
    return table


def exception_table(rows: Iterable[Mapping[str, object]]) -> Table:
    """Return a table of what a gate's operators have excepted, given as JSON fields."""
    table = _table("Number", "Reference", "By", "Hour (UTC)")
    for row in rows:
        table.add_row(
            *(Text(shown(str(row[name]))) for name in ("number", "reference", "by", "hour"))
        )
    return table


def report_table(report: Report) -> Table:
    """Return a table of a gate's report, with one row for each kind of decision."""
    table = _table(
        "Dialect", "Media", "Decision", "Reason", "Band", "Uploads", "Decided", "Overturned"
    )
    for row in report.rows:
        kind = row.kind
        stopped = "would stop" if kind.dry_run else "stopped"
        decision = f"{kind.decision} ({stopped})" if kind.stopped else kind.decision.value
        table.add_row(
            f"{kind.dialect} (dry run)" if kind.dry_run else kind.dialect.value,
            kind.media or "-",
            decision,
            kind.reason,
            kind.band or "-",
            f"{row.uploads:,}",
            f"{row.decided:,}",
            f"{row.overturned:,}",
        )
    return table


def match_table(rows: Iterable[tuple[str, LookupResult]]) -> Table:
    """Return a table of matches. A clearinghouse, unlike a local bank, returns no distances.

    A video has a row for each item: its nearest signal, and how many frames match on either side.
    A match of a part of a picture says what was done to it, and what is visible of the original.
    """
    table = _table("File", "Match", "Distance", "Type", "Variant", "Signal")
    rows = list(rows)
    videos = {name: result.shared for name, result in rows if result.shared}
    edited = any(isinstance(m, Match) and m.edit for _, result in rows for _, m in result.found)
    if edited:
        table.add_column("Edit", overflow="fold")
        table.add_column("Visible", overflow="fold")
    if videos:
        table.add_column("Frames here", overflow="fold")
        table.add_column("Frames there", overflow="fold")
    for name, result in rows:
        frames = {shared.item: shared for shared in videos.get(name, ())}
        if not result.found:
            table.add_row(Text(shown(name)), "none")
        items_shown = set()
        for type, match in result.found:
            of_item = frames.get(match.item) if type is SignalType.PDQ else None
            if of_item is not None:
                if match.item in items_shown:
                    continue
                items_shown.add(match.item)
            more = _edit(match) if edited else ()
            if of_item is not None:
                more += _share(of_item.query), _share(of_item.bank)
            table.add_row(Text(shown(name)), *_match(type, match, result), match.id, *more)
        if result.truncated:
            table.add_row(Text(shown(name)), "more", *[_NOT_RETURNED] * 4)
    return table


def _match(
    type: SignalType, match: Match | Hit, result: LookupResult
) -> tuple[Text, str, str, str]:
    """Return the cells of a match: its band, distance, type and variant."""
    band = _band(match.band)
    if result.needs_review(match):
        band.append(", review")
    if not isinstance(match, Match):
        return band, _NOT_RETURNED, type.value, _NOT_RETURNED
    distance = f"{match.distance} of {type.bits}"
    if match.aligned is not None:
        distance += f", {match.aligned} aligned"
    return band, distance, type.value, match.variant.value


def _edit(match: Match | Hit) -> tuple[str, ...]:
    """Return the cells of an edit: its description, and what is visible of the original."""
    if not isinstance(match, Match) or match.edit is None:
        return "", ""
    if match.edit.crop is None:
        return str(match.edit), _UNKNOWN
    left, top, right, bottom = match.edit.crop
    return str(match.edit), f"{left:.0%} to {right:.0%} across, {top:.0%} to {bottom:.0%} down"


def _share(share: Share | None) -> str:
    return _NOT_RETURNED if share is None else f"{share.found:,} of {share.frames:,}"


def _band(band: Band) -> Text:
    return Text(band.value, style="bold red" if band is Band.STRONG else "yellow")


def status_table(status: CaseStatus) -> Table:
    """Return a table of what each platform did about each file of a case."""
    table = _table("File", "Platform", "Has it since", "Matches", "Decisions", "Deletion confirmed")
    for item in status.items:
        name = f"{item.item}{_state(item)}"
        if not item.platforms:
            table.add_row(name, "no platform takes part yet", "", "", "", "")
        for platform in item.platforms:
            table.add_row(
                name,
                Text(shown(platform.platform)),
                _has_it_since(platform),
                _matches(platform),
                _decisions(platform),
                _deletion(item, platform),
            )
            name = ""
    return table


def assisted_table(cases: Sequence[AssistedCase], *, now: datetime) -> Table:
    """Return a table of an advocate's open cases, with the hours left to sites to act."""
    table = _table("Case", "Opened", "Why", "Files", "Site has until", "Handover code until")
    for case in cases:
        due = "-" if case.due is None else _due(case.due, now)
        code = "-" if case.code_until is None else when(case.code_until)
        row = (case.reference, when(case.opened), case.reason.value, str(case.files), due, code)
        table.add_row(*map(shown, row))
    return table


def _due(due: datetime, now: datetime) -> str:
    hours = int((due - now).total_seconds() // 3600)
    if hours < 0:
        return f"{when(due)} (over)"
    return f"{when(due)} ({hours} h left)"


def _state(item: ItemStatus) -> str:
    """Return in parentheses what is unusual about the state of a file."""
    match item.taken_out:
        case TakenOut.OPERATOR:
            return " (removed by the clearinghouse)"
        case TakenOut.PLATFORMS:
            return " (removed: platforms did not block it)"
    if item.withdrawn is not None:
        return " (withdrawn)"
    if item.being_checked:
        part = "" if item.held_back else f"{item.being_checked} of {item.signals} hashes of it "
        return f" ({part}held back: platforms did not block it; the clearinghouse checks that)"
    if item.held_back:
        return " (held back until the clearinghouse decides)"
    return "" if item.complete else " (a part of it was never sent)"


def when(moment: datetime) -> str:
    """Return an hour in UTC as people read it."""
    return f"{moment:%Y-%m-%d %H:00} UTC"


def _has_it_since(platform: PlatformStatus) -> str:
    if not platform.follows:
        return "keeps no list; asks at each upload"
    if platform.has_it_since is None:
        return _UNKNOWN
    return when(platform.has_it_since) + (" (parts of hashes only)" if platform.veiled else "")


def _matches(platform: PlatformStatus) -> str:
    # a platform that matches against its own list reports decisions, not the number of matches
    if not platform.matches:
        return _UNKNOWN if platform.follows else "0"
    return f"{platform.matches:,} or more"


def _decisions(platform: PlatformStatus) -> str:
    counts = [
        f"{count:,} or more {_VERDICTS[verdict]}"
        for verdict, count in platform.verdicts.items()
        if count
    ]
    if counts:
        return ", ".join(counts)
    return _UNKNOWN if platform.matches else "-"


def _deletion(item: ItemStatus, platform: PlatformStatus) -> str:
    if item.withdrawn is None:
        return "-"
    if not platform.follows:
        return "nothing to delete"
    since = platform.deletion_acknowledged
    return _UNKNOWN if since is None else when(since)
