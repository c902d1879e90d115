"""The veil: the part of each hash that reveals least about its image, for platforms' banks.

Two PDQ hashes that differ in at most 31 of their 256 bits differ in at most 31 of any subset of
the bits. A bank of a fixed subset of each hash, searched at the same radius, therefore loses no
match. It also returns false candidates; the clearinghouse, which has the whole hashes, decides
which candidates match. The subset omits the low frequencies, from which a blurred image could be
reconstructed (docs/veil.md has the measurements).

Exact values (MD5, SHA-256) are replaced by an HMAC under a key of that platform alone, so that a
leaked bank can neither be joined with another platform's nor searched by anyone without the key.
`phash` and `dhash` have no veiled form and appear in no veiled feed.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

from nciihash.errors import InvalidSignal
from nciihash.signals import Signal, SignalType

# All clients import this module, but only those that veil hashes need NumPy, which is slow to load.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEY_BYTES: Final = 32
VEILS: Final = (SignalType.PDQ_VEIL128, SignalType.PDQ_VEIL144, SignalType.PDQ_VEIL160)
_EXACT_VEILS: Final = {
    SignalType.MD5: SignalType.MD5_VEIL,
    SignalType.SHA256: SignalType.SHA256_VEIL,
}
_SIDE: Final = 16  # coefficients along each side of PDQ's transform


@cache
def positions(count: int) -> "NDArray[np.intp]":
    """Return the indices of the bits of a PDQ hash with the highest frequencies.

    Bit 16i + j belongs to the coefficient with i + 1 vertical and j + 1 horizontal half-waves. Bits
    are chosen by the largest i + j, then the smallest |i - j|, then the smallest i.

    Args:
        count: how many bits to choose.

    Returns:
        intp (count,), read-only: indices into the unpacked hash, whose first element is bit 255, in
            ascending order.
    """
    import numpy as np

    bits = [(i, j) for i in range(_SIDE) for j in range(_SIDE)]
    bits.sort(key=lambda bit: (-bit[0] - bit[1], abs(bit[0] - bit[1]), bit[0]))
    chosen = np.sort([255 - _SIDE * i - j for i, j in bits[:count]])
    chosen.flags.writeable = False  # the cache returns the same array to every caller
    return chosen


def veil_pdq(packed: "NDArray[np.uint8]", type: SignalType) -> "NDArray[np.uint8]":
    """Return the published part of PDQ hashes.

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
        raise InvalidSignal("PDQ hashes must be a uint8 array of shape (n, 32), one per row.")
    return np.packbits(np.unpackbits(packed, axis=1)[:, positions(type.bits)], axis=1)


@dataclass(frozen=True, slots=True)
class Veil:
    """The veil of one platform's feed and bank.

    Attributes:
        type: the veiled form of PDQ hashes, one of `VEILS`.
        key: 32 bytes, for that platform alone; hidden in `repr`.
    """

    type: SignalType
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.type not in VEILS or len(self.key) != KEY_BYTES:
            raise ValueError(f"A veil has one of the types {VEILS} and a key of {KEY_BYTES} bytes.")

    def over(self, signals: Sequence[Signal]) -> list[Signal | None]:
        """Return the veiled form of each signal; None for a type without one."""
        veiled: list[Signal | None] = [None] * len(signals)
        pdq = [index for index, signal in enumerate(signals) if signal.type is SignalType.PDQ]
        if pdq:
            import numpy as np

            values = b"".join(signals[index].value for index in pdq)
            packed = np.frombuffer(values, dtype=np.uint8).reshape(len(pdq), -1)
            for index, row in zip(pdq, veil_pdq(packed, self.type), strict=True):
                veiled[index] = Signal(self.type, row.tobytes())
        for index, signal in enumerate(signals):
            if (type := _EXACT_VEILS.get(signal.type)) is not None:
                message = signal.type.encode() + b"\0" + signal.value
                digest = hmac.digest(self.key, message, hashlib.sha256)
                veiled[index] = Signal(type, digest[: type.bits // 8])
        return veiled
