"""Messages between a survivor and the clearinghouse: a case, its files and their hashes."""

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

ITEMS_MAX: Final = 200  # files of a case
SIGNALS_MAX: Final = 2048  # signals of a file: variants of a picture, frames of a video
REQUEST_SIGNALS_MAX: Final = 1024  # signals of all files of a request

CASE_SCHEME: Final = "Case"  # Authorization: Case base64(number:passphrase)


ITEM_EXAMPLE: Final[dict[str, JsonValue]] = {
    "media": "image",
    "signals": [{"type": "pdq", "value": PDQ_EXAMPLE, "quality": 93, "variant": "original"}],
}


class Reason(StrEnum):
    """Why a case is opened, as the survivor chooses it; platforms never see it.

    - `threatened`: somebody threatens to share the pictures.
    - `shared`: somebody has shared them.
    - `precaution`: she fears that somebody might share them.
    - `synthetic`: they were generated or altered by software.
    """

    THREATENED = "threatened"
    SHARED = "shared"
    PRECAUTION = "precaution"
    SYNTHETIC = "synthetic"


class Declaration(Message):
    """The survivor's declaration about the pictures. Both must be true."""

    adult: Annotated[
        StrictBool,
        Field(description="Everybody in the pictures was 18 or older when they were taken."),
    ]
    depicted: Annotated[
        StrictBool, Field(description="The pictures show the person whose case this is.")
    ]


class SignalIn(Message):
    """A hash of a file."""

    type: SignalType
    value: Annotated[
        HexValue,
        Field(
            description="The hash in lowercase hexadecimal digits: 64 for `pdq` and `sha256`, 32 "
            "for `md5`, 16 for `phash` and `dhash`.",
            examples=[PDQ_EXAMPLE],
        ),
    ]
    quality: Annotated[
        Quality | None,
        Field(
            description="PDQ's quality measure. Required for `pdq` and null for all other types. A "
            "hash with a quality below 50 is refused (`low_quality`)."
        ),
    ] = None
    variant: Annotated[
        Variant,
        Field(description="The altered copy of the picture that was hashed; `unknown` is refused."),
    ] = Variant.ORIGINAL

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type.veils is not None:
            raise ValueError("a veiled hash cannot be submitted")
        if len(self.value) * 4 != self.type.bits:
            raise ValueError("the length of the value is not that of its type")
        if (self.quality is None) == (self.type is SignalType.PDQ):
            raise ValueError("a pdq hash needs a quality, and other types have none")
        if self.variant is Variant.UNKNOWN:
            raise ValueError("a hash of an unknown variant cannot be submitted")
        return self

    @classmethod
    def of(cls, hashed: Hashed) -> Self:
        """Return the message for a hash."""
        return cls(
            type=hashed.signal.type,
            value=hashed.signal.hex,
            quality=hashed.quality,
            variant=hashed.variant,
        )

    @property
    def hashed(self) -> Hashed:
        """The hash of this message."""
        return Hashed(Signal.from_hex(self.type, self.value), self.quality, self.variant)


class ItemIn(Message):
    """A file: its kind and its hashes, and nothing else about it."""

    media: Media
    signals: Annotated[
        tuple[SignalIn, ...],
        Field(
            min_length=1,
            max_length=SIGNALS_MAX,
            description="The hashes of the file: of a picture and its altered copies, or of the "
            "frames of a video. All files of a request together have at most 1,024.",
        ),
        FailFast(),
    ]
    # omitted if false, since older services refuse the field; so is `work` below
    more: Annotated[
        StrictBool,
        Field(
            exclude_if=not_,
            description="These are the first hashes of a long video; the others follow in "
            "`AddSignals`.",
        ),
    ] = False

    @classmethod
    def of(cls, item: Item) -> Self:
        """Return the message for an item."""
        return cls(media=item.media, signals=tuple(SignalIn.of(h) for h in item.hashes))


