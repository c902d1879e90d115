"""The ids that a platform sees: encrypted row numbers."""

import hashlib
import hmac
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_NUMBER_BITS: Final = 48  # row numbers and log positions stay below 2**48


class PlatformIds:
    """Encrypts row numbers to ids for one platform, and decrypts them: one AES block each.

    A block contains a kind, an epoch and a number, and is encrypted under a secret of the platform
    that never changes. So ids are invertible, unique and unguessable, and meaningless to other
    platforms.

    Args:
        secret: 16, 24 or 32 bytes, an AES key.
    """

    SIGNAL: Final = 1
    ITEM: Final = 2
    CURSOR: Final = 3
    RECORD: Final = 4
    PAGE: Final = 5

    def __init__(self, secret: bytes) -> None:
        # ECB encrypts single blocks, and no two of them are equal
        self._cipher = Cipher(algorithms.AES(secret), modes.ECB())  # noqa: S305 - see above
        self.veil_key = hmac.digest(secret, b"veil", hashlib.sha256)

    def write(self, kind: int, numbers: list[int], *, epoch: int = 0) -> list[str]:
        """Return the ids of rows, 32 hexadecimal digits each."""
        plain = b"".join(
            bytes([kind]) + epoch.to_bytes(7, "big") + number.to_bytes(8, "big")
            for number in numbers
        )
        digits = self._cipher.encryptor().update(plain).hex()
        return [digits[i : i + 32] for i in range(0, len(digits), 32)]

    def order(self, kind: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the first half of each row's id as a sort key: the order of the ids.

        The output of a block cipher is pseudorandom, so the order is fixed for a platform and
        depends only on its secret and the row numbers.

        Args:
            kind: of the rows.
            numbers: int64 (n,), row numbers.

        Returns:
            uint64 (n,), the first 8 bytes of each id, big-endian.
        """
        plain = np.empty((len(numbers), 2), dtype=">u8")
        plain[:, 0] = kind << 56
        plain[:, 1] = numbers
        sealed = self._cipher.encryptor().update(plain.tobytes())
        return np.frombuffer(sealed, dtype=">u8")[::2].astype(np.uint64)

    def read(self, kind: int, name: str) -> tuple[int, int] | None:
        """Return the (epoch, number) of an id of this kind, or None if it is not the platform's."""
        try:
            plain = self._cipher.decryptor().update(bytes.fromhex(name))
        except ValueError:
            return None
        if len(plain) != 16 or plain[0] != kind:
            return None
        epoch, number = int.from_bytes(plain[1:8], "big"), int.from_bytes(plain[8:], "big")
        # another platform's ids decrypt to noise, which is rarely below 2**48
        if number >> _NUMBER_BITS or (kind not in {self.CURSOR, self.PAGE} and epoch):
            return None
        return epoch, number
