"""Describe in words what a copy shows of a picture."""

from typing import Final

from nciihash.signals import Edit, PartKind

_MARGIN: Final = 0.03  # of a side: alignment is correct to some hundredths


def describe_edit(edit: Edit, picture: str = "picture") -> str:
    """Return a clause such as "it shows the left 50 % of the picture, mirrored".

    Args:
        edit: of a match of a window.
        picture: what to call the original.
    """
    visible = _visible(edit.crop, picture)
    match edit.part:
        case PartKind.RECTANGLE:
            words = [f"a part of it shows {visible}"]
        case PartKind.TRIMMED:
            words = [f"within a frame it shows {visible}"]
        case _:
            words = [f"it shows {visible}"]
    if edit.mirrored:
        words.append("mirrored")
    if abs(edit.angle) >= 1:
        words.append(f"rotated by {abs(edit.angle):.0f} degrees")
    if edit.time is not None:
        words.append(f"{edit.time:.1f} seconds from the start")
    return ", ".join(words)


def _visible(crop: tuple[float, float, float, float] | None, picture: str) -> str:
    """Return what is visible of the original."""
    if crop is None:
        return f"a part of the {picture}"
    left, top, right, bottom = crop
    width, height = right - left, bottom - top
    across, down = _position(left, right, "left", "right"), _position(top, bottom, "top", "bottom")
    if across is None and down is None:
        return f"the whole {picture}"
    if down is None:
        return f"the {across or 'middle'} {_percent(width)} of the {picture}"
    if across is None:
        return f"the {down or 'middle'} {_percent(height)} of the {picture}"
    side = f"{down} {across}".strip() or "middle"
    return f"the {side} part of the {picture}, {_percent(width * height)} of its area"


def _position(start: float, end: float, first: str, last: str) -> str | None:
    """Return at which end of an axis an interval is; "" if at neither, None if it is all of it."""
    at_start, at_end = start < _MARGIN, end > 1 - _MARGIN
    if at_start and at_end:
        return None
    return first if at_start else last if at_end else ""


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
