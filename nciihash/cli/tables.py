"""Tables for people: hashes, matches, and what became of a case."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from os import PathLike, fsdecode
from pathlib import Path
from typing import Final

from rich.table import Table
from rich.text import Text

from nciihash.sdk.lookup import LookupResult
from nciihash.signals import QUALITY_MIN, Band, Hashed, Item, Match, SignalType, Verdict
from nciihash.vpdq import Share
from nciihash.wire import CaseStatus, ItemStatus, PlatformStatus, TakenOut
from nciihash.wire.advocates import AssistedCase

_UNKNOWN: Final = "not known"

_VERDICTS: Final = {
    Verdict.PENDING: "being looked at",
    Verdict.BLOCKED: "blocked",
    Verdict.NOT_BLOCKED: "not blocked",
    Verdict.UNSURE: "unsure",
}


def shown(text: str | PathLike[str]) -> str:
    """Write a file's name, or a service's words, so that nothing in it can command a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in fsdecode(text))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def hash_table(rows: Iterable[tuple[str, Item]]) -> Table:
    """Lay out files' hashes, one a row, each with its quality in figures and in a word."""
    rows = list(rows)
    timed = any(hashed.time is not None for _, item in rows for hashed in item.hashes)
    table = _table("File", *(("Second",) if timed else ()), "Type", "Variant", "Hash", "Quality")
    # Three lines of a 64-digit hash leave room for a name on a narrow terminal.
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
                quality_words(hashed),
            )
    return table


def quality_words(hashed: Hashed) -> str:
    """Say how much a hash tells of its picture."""
    if hashed.quality is None:
        return "-"
    if hashed.quality < QUALITY_MIN:
        return f"{hashed.quality} (too plain to submit)"
    return f"{hashed.quality} (too regular to submit)" if hashed.tied else str(hashed.quality)


def group_table(found: Iterable[Sequence[tuple[Path, int]]]) -> Table:
    """Lay out groups of near-duplicates, each file with the bits to the nearest of its group."""
    table = _table("Group", "File", "Distance")
    for number, group in enumerate(found, 1):
        for path, distance in group:
            table.add_row(f"{number:,}", Text(shown(path)), f"{distance} bits")
    return table


def match_table(rows: Iterable[tuple[str, LookupResult]]) -> Table:
    """Lay out what was found; the clearinghouse, unlike a local bank, tells no distances.

    Of a video, for each item the nearest signal, and how many frames were found on either side.
    """
    table = _table("File", "Match", "Distance", "Type", "Variant", "Signal")
    rows = list(rows)
    videos = {name: outcome.shared for name, outcome in rows if outcome.shared}
    if videos:
        table.add_column("Frames here", overflow="fold")
        table.add_column("Frames there", overflow="fold")
    for name, outcome in rows:
        frames = {shared.item: shared for shared in videos.get(name, ())}
        if not outcome.found:
            table.add_row(Text(shown(name)), "none")
        told = set()
        for type, match in outcome.found:
            of_item = frames.get(match.item) if type is SignalType.PDQ else None
            if of_item is not None:
                if match.item in told:
                    continue
                told.add(match.item)
            distance, variant = "not told", "not told"
            if isinstance(match, Match):
                distance, variant = f"{match.distance} of {type.bits}", match.variant.value
            word = band_word(match.band)
            more = () if of_item is None else (_share(of_item.query), _share(of_item.bank))
            table.add_row(Text(shown(name)), word, distance, type.value, variant, match.id, *more)
        if outcome.truncated:
            table.add_row(Text(shown(name)), "more", *["not told"] * 4)
    return table


def _share(share: Share | None) -> str:
    return "not told" if share is None else f"{share.found:,} of {share.frames:,}"


def band_word(band: Band) -> Text:
    """Name a band, the stronger one brighter."""
    return Text(band.value, style="bold red" if band is Band.STRONG else "yellow")


def status_table(status: CaseStatus) -> Table:
    """Lay out what each platform did about each file of a case."""
    table = _table("File", "Platform", "Has it since", "Matches", "Decisions", "Deletion confirmed")
    for item in status.items:
        name = f"{item.item}{_standing(item)}"
        if not item.platforms:
            table.add_row(name, "none takes part yet", "", "", "", "")
        for platform in item.platforms:
            table.add_row(
                name,
                Text(shown(platform.platform)),
                _has_it(platform),
                _matches(platform),
                _decisions(platform),
                _deletion(item, platform),
            )
            name = ""
    return table


def assisted_table(cases: Sequence[AssistedCase], *, now: datetime) -> Table:
    """Lay out an advocate's open cases and the hours that sites she reported to have left."""
    table = _table("Case", "Opened", "Why", "Files", "Site has until", "Hand-over code until")
    for case in cases:
        left = "-" if case.due is None else _left(case.due, now)
        code = "-" if case.code_until is None else when(case.code_until)
        row = (case.reference, when(case.opened), case.reason.value, str(case.files), left, code)
        table.add_row(*map(shown, row))
    return table


def _left(due: datetime, now: datetime) -> str:
    hours = int((due - now).total_seconds() // 3600)
    if hours < 0:
        return f"{when(due)} (over)"
    return f"{when(due)} ({hours} h left)"


def _standing(item: ItemStatus) -> str:
    match item.taken_out:
        case TakenOut.OPERATOR:
            return " (taken out by the clearinghouse)"
        case TakenOut.PLATFORMS:
            return " (taken out: platforms did not block it)"
    if item.withdrawn is not None:
        return " (withdrawn)"
    if item.being_checked:
        part = "" if item.held_back else f"{item.being_checked} of {item.signals} hashes of it "
        return f" ({part}held back: platforms did not block it; the clearinghouse checks that)"
    if item.held_back:
        return " (held back until the clearinghouse decides)"
    return "" if item.complete else " (a part of it was never sent)"


def when(moment: datetime) -> str:
    """Write an hour as people read it, in universal time."""
    return f"{moment:%Y-%m-%d %H:00} UTC"


def _has_it(platform: PlatformStatus) -> str:
    if not platform.follows:
        return "keeps no list; asks at each upload"
    if platform.has_it_since is None:
        return _UNKNOWN
    return when(platform.has_it_since) + (" (parts of hashes only)" if platform.veiled else "")


def _matches(platform: PlatformStatus) -> str:
    # one that matches against a list of its own tells its decisions, not how often it matched
    if not platform.matches:
        return _UNKNOWN if platform.follows else "0"
    return f"{platform.matches:,} or more"


def _decisions(platform: PlatformStatus) -> str:
    told = [
        f"{count:,} or more {_VERDICTS[word]}" for word, count in platform.verdicts.items() if count
    ]
    if told:
        return ", ".join(told)
    return _UNKNOWN if platform.matches else "-"


def _deletion(item: ItemStatus, platform: PlatformStatus) -> str:
    if item.withdrawn is None:
        return "-"
    if not platform.follows:
        return "nothing to delete"
    since = platform.deletion_acknowledged
    return _UNKNOWN if since is None else when(since)
