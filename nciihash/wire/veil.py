"""The message that describes a platform's veil (`nciihash.veil`)."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nciihash.signals import SignalType
from nciihash.veil import VEILS, Veil
from nciihash.wire.base import Message


class VeilReply(Message):
    """How the hashes in this platform's feed are veiled.

    Veil the hash of an upload in the same way and search for candidates; if there are any, send the
    whole hash of the upload to `/v1/match`.
    """

    type: Annotated[
        SignalType,
        Field(
            description="Which bits of a PDQ hash the feed contains: `pdq-veil128`, `pdq-veil144` "
            "or `pdq-veil160`."
        ),
    ]
    key: Annotated[
        str,
        Field(
            pattern=r"^[0-9a-f]{64}$",
            description="The HMAC-SHA-256 key of the `md5` and `sha256` values in the feed; it is "
            "the platform's own.",
            repr=False,
        ),
    ]

    @model_validator(mode="after")
    def _is_a_veil(self) -> Self:
        if self.type not in VEILS:
            raise ValueError("not a veiled type of PDQ")
        return self

    @classmethod
    def of(cls, veil: Veil) -> Self:
        """Return the message for a veil."""
        return cls(type=veil.type, key=veil.key.hex())

    @property
    def veil(self) -> Veil:
        """The veil of this message."""
        return Veil(self.type, bytes.fromhex(self.key))