# FailFast: validating a long list of invalid items must not cost more than its first one
SavedItems = Annotated[tuple[ItemIn, ...], Field(min_length=1, max_length=ITEMS_MAX), FailFast()]


def _fit_one_request(items: tuple[ItemIn, ...]) -> tuple[ItemIn, ...]:
    if sum(len(item.signals) for item in items) > REQUEST_SIGNALS_MAX:
        raise PydanticCustomError("too_many_signals", "A request holds at most 1,024 hashes")
    return items


Items = Annotated[SavedItems, AfterValidator(_fit_one_request)]


ItemNumber = Annotated[int, Field(description="The number of the file in the case, from 1.")]
Expires = Annotated[
    datetime,
    Field(description="When the case ends unless it is renewed, rounded to the hour (UTC)."),
]
AdditionalWork = Annotated[
    Work | None,
    Field(
        exclude_if=not_,
        description="A proof of work; required only after a response 428, which contains the "
        "challenge.",
    ),
]


class OpenCase(Message):
    """A request to open a case."""

    model_config = example(
        declaration={"adult": True, "depicted": True},
        reason="threatened",
        work=None,
        items=[ITEM_EXAMPLE],
    )

    declaration: Declaration
    reason: Reason
    work: Annotated[
        Work | None,
        Field(description="A proof of work; null while `GET /v1/work` requires none."),
    ] = None
    items: Annotated[Items, Field(description="The files of the case.")]


class AddItems(Message):
    """A request to add files to an open case."""

    model_config = example(items=[ITEM_EXAMPLE])

    items: Annotated[Items, Field(description="The files to add.")]
    work: AdditionalWork = None


class AddSignals(Message):
    """A request to add the next hashes of a long video, which was sent with `more`.

    It can be repeated safely: hashes that the file has already are not added again.
    """

    model_config = example(after=1024, signals=ITEM_EXAMPLE["signals"], more=False)

    after: Annotated[
        StrictInt,
        Field(
            ge=1,
            lt=SIGNALS_MAX,
            description="How many hashes of this file were sent before these.",
        ),
    ]
    signals: Annotated[
        tuple[SignalIn, ...],
        Field(
            min_length=1,
            max_length=REQUEST_SIGNALS_MAX,
            description="The next hashes of the file.",
        ),
        FailFast(),
    ]
    more: Annotated[StrictBool, Field(description="Further hashes of this file follow.")] = False
    work: AdditionalWork = None


class SavedHashes(Message):
    """The hashes of files, saved on the device to be sent later."""

    items: Annotated[SavedItems, Field(description="The files of a case.")]


RefusalCode = Literal[
    "low_quality", "quarantined", "implausible", "type_not_matched", "being_checked"
]


class Refusal(Message):
    """A signal that was not accepted, and why.

    - `low_quality`: the picture has too little detail; its hash would match other people's.
    - `implausible`: only a blank picture has this PDQ value.
    - `type_not_matched`: this clearinghouse does not match hashes of this type.
    - `quarantined`: the file resembles a picture known to be lawful.
    - `being_checked`: an equal hash is on hold, because platforms did not block it.

    The last two are stored, but platforms receive nothing of the file until the operator has
    decided.
    """

    signal: Annotated[
        int, Field(description="The index of the signal in the request's list, from 0.")
    ]
    code: Annotated[RefusalCode, Field(description="Why the signal was not accepted.")]


class ItemReceipt(Message):
    """The result of submitting a file."""

    item: ItemNumber
    accepted: Annotated[int, Field(description="How many of its signals were accepted.")]
    refused: Annotated[
        tuple[Refusal, ...], Field(description="The signals that were not accepted.")
    ] = ()


Receipts = Annotated[
    tuple[ItemReceipt, ...],
    Field(description="A receipt for each file, in the order of the request."),
]


class CaseOpened(Message):
    """A new case. No other response ever contains the passphrase."""

    case: Annotated[str, Field(description="The case number.", examples=["K7Q4-29XD-MM3R"])]
    passphrase: Annotated[
        str,
        Field(
            description="Six words. With the case number, they are the credentials of the case.",
            examples=["six words from a public list"],
            repr=False,
        ),
    ]
    expires: Expires
    items: Receipts


