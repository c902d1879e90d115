"""The ids by which a platform knows rows of the database."""

import hashlib
import hmac
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_NUMBER_BITS: Final = 48  # what row numbers and places in the log stay below


class PlatformIds:
    """The ids by which one platform knows rows of ours: one AES block each.

    A block holds a kind, an epoch and a number, encrypted under a secret of that platform that
    never changes. So an id inverts, never collides, cannot be guessed, and means nothing to anybody
    else.
    """

    SIGNAL: Final = 1
    ITEM: Final = 2
    CURSOR: Final = 3
    RECORD: Final = 4
    PAGE: Final = 5

    def __init__(self, secret: bytes) -> None:
        # Single blocks that differ in their number: no mode is needed, and none would help.
        self._cipher = Cipher(algorithms.AES(secret), modes.ECB())  # noqa: S305 - see above
        self.veil_key = hmac.digest(secret, b"veil", hashlib.sha256)

    def write(self, kind: int, numbers: list[int], *, epoch: int = 0) -> list[str]:
        """Name rows: 32 hexadecimal digits for each number."""
        plain = b"".join(
            bytes([kind]) + epoch.to_bytes(7, "big") + number.to_bytes(8, "big")
            for number in numbers
        )
        digits = self._cipher.encryptor().update(plain).hex()
        return [digits[i : i + 32] for i in range(0, len(digits), 32)]

    def order(self, kind: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the first half of each row's id, as `write` makes it: the order of the ids.

        A block cipher's output is a pseudorandom function of its input, so this order is fixed for
        a platform and depends on nothing but its secret and the row.

        Args:
            kind: of the rows.
            numbers: int64 (n,), row numbers.

        Returns:
            uint64 (n,).
        """
        plain = np.empty((len(numbers), 2), dtype=">u8")
        plain[:, 0] = kind << 56
        plain[:, 1] = numbers
        sealed = self._cipher.encryptor().update(plain.tobytes())
        return np.frombuffer(sealed, dtype=">u8")[::2].astype(np.uint64)

    def read(self, kind: int, name: str) -> tuple[int, int] | None:
        """Give the (epoch, number) that a name of this kind stands for; None if it is not ours."""
        try:
            plain = self._cipher.decryptor().update(bytes.fromhex(name))
        except ValueError:
            return None
        if len(plain) != 16 or plain[0] != kind:
            return None
        epoch, number = int.from_bytes(plain[1:8], "big"), int.from_bytes(plain[8:], "big")
        # Another platform's names decrypt to noise, which rarely stays below what numbers reach.
        if number >> _NUMBER_BITS or (kind not in {self.CURSOR, self.PAGE} and epoch):
            return None
        return epoch, number
