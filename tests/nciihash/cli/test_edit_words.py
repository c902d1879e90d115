"""What a copy shows of a picture, in words."""

import pytest

from nciihash.cli.edit_words import describe_edit
from nciihash.signals import Edit, PartKind

WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("crop", "words"),
    [
        (WHOLE, "the whole picture"),
        ((0.01, 0, 0.99, 1), "the whole picture"),
        (None, "a part of the picture"),
        ((0, 0, 0.5, 1), "the left 50 % of the picture"),
        ((0.4, 0, 1, 1), "the right 60 % of the picture"),
        ((0, 0, 1, 0.25), "the top 25 % of the picture"),
        ((0, 0.4, 1, 1), "the bottom 60 % of the picture"),
        ((0.2, 0, 0.8, 1), "the middle 60 % of the picture"),
        ((0, 0.25, 1, 0.75), "the middle 50 % of the picture"),
        ((0, 0, 0.5, 0.5), "the top left part of the picture, 25 % of its area"),
        ((0.3, 0.2, 1, 1), "the bottom right part of the picture, 56 % of its area"),
        ((0.2, 0.2, 0.8, 1), "the bottom part of the picture, 48 % of its area"),
        ((0, 0.2, 0.5, 0.8), "the left part of the picture, 30 % of its area"),
        ((0.2, 0.2, 0.7, 0.7), "the middle part of the picture, 25 % of its area"),
    ],
)
def test_what_is_visible(crop, words):
    assert describe_edit(Edit(PartKind.WHOLE, WHOLE, crop)) == f"it shows {words}"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            Edit(PartKind.RECTANGLE, WHOLE, WHOLE, mirrored=True),
            "a part of it shows the whole picture, mirrored",
        ),
        (Edit(PartKind.TRIMMED, WHOLE, WHOLE), "within a frame it shows the whole picture"),
        (
            Edit(PartKind.ROTATED, WHOLE, WHOLE, angle=-90.0),
            "it shows the whole picture, rotated by 90 degrees",
        ),
        (
            Edit(PartKind.WHOLE, WHOLE, WHOLE, angle=0.4, time=2.5),
            "it shows the whole picture, 2.5 seconds from the start",
        ),
    ],
)
def test_how_it_is_shown(edit, words):
    assert describe_edit(edit) == words


def test_another_name_for_the_original():
    edit = Edit(PartKind.WHOLE, WHOLE, (0, 0, 0.5, 1))
    assert describe_edit(edit, "first photo") == "it shows the left 50 % of the first photo"
