"""Read hashes from text columns of Parquet files, many at a time."""

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


def dense(column: "pa.Array") -> "pa.Array":
    """Return a column without dictionary encoding."""
    import pyarrow as pa

    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def masks_by_type(types: "pa.Array") -> Iterator[tuple[SignalType, "pa.Array"]]:
    """Yield each type of hash in a column, with an Arrow mask of the rows that have it."""
    import pyarrow.compute as pc

    for name in sorted(filter(None, pc.unique(types).to_pylist())):
        if name in set(SignalType):
            yield SignalType(name), pc.equal(types, name)


def read_hashes(
    type: SignalType, values: "pa.Array", mask: "pa.Array"
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Decode the hexadecimal digits of the rows in a mask.

    Returns:
        The indices of those rows that hold a valid hash, int64 (n,), and these hashes, packed,
        uint8 (n, bits // 8).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    digits = type.bits // 4
    chosen = pc.and_(mask, pc.equal(pc.binary_length(values), digits))
    rows = np.flatnonzero(pc.fill_null(chosen, fill_value=False).to_numpy(zero_copy_only=False))
    text = pc.cast(values.take(pa.array(rows)), pa.large_string())
    data = text.buffers()[2]
    letters = np.frombuffer(b"" if data is None else data, np.uint8, len(rows) * digits)
    nibbles: NDArray[np.uint8] = _NIBBLES[letters].reshape(len(rows), digits)
    valid = (nibbles < 16).all(axis=1)
    if not valid.all():
        rows, nibbles = rows[valid], nibbles[valid]
    return rows.astype(np.int64), np.bitwise_or(
        nibbles[:, 0::2] << 4, nibbles[:, 1::2], dtype=np.uint8
    )


def invalid_rows(types: "pa.Array", values: "pa.Array") -> list[int]:
    """Return the indices of the rows that hold no valid hash."""
    valid = {
        row
        for type, mask in masks_by_type(types)
        for row in read_hashes(type, values, mask)[0].tolist()
    }
    return [row for row in range(len(types)) if row not in valid]