class ItemsAdded(Message):
    """The files that were added to a case."""

    expires: Expires
    items: Receipts


class SignalsAdded(Message):
    """The result of adding hashes to a file."""

    expires: Expires
    item: ItemNumber
    accepted: Annotated[
        int, Field(description="How many of the signals of this request were accepted.")
    ]
    refused: Annotated[
        tuple[Refusal, ...],
        Field(description="The signals of this request that were not accepted."),
    ] = ()


class CaseState(StrEnum):
    """The state of a case. Only files of an open case are matched."""

    OPEN = "open"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class PlatformStatus(Message):
    """What one platform did about one file.

    `matches` and the counts in `verdicts` are lower bounds (0, 1, 10, 100 and so on) as of the last
    midnight (UTC). Anybody who has a picture can open a case with it, and must not be able to
    monitor its uploads.
    """

    platform: Annotated[str, Field(description="The name of the platform.")]
    follows: Annotated[
        bool,
        Field(
            description="Whether the platform keeps a list of hashes. Otherwise it queries the "
            "clearinghouse about each upload."
        ),
    ]
    veiled: Annotated[
        bool,
        Field(
            description="Whether its list has only a part of each hash, so that it queries the "
            "clearinghouse about uploads that resemble one."
        ),
    ] = False
    has_it_since: Annotated[
        datetime | None,
        Field(
            description="The hour in which the platform confirmed that it matches uploads against "
            "this file's hashes; null if it has not."
        ),
    ]
    matches: Annotated[int, Field(description="How many uploads matched; a lower bound.")]
    verdicts: Annotated[
        dict[Verdict, int],
        Field(description="How many matches got each verdict; lower bounds."),
    ]
    deletion_acknowledged: Annotated[
        datetime | None,
        Field(
            description="The hour in which the platform confirmed that it no longer matches "
            "against this file's hashes; null if it has not."
        ),
    ]


class TakenOut(StrEnum):
    """Who removed a file, if not its holder: the operator, or platforms that did not block it."""

    OPERATOR = "operator"
    PLATFORMS = "platforms"


class ItemStatus(Message):
    """The status of one file of a case."""

    item: ItemNumber
    media: Media
    signals: Annotated[int, Field(description="How many signals the file has.")]
    added: Annotated[datetime, Field(description="The hour in which it was added.")]
    withdrawn: Annotated[
        datetime | None,
        Field(description="The hour in which it was withdrawn; null if it was not."),
    ]
    held_back: Annotated[
        bool,
        Field(
            description="Whether platforms receive nothing of the file until the operator decides, "
            "because it resembles a picture known to be lawful, or platforms did not block it."
        ),
    ] = False
    being_checked: Annotated[
        int,
        Field(
            exclude_if=not_,
            description="How many of its signals are on hold because platforms did not block them. "
            "They match nothing while the operator decides, for up to 7 days.",
        ),
    ] = 0
    taken_out: Annotated[
        TakenOut | None,
        Field(description="Who removed the file; null if nobody did, or its holder withdrew it."),
    ] = None
    complete: Annotated[
        bool, Field(exclude_if=bool, description="False while parts of a long video are missing.")
    ] = True
    platforms: Annotated[
        tuple[PlatformStatus, ...], Field(description="What each platform did about the file.")
    ]


class CaseStatus(Message):
    """A case as its holder sees it. Reading it renews the case."""

    state: CaseState
    reason: Reason
    opened: Annotated[datetime, Field(description="The hour in which the case was opened.")]
    expires: Expires
    items: Annotated[tuple[ItemStatus, ...], Field(description="The files of the case.")]


class Withdrawal(Message):
    """The result of a withdrawal."""

    withdrawn: Annotated[int, Field(description="How many files this request withdrew.")]
    remaining: Annotated[int, Field(description="How many files of the case are still matched.")]
    state: CaseState
