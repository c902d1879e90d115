"""Read a file of hashes that were computed earlier or on another device."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from nciihash.errors import InvalidRequest
from nciihash.signals import Item
from nciihash.wire import ItemIn, SavedHashes

_BYTES_MAX: Final = 64 * 2**20  # a case of 200 files with all their altered copies takes 2 MiB


def read_saved(path: Path) -> list[Item]:
    """Return the items in a file of hashes.

    Args:
        path: a file that the survivor's page saved, or the output of `nciihash hash --json`, in
            which lines about files that could not be hashed are skipped.

    Raises:
        InvalidRequest: the file is neither, is too large, cannot be read, or holds no hashes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be read: {(error.strerror or 'unknown').lower()}."
        ) from error
    if len(data) > _BYTES_MAX:
        raise InvalidRequest(f"{path} is too large to be a file of hashes. Check the path.")
    try:
        items = _items(data.decode("utf-8-sig"))
    # a ValidationError is a ValueError; deep nesting and huge numbers raise the last two
    except (ValueError, AttributeError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidRequest(
            f"{path} is damaged, or it was written neither by the page nor by `nciihash hash "
            "--json`."
        ) from error
    if not items:
        raise InvalidRequest(f"{path} holds no hashes.")
    return items


def _items(text: str) -> list[Item]:
    try:
        return [_item(item) for item in SavedHashes.model_validate_json(text).items]
    except ValidationError:
        if len(lines := text.splitlines()) == 1 and '"items"' in text:
            raise
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
    return [_item_of_line(entry) for entry in entries if "error" not in entry]


def _item_of_line(entry: dict[str, Any]) -> Item:
    """Return the item of a line of `hash --json`, with the times of a video's frames."""
    signals = entry.get("hashes") or []
    times = [signal.pop("time", None) for signal in signals]
    item = _item(
        ItemIn.model_validate_json(json.dumps({"media": entry.get("media"), "signals": signals}))
    )
    hashes = tuple(
        hashed if time is None else replace(hashed, time=_seconds(time))
        for hashed, time in zip(item.hashes, times, strict=True)
    )
    return replace(item, hashes=hashes)


def _seconds(time: float) -> float:
    if not 0 <= (seconds := float(time)) < math.inf:
        raise ValueError("not a time")
    return seconds


def _item(item: ItemIn) -> Item:
    return Item(item.media, tuple(signal.hashed for signal in item.signals))
