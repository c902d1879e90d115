"""The operator's allowlist: hashes of lawful pictures such as flags and famous photographs.

An abuser may submit such a picture to have it blocked everywhere. A submitted file near one of them
is quarantined: it is stored but neither matched nor published until the operator has decided.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import KeyMismatch
from nciihash.search.index import Index
from nciihash.signals import Signal, SignalType

_log = logging.getLogger(__name__)

# Distance in bits up to which a hash counts as near a listed one. It is larger than the match
# threshold: a hash 32 bits from a listed picture would otherwise pass and match copies of that
# picture. Among 12,403 pairs of photos, in all eight orientations, the closest are 88 bits apart.
_REACH: Final = {SignalType.PDQ: 48}


class AllowlistIndex:
    """The allowlist in memory, reloaded when it has changed. Thread-safe."""

    def __init__(self) -> None:
        self._version = (0, 0)
        self._exact: set[Signal] = set()
        self._indexes: dict[SignalType, Index] = {}
        self._lock = threading.Lock()

    def near(self, tx: Transaction, signals: Sequence[Signal]) -> list[bool]:
        """Return for each signal whether it is near a listed one."""
        with self._lock:
            if (version := tx.allowlist.version()) != self._version:
                self._read(tx)
                self._version = version
            exact, indexes = self._exact, self._indexes
        found = [signal in exact for signal in signals]
        for type, index in indexes.items():
            positions = [n for n, signal in enumerate(signals) if signal.type is type]
            if positions:
                packed = _packed(type, [signals[n].value for n in positions])
                offsets = index.query(packed, radius=_REACH.get(type, type.threshold)).offsets
                for n, hits in zip(positions, np.diff(offsets).tolist(), strict=True):
                    found[n] = hits > 0
        return found

    def _read(self, tx: Transaction) -> None:
        values: dict[SignalType, list[bytes]] = defaultdict(list)
        for type, sealed, lookup in tx.allowlist.read():
            try:
                value = tx.vault.open(sealed, "lawful", "value", lookup.hex())
            except KeyMismatch:
                # One damaged row must not prevent anybody from opening a case.
                _log.error("A hash on the allowlist cannot be decrypted; it is skipped.")
                continue
            values[SignalType(type)].append(value)
        self._exact = {Signal(t, v) for t, many in values.items() if t.exact for v in many}
        self._indexes = {}
        for type, many in values.items():
            if not type.exact:
                index = self._indexes[type] = Index(type.bits)
                index.add(np.arange(len(many), dtype=np.uint64), _packed(type, many))


def _packed(
    type: SignalType, values: Sequence[bytes]
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, type.bits // 8)
