"""What survivors and the clearinghouse send to each other about a case."""

from datetime import datetime
from enum import StrEnum
from operator import not_
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    FailFast,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nciihash.signals import Hashed, Item, Media, Signal, SignalType, Variant, Verdict
from nciihash.wire.base import PDQ_EXAMPLE, HexValue, Message, Quality, example
from nciihash.wire.proof_of_work import Work

ITEMS_MAX: Final = 200  # files in a case
SIGNALS_MAX: Final = 2048  # signals of one file: variants of a picture, frames of a video
REQUEST_SIGNALS_MAX: Final = 1024  # signals of all the files in one request

CASE_SCHEME: Final = "Case"  # Authorization: Case base64(number:passphrase)


ITEM_EXAMPLE: Final[dict[str, JsonValue]] = {
    "media": "image",
    "signals": [{"type": "pdq", "value": PDQ_EXAMPLE, "quality": 93, "variant": "original"}],
}


class Reason(StrEnum):
    """Why a case is opened, in the survivor's own choice of four words."""

    THREATENED = "threatened"
    SHARED = "shared"
    PRECAUTION = "precaution"
    SYNTHETIC = "synthetic"


class Declaration(Message):
    """What she declares: she was over 18 in the picture, and it shows her."""

    adult: StrictBool
    depicted: StrictBool


class SignalIn(Message):
    """One hash of one file."""

    type: SignalType
    value: Annotated[HexValue, Field(examples=[PDQ_EXAMPLE])]
    quality: Quality | None = None
    variant: Variant = Variant.ORIGINAL

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type.veils is not None:
            raise ValueError("a part of a hash cannot be submitted")
        if len(self.value) * 4 != self.type.bits:
            raise ValueError("the value has another length than its type asks for")
        if (self.quality is None) == (self.type is SignalType.PDQ):
            raise ValueError("quality belongs to pdq, and to pdq alone")
        return self

    @classmethod
    def of(cls, hashed: Hashed) -> Self:
        """Write a hash down for the wire."""
        return cls(
            type=hashed.signal.type,
            value=hashed.signal.hex,
            quality=hashed.quality,
            variant=hashed.variant,
        )

    @property
    def hashed(self) -> Hashed:
        """Read the hash back."""
        return Hashed(Signal.from_hex(self.type, self.value), self.quality, self.variant)


class ItemIn(Message):
    """One file: its kind and its hashes, and nothing else about it.

    `more`: these are the first hashes of a long video, and the others follow in `AddSignals`.
    """

    media: Media
    signals: Annotated[
        tuple[SignalIn, ...], Field(min_length=1, max_length=SIGNALS_MAX), FailFast()
    ]
    # left out where it says nothing, since an older service does not know it; so is `work` below
    more: Annotated[StrictBool, Field(exclude_if=not_)] = False

    @classmethod
    def of(cls, item: Item) -> Self:
        """Write an item down for the wire."""
        return cls(media=item.media, signals=tuple(SignalIn.of(h) for h in item.hashes))


# FailFast: a large list of wrong items must not cost more than its first
SavedItems = Annotated[tuple[ItemIn, ...], Field(min_length=1, max_length=ITEMS_MAX), FailFast()]


def _fit_one_request(items: tuple[ItemIn, ...]) -> tuple[ItemIn, ...]:
    if sum(len(item.signals) for item in items) > REQUEST_SIGNALS_MAX:
        raise PydanticCustomError("too_many_signals", "A request holds at most 1,024 hashes")
    return items


Items = Annotated[SavedItems, AfterValidator(_fit_one_request)]


class OpenCase(Message):
    """Ask for a case. `work` may be null while `GET /v1/work` asks for nothing."""

    model_config = example(
        declaration={"adult": True, "depicted": True},
        reason="threatened",
        work=None,
        items=[ITEM_EXAMPLE],
    )

    declaration: Declaration
    reason: Reason
    work: Work | None = None
    items: Items


class AddItems(Message):
    """Add files to an open case. `work` may be null unless the answer 428 asks for it."""

    model_config = example(items=[ITEM_EXAMPLE])

    items: Items
    work: Annotated[Work | None, Field(exclude_if=not_)] = None


