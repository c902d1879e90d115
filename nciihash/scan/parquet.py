"""Read hashes from columns of text, many at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nciihash.signals import SignalType

if TYPE_CHECKING:
    import pyarrow as pa

_NIBBLES: Final[NDArray[np.uint8]] = np.full(256, 255, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_NIBBLES[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)


def plain(column: "pa.Array") -> "pa.Array":
    """Give a column without its dictionary."""
    import pyarrow as pa

    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def by_type(types: "pa.Array") -> Iterator[tuple[SignalType, "pa.Array"]]:
    """Give the types of hash in a column, and where each stands, as an Arrow array of booleans."""
    import pyarrow.compute as pc

    for name in sorted(filter(None, pc.unique(types).to_pylist())):
        if name in set(SignalType):
            yield SignalType(name), pc.equal(types, name)


def packed(
    type: SignalType, values: "pa.Array", rows: "pa.Array"
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Read the hexadecimal digits of the chosen rows.

    Returns:
        The places of those rows that hold a hash, int64 (n,), and these, uint8 (n, bits // 8).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    digits = type.bits // 4
    chosen = pc.and_(rows, pc.equal(pc.binary_length(values), digits))
    places = np.flatnonzero(pc.fill_null(chosen, fill_value=False).to_numpy(zero_copy_only=False))
    text = pc.cast(values.take(pa.array(places)), pa.large_string())
    data = text.buffers()[2]
    letters = np.frombuffer(b"" if data is None else data, np.uint8, len(places) * digits)
    nibbles: NDArray[np.uint8] = _NIBBLES[letters].reshape(len(places), digits)
    right = (nibbles < 16).all(axis=1)
    if not right.all():
        places, nibbles = places[right], nibbles[right]
    return places.astype(np.int64), np.bitwise_or(
        nibbles[:, 0::2] << 4, nibbles[:, 1::2], dtype=np.uint8
    )


def not_hashes(types: "pa.Array", values: "pa.Array") -> list[int]:
    """Find the places of rows that hold no hash."""
    good = {
        place for type, rows in by_type(types) for place in packed(type, values, rows)[0].tolist()
    }
    return [place for place in range(len(types)) if place not in good]
