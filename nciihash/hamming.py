"""Hamming distances between packed hashes by brute force, the reference for faster searches."""

import numpy as np
from numpy.typing import NDArray

from nciihash.errors import InvalidSignal


def distances(queries: NDArray[np.uint8], bank: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the distance of every query to every bank row.

    Args:
        queries: uint8 (q, b), packed hashes of b bytes.
        bank: uint8 (n, b).

    Returns:
        uint16 (q, n): the numbers of differing bits.

    Raises:
        InvalidSignal: the arrays are not uint8, not two-dimensional or not equally wide.
    """
    _check(queries, bank)
    out = np.empty((len(queries), len(bank)), dtype=np.uint16)
    for row, query in zip(out, queries, strict=True):
        row[:] = np.bitwise_count(bank ^ query).sum(axis=1, dtype=np.uint16)
    return out


def _check(queries: NDArray[np.uint8], bank: NDArray[np.uint8]) -> None:
    for array in (queries, bank):
        if array.dtype != np.uint8 or array.ndim != 2:
            raise InvalidSignal("Packed hashes must be a 2-dimensional uint8 array, one per row.")
    if queries.shape[1] != bank.shape[1]:
        raise InvalidSignal(
            f"Hashes of {queries.shape[1]} bytes cannot be compared with hashes of "
            f"{bank.shape[1]} bytes."
        )
