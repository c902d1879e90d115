"""Tables: the words for each state of a case, and the rows of matches."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from nciihash.cli.tables import match_table, shown, status_table
from nciihash.sdk.lookup import LookupResult, SharedFrames
from nciihash.signals import (
    Band,
    Edit,
    Match,
    Media,
    PartKind,
    SignalType,
    Variant,
    Verdict,
)
from nciihash.vpdq import Share
from nciihash.wire import CaseState, CaseStatus, Hit, ItemStatus, PlatformStatus, Reason

HOUR = datetime(2026, 5, 17, 13, tzinfo=UTC)
LATER = datetime(2026, 5, 18, 9, tzinfo=UTC)


def cells(table):
    """Return the cells of each line of a table, as it is printed."""
    console = Console(width=250, file=None)
    with console.capture() as captured:
        console.print(table)
    return [re.split(r" {2,}", line.strip()) for line in captured.get().splitlines()]


def status(*platforms, withdrawn=None):
    item = ItemStatus(
        item=7, media=Media.IMAGE, signals=1, added=HOUR, withdrawn=withdrawn, platforms=platforms
    )
    return CaseStatus(
        state=CaseState.OPEN, reason=Reason.SHARED, opened=HOUR, expires=LATER, items=(item,)
    )


def platform(**changes):
    fields = {
        "platform": "Example Social",
        "follows": True,
        "has_it_since": None,
        "matches": 0,
        "verdicts": {},
        "deletion_acknowledged": None,
    }
    return PlatformStatus.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "withdrawn", "expected"),
    [
        ({}, None, ["not known", "not known", "-", "-"]),
        (
            {"has_it_since": HOUR, "verdicts": {"blocked": 2, "unsure": 1}},
            None,
            ["2026-05-17 13:00 UTC", "not known", "2 or more blocked, 1 or more unsure", "-"],
        ),
        ({"has_it_since": HOUR}, LATER, ["2026-05-17 13:00 UTC", "not known", "-", "not known"]),
        (
            {"has_it_since": HOUR, "deletion_acknowledged": LATER},
            LATER,
            ["2026-05-17 13:00 UTC", "not known", "-", "2026-05-18 09:00 UTC"],
        ),
        (
            {"follows": False, "matches": 3},
            None,
            ["keeps no list; asks at each upload", "3 or more", "not known", "-"],
        ),
        (
            {"follows": False},
            LATER,
            ["keeps no list; asks at each upload", "0", "-", "nothing to delete"],
        ),
    ],
)
def test_the_row_of_a_platform(changes, withdrawn, expected):
    row = cells(status_table(status(platform(**changes), withdrawn=withdrawn)))[1]
    assert row == ["7 (withdrawn)" if withdrawn else "7", "Example Social", *expected]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"held_back": True}, "7 (held back until the clearinghouse decides)"),
        (
            {"held_back": True, "being_checked": 2},
            "7 (held back: platforms did not block it; the clearinghouse checks that)",
        ),
        (
            {"being_checked": 1},
            (
                "7 (1 of 2 hashes of it held back: platforms did not block it; the clearinghouse "
                "checks that)"
            ),
        ),
    ],
)
def test_the_state_of_a_file_says_why_it_is_held_back(changes, name):
    unchanged = status(platform())
    [file] = unchanged.items
    changed = unchanged.model_copy(
        update={"items": (file.model_copy(update={"signals": 2} | changes),)}
    )
    assert cells(status_table(changed))[1][0] == name


def test_every_verdict_has_a_description():
    verdicts = dict.fromkeys(Verdict, 1)
    row = cells(status_table(status(platform(verdicts=verdicts))))[1]
    assert row[4] == (
        "1 or more under review, 1 or more blocked, 1 or more not blocked, 1 or more unsure"
    )


def test_a_case_without_platforms():
    assert cells(status_table(status()))[1] == ["7", "no platform takes part yet"]


def test_matches_of_a_bank_and_of_a_clearinghouse():
    id, item = "a" * 32, "b" * 32
    near = Match(id, item, SignalType.PDQ, Variant.FLIPX, 20)
    hit = Hit(id=id, item=item, band=Band.STRONG)
    rows = [
        ("[bold]x", LookupResult(((SignalType.PDQ, near),))),
        ("y", LookupResult(((SignalType.MD5, hit),))),
        ("z", LookupResult(())),
    ]
    assert cells(match_table(rows))[1:4] == [
        ["[bold]x", "likely", "20 of 256", "pdq", "flipx", id],
        ["y", "strong", "not returned", "md5", "not returned", id],
        ["z", "none"],
    ]


def test_a_video_has_a_row_for_each_item():
    ids, item, other = ("a" * 32, "c" * 32), "b" * 32, "d" * 32
    pdq = [Match(id, item, SignalType.PDQ, Variant.ORIGINAL, 3 + i) for i, id in enumerate(ids)]
    hit = Hit(id="e" * 32, item=other, band=Band.LIKELY)
    shared = (
        SharedFrames(item, Share(12, 14), Share(80, 1200)),
        SharedFrames(other, Share(1, 14), None),
    )
    found = (*((SignalType.PDQ, match) for match in (*pdq, hit)),)
    rows = cells(
        match_table([("video.mp4", LookupResult(found, shared)), ("z.jpg", LookupResult(()))])
    )
    assert rows[0][-2:] == ["Frames here", "Frames there"]
    assert [row[-3:] for row in rows[1:3]] == [
        [ids[0], "12 of 14", "80 of 1,200"],
        ["e" * 32, "1 of 14", "not returned"],
    ]
    assert rows[3] == ["z.jpg", "none"]


def test_a_match_of_a_part_says_what_was_done_and_what_is_visible():
    edit = Edit(PartKind.WHOLE, (0, 0, 1, 1), (0.25, 0, 1, 0.8), mirrored=True)
    unknown = replace(edit, crop=None)
    near = Match("a" * 32, "b" * 32, SignalType.PDQ, Variant.ORIGINAL, 2)
    part = replace(near, id="c" * 32, distance=44, aligned=6, edit=edit, review=True)
    plain = replace(near, id="d" * 32, review=True)
    matches = (near, part, replace(part, edit=unknown), plain)
    result = LookupResult(tuple((SignalType.PDQ, match) for match in matches))
    rows = cells(match_table([("x", result), ("y", LookupResult(()))]))
    assert rows[0][-3:] == ["Signal", "Edit", "Visible"]
    assert rows[1] == ["x", "strong", "2 of 256", "pdq", "original", "a" * 32]
    words = "cropped to the top right part of the picture, 60 % of its area, mirrored"
    assert rows[2][1:3] == ["likely, review", "44 of 256, 6 aligned"]
    assert rows[2][-2:] == [words, "25% to 100% across, 0% to 80% down"]
    assert rows[3][-2:] == ["mirrored", "not known"]
    assert rows[4][1:3] == ["likely, review", "2 of 256"]
    assert rows[5] == ["y", "none"]


def test_a_video_of_which_parts_match():
    edit = Edit(PartKind.WHOLE, (0, 0, 1, 1), (0, 0, 0.5, 1), time=2.0)
    own = Match("a" * 32, "b" * 32, SignalType.PDQ, Variant.ORIGINAL, 2)
    part = Match("c" * 32, "d" * 32, SignalType.PDQ, Variant.ORIGINAL, 44, 6, edit, review=True)
    shared = (SharedFrames("b" * 32, Share(3, 4), Share(3, 9)),)
    found = ((SignalType.PDQ, own), (SignalType.PDQ, part))
    rows = cells(match_table([("video.mp4", LookupResult(found, shared))]))
    assert rows[0][-4:] == ["Edit", "Visible", "Frames here", "Frames there"]
    assert rows[1][-2:] == ["3 of 4", "3 of 9"]
    assert rows[2][-1] == "0% to 50% across, 0% to 100% down"


def test_text_that_is_shown_cannot_control_the_terminal():
    assert shown("a\x1b[2J\r\nb\x07\u202e") == "a�[2J��b��"
    assert shown("Grüße 写真.jpg") == "Grüße 写真.jpg"
    assert shown(b"caf\xe9".decode(errors="surrogateescape")) == "caf�"