class AddSignals(Message):
    """Add the next hashes of a long video to a file that was sent with `more`.

    `after`: how many hashes of this file were sent before. The same part may be sent again.
    `more`: it is not the last part either. `work` as in `AddItems`.
    """

    model_config = example(after=1024, signals=ITEM_EXAMPLE["signals"], more=False)

    after: Annotated[StrictInt, Field(ge=1, lt=SIGNALS_MAX)]
    signals: Annotated[
        tuple[SignalIn, ...], Field(min_length=1, max_length=REQUEST_SIGNALS_MAX), FailFast()
    ]
    more: StrictBool = False
    work: Annotated[Work | None, Field(exclude_if=not_)] = None


class SavedHashes(Message):
    """The hashes of files, saved on the device to be sent later."""

    items: SavedItems


RefusalCode = Literal[
    "low_quality", "quarantined", "implausible", "type_not_matched", "being_checked"
]


class Refusal(Message):
    """A signal that was not taken: its place in the item's list, and why.

    `low_quality`: the picture is too plain. `implausible`: no picture that is not blank has this
    PDQ value. `type_not_matched`: this clearinghouse does not match by this type. `quarantined` and
    `being_checked` are kept: nothing of the file goes to a platform until the operator has decided,
    since it is like a picture known to be lawful, or since platforms did not block the same hash.
    """

    signal: int
    code: RefusalCode


class ItemReceipt(Message):
    """What became of one file: its number in the case, and how many signals were taken."""

    item: int
    accepted: int
    refused: tuple[Refusal, ...] = ()


class CaseOpened(Message):
    """The only answer that ever holds the passphrase."""

    case: Annotated[str, Field(examples=["K7Q4-29XD-MM3R"])]
    passphrase: Annotated[str, Field(examples=["six words from a public list"], repr=False)]
    expires: datetime
    items: tuple[ItemReceipt, ...]


class ItemsAdded(Message):
    """What became of the files that were added."""

    expires: datetime
    items: tuple[ItemReceipt, ...]


class SignalsAdded(Message):
    """What became of a part of a file: its number in the case, and how many signals were taken.

    A refusal gives the index of a signal in this part.
    """

    expires: datetime
    item: int
    accepted: int
    refused: tuple[Refusal, ...] = ()


class CaseState(StrEnum):
    """Whether anything in a case is still matched."""

    OPEN = "open"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class PlatformStatus(Message):
    """What one platform did about one file; null means that we do not know.

    `has_it_since`: the hour in which it confirmed that it matches against this file's hashes.
    `deletion_acknowledged`: the hour in which it confirmed that it no longer does.
    `follows` is false for a platform that holds no list and asks us at every upload. `veiled`: its
    list holds only a part of each hash, and it asks us about what is like one. `matches` and the
    counts in `verdicts` are lower bounds, 0, 1, 10, 100 and so on, as they were at the last
    midnight (UTC): whoever has a picture can open a case, and must not watch its uploads by it.
    """

    platform: str
    follows: bool
    veiled: bool = False
    has_it_since: datetime | None
    matches: int
    verdicts: dict[Verdict, int]
    deletion_acknowledged: datetime | None


class TakenOut(StrEnum):
    """Who took a file out, if not its holder: the operator, or platforms that did not block it."""

    OPERATOR = "operator"
    PLATFORMS = "platforms"


class ItemStatus(Message):
    """One file of a case.

    `held_back`: it goes to no platform until the operator has decided: it is like a picture that
    the operator knows to be lawful, or platforms did not block it. `being_checked`: so many of its
    signals platforms did not block; they match nothing, and the operator checks that for some days.
    `taken_out`: it was not its holder who withdrew it. `complete` is false while a part of a
    long video was not sent yet.
    """

    item: int
    media: Media
    signals: int
    added: datetime
    withdrawn: datetime | None
    held_back: bool = False
    being_checked: Annotated[int, Field(exclude_if=not_)] = 0
    taken_out: TakenOut | None = None
    complete: Annotated[bool, Field(exclude_if=bool)] = True
    platforms: tuple[PlatformStatus, ...]


class CaseStatus(Message):
    """A case as its holder sees it. Reading it renews it."""

    state: CaseState
    reason: Reason
    opened: datetime
    expires: datetime
    items: tuple[ItemStatus, ...]


class Withdrawal(Message):
    """How many files this call withdrew, and how many of the case are still matched."""

    withdrawn: int
    remaining: int
    state: CaseState
