"""The veil: the part of a hash that says least about its picture, for lists that platforms keep.

Two PDQ hashes that differ in at most 31 of their 256 bits differ in at most 31 of any choice of
them. So a list of some bits of each hash, searched at the same radius, loses no match; it finds
candidates besides, and the clearinghouse, which has the whole hashes, tells which of them match.
What is left out are the low frequencies, from which a blurred picture could be computed
(docs/veil.md has the measurements).

Values that match only when equal are replaced by an HMAC under a key of that platform alone, so
that a list that leaks can neither be joined with another platform's nor searched by anybody else.
`phash` and `dhash` have no such part, and stand in no veiled list.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

from nciihash.errors import InvalidSignal
from nciihash.signals import Signal, SignalType

# Every client knows what a veil is; whoever makes none need not load NumPy, which takes a while.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEY_BYTES: Final = 32
VEILS: Final = (SignalType.PDQ_VEIL128, SignalType.PDQ_VEIL144, SignalType.PDQ_VEIL160)
_OF_EXACT: Final = {
    SignalType.MD5: SignalType.MD5_VEIL,
    SignalType.SHA256: SignalType.SHA256_VEIL,
}
_SIDE: Final = 16  # coefficients along a side of the transform


@cache
def positions(count: int) -> "NDArray[np.intp]":
    """Choose bits of a PDQ hash: those of the highest frequencies.

    Bit 16i + j tells of the coefficient with i + 1 half waves down and j + 1 across; chosen are
    those with the largest i + j, where equal those with the smallest |i - j|, then with the
    smallest i.

    Args:
        count: how many.

    Returns:
        intp (count,): places in the unpacked hash, of which bit 255 comes first, ascending.
            Read-only.
    """
    import numpy as np

    bits = [(i, j) for i in range(_SIDE) for j in range(_SIDE)]
    bits.sort(key=lambda bit: (-bit[0] - bit[1], abs(bit[0] - bit[1]), bit[0]))
    chosen = np.sort([255 - _SIDE * i - j for i, j in bits[:count]])
    chosen.flags.writeable = False  # all get the same
    return chosen


def veil_pdq(packed: "NDArray[np.uint8]", type: SignalType) -> "NDArray[np.uint8]":
    """Give the published part of PDQ hashes.

    Args:
        packed: uint8 (n, 32).
        type: one of `VEILS`.

    Returns:
        uint8 (n, type.bits // 8).

    Raises:
        InvalidSignal: `packed` is not such an array.
    """
    import numpy as np

    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != 32:
        raise InvalidSignal("PDQ hashes are a uint8 array of shape (n, 32), a row a hash.")
    return np.packbits(np.unpackbits(packed, axis=1)[:, positions(type.bits)], axis=1)


@dataclass(frozen=True, slots=True)
class Veil:
    """What turns hashes into what one platform's list holds.

    Attributes:
        type: how much of a PDQ hash it shows.
        key: 32 bytes, of that platform alone.
    """

    type: SignalType
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.type not in VEILS or len(self.key) != KEY_BYTES:
            raise ValueError(f"A veil has a type of {VEILS} and a key of {KEY_BYTES} bytes.")

    def over(self, signals: Sequence[Signal]) -> list[Signal | None]:
        """Veil signals that were made of files; None for those that have no veiled form."""
        found: list[Signal | None] = [None] * len(signals)
        places = [n for n, signal in enumerate(signals) if signal.type is SignalType.PDQ]
        if places:
            import numpy as np

            values = b"".join(signals[place].value for place in places)
            packed = np.frombuffer(values, dtype=np.uint8).reshape(len(places), -1)
            for place, row in zip(places, veil_pdq(packed, self.type), strict=True):
                found[place] = Signal(self.type, row.tobytes())
        for place, signal in enumerate(signals):
            if (type := _OF_EXACT.get(signal.type)) is not None:
                whole = signal.type.encode() + b"\0" + signal.value
                digest = hmac.digest(self.key, whole, hashlib.sha256)
                found[place] = Signal(type, digest[: type.bits // 8])
        return found
