"""What crosses the network about veiled lists (`nciihash.veil`)."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nciihash.signals import SignalType
from nciihash.veil import VEILS, Veil
from nciihash.wire.base import Message


class VeilReply(Message):
    """What a platform's veiled list is made with: how much of a hash, and the key of exact ones."""

    type: SignalType
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]

    @model_validator(mode="after")
    def _is_a_veil(self) -> Self:
        if self.type not in VEILS:
            raise ValueError("not a veil")
        return self

    @classmethod
    def of(cls, veil: Veil) -> Self:
        """Write a veil down for the wire."""
        return cls(type=veil.type, key=veil.key.hex())

    @property
    def veil(self) -> Veil:
        """Read it back."""
        return Veil(self.type, bytes.fromhex(self.key))
