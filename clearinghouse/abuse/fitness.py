"""Which hashes are usable: the others are neither accepted nor matched.

The quality is the client's claim, and the hash of a blank picture matches every blank picture. A
PDQ hash is therefore also judged by itself: the algorithm sets about half of the bits, unless the
picture has no content (`nciihash.signals.PDQ_ONES`).
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from nciihash.signals import PDQ_ONES, QUALITY_MIN, SignalType
from nciihash.wire import RefusalCode, SignalIn


def refusal(signal: SignalIn, matched: Collection[SignalType]) -> RefusalCode | None:
    """Return why a submitted hash is refused; None if it is accepted.

    Args:
        signal: the hash.
        matched: the types that this clearinghouse matches.
    """
    if signal.type not in matched:
        return "type_not_matched"
    if signal.quality is not None and signal.quality < QUALITY_MIN:
        return "low_quality"
    return None if signal.hashed.signal.possible else "implausible"


def can_match(
    type: SignalType, packed: NDArray[np.uint8], qualities: Sequence[int] | None
) -> NDArray[np.bool_]:
    """Return which queries can match anything.

    Args:
        type: of the queries.
        packed: uint8 (q, type.bits // 8).
        qualities: of q PDQ queries, where known.

    Returns:
        bool (q,).
    """
    fit = np.ones(len(packed), dtype=np.bool_)
    if type is SignalType.PDQ:
        ones = np.unpackbits(packed, axis=1).sum(axis=1)
        fit &= (ones >= PDQ_ONES.start) & (ones < PDQ_ONES.stop)
        if qualities is not None:
            fit &= np.array(qualities) >= QUALITY_MIN
    return fit
