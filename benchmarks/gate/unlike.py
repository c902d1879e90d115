"""Count the unlike hashes of genuine items, which the flood stop must not take for poisoned ones.

    .venv/bin/python -m benchmarks.gate.unlike --photos DIR

For each photo and set of altered copies: the most hashes of which any two are more than
`nciihash.gate.flood.UNLIKE` bits apart in every orientation, the best of thirty random orders. Also
how near unrelated photos come to each other. `FloodConfig.pictures` is at least 40 because of the
largest of these numbers.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nciihash import hamming
from nciihash.errors import FileRefused
from nciihash.gate.flood import UNLIKE, orientations
from nciihash.hashing.hasher import hash_file
from nciihash.signals import VariantSet

_ORDERS = 30
_SETS = (VariantSet.STANDARD, VariantSet.FULL, VariantSet.THOROUGH)


def apart(values: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the least distances in any orientation, in bits: int (n, n)."""
    packed = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
    return np.stack(
        [hamming.distances(orientations(value), packed).min(axis=0) for value in values]
    ).astype(np.int64)


def most_unlike(distances: NDArray[np.int64], rng: np.random.Generator) -> int:
    """Return the size of the largest set of mutually unlike hashes that was found."""
    best = 0
    for _ in range(_ORDERS):
        chosen: list[int] = []
        for row in rng.permutation(len(distances)).tolist():
            if all(distances[row, other] > UNLIKE for other in chosen):
                chosen.append(row)
        best = max(best, len(chosen))
    return best


def hashed(paths: Sequence[Path], variants: VariantSet) -> Iterator[list[bytes]]:
    """Yield the hashes of each photo that may be submitted."""
    for path in paths:
        try:
            item = hash_file(path, variants=variants.value)
        except FileRefused:
            continue
        values = [each.signal.value for each in item.hashes if not each.plain]
        if values:
            yield values


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description="Count the unlike hashes of genuine items.")
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    folders = parser.parse_args().photos
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    rng = np.random.default_rng(0)
    originals = []
    for variants in _SETS:
        counts = []
        for values in hashed(paths, variants):
            counts.append(most_unlike(apart(values), rng))
            if variants is VariantSet.STANDARD:
                originals.append(values[0])
        print(
            f"{variants.value}: {len(counts)} photos, median {np.median(counts):.0f}, "
            f"at most {max(counts)} unlike hashes"
        )
    distances = apart(originals)
    pairs = [distances[a, b] for a, b in combinations(range(len(originals)), 2)]
    like = sum(distance <= UNLIKE for distance in pairs)
    print(f"unrelated photos: {len(pairs):,} pairs, nearest {min(pairs)} bits, {like} like")


if __name__ == "__main__":
    main()
