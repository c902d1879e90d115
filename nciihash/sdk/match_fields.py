"""Matches as fields of JSON lines and as rows of tables: `match` and `scan` write the same."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from nciihash.sdk.lookup import LookupResult
from nciihash.signals import Match, SignalType
from nciihash.wire import Hit

# The columns of a match in a table, with Arrow's names of their types. Those from `aligned` on are
# null for a match of the picture's own hash. `crop` is what is visible of the original.
MATCH_COLUMNS: Final = {
    "id": "string",
    "item": "string",
    "type": "string",
    "variant": "string",
    "distance": "int16",
    "band": "string",
    "review": "bool",
    "aligned": "int16",
    "edit": "string",
    "mirrored": "bool",
    "crop_left": "float32",
    "crop_top": "float32",
    "crop_right": "float32",
    "crop_bottom": "float32",
}
_DIGITS: Final = 3  # of fractions; they are correct to some hundredths


def match_fields(type: SignalType, match: Match | Hit, *, review: bool | None) -> dict[str, Any]:
    """Return a match as JSON fields.

    A clearinghouse reports only a band. A match of a bank has a distance, and a match of a window
    also says what was done to the picture.

    Args:
        type: of the hash.
        match: the match.
        review: whether a person should look at it; None if that is not known.
    """
    fields: dict[str, Any] = {"id": match.id, "item": match.item, "type": type.value}
    if not isinstance(match, Match):
        fields["band"] = match.band.value
        return fields if review is None else fields | {"review": review}
    fields |= {
        "variant": match.variant.value,
        "distance": match.distance,
        "band": match.band.value,
        "review": review,
    }
    return fields | edit_fields(match)


def result_fields(result: LookupResult) -> dict[str, Any]:
    """Return the matches of a file, and of a video the items that share frames, as JSON fields."""
    fields: dict[str, Any] = {
        "matches": [
            match_fields(type, match, review=result.needs_review(match))
            for type, match in result.found
        ]
    }
    if result.truncated:
        fields["truncated"] = True
    if result.shared:
        fields["items"] = [
            {
                "item": shared.item,
                "query": asdict(shared.query),
                "bank": None if shared.bank is None else asdict(shared.bank),
            }
            for shared in result.shared
        ]
    return fields


def edit_fields(match: Match) -> dict[str, Any]:
    """Return the edit of a match of a window as JSON fields; none for any other match."""
    if (edit := match.edit) is None:
        return {}
    fields: dict[str, Any] = {
        "aligned": match.aligned,
        "edit": str(edit),
        "part": edit.part.value,
        "box": _rounded(edit.box),
        "crop": None if edit.crop is None else _rounded(edit.crop),
        "mirrored": edit.mirrored,
        "angle": round(edit.angle, 1),
    }
    return fields if edit.time is None else fields | {"time": round(edit.time, _DIGITS)}


def match_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a match for a table with `MATCH_COLUMNS`, given its JSON fields."""
    row = {name: fields.get(name) for name in MATCH_COLUMNS}
    if fields.get("crop") is not None:
        sides = ("crop_left", "crop_top", "crop_right", "crop_bottom")
        row |= dict(zip(sides, fields["crop"], strict=True))
    return row


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(side, _DIGITS) for side in box]
