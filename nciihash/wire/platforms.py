"""Messages between a platform and the clearinghouse: feed, matches and verdicts."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self, assert_never

from pydantic import BeforeValidator, ConfigDict, FailFast, Field, JsonValue, model_validator

from nciihash.feed import Added, FeedPage, Removed
from nciihash.signals import Band, Media, Signal, SignalType, Variant, Verdict
from nciihash.wire.base import (
    ID_EXAMPLE,
    PDQ_EXAMPLE,
    HexValue,
    Message,
    OpaqueId,
    Quality,
    example,
)

QUERIES_MAX: Final = 10_000  # hashes in a match request
PAGE_MAX: Final = 10_000  # entries on a page of the feed
WAIT_MAX: Final = 30.0  # seconds of a long poll
VERDICTS_MAX: Final = 1_000  # verdicts in a request
OCTETS: Final = "application/octet-stream"
PDQ_BYTES: Final = SignalType.PDQ.bits // 8

SignalId = Annotated[
    OpaqueId,
    Field(
        description="This platform's id of the signal: other platforms have other ids for it, and "
        "it is never reused for another hash."
    ),
]
ItemId = Annotated[
    OpaqueId,
    Field(
        description="This platform's id of the file that the signal belongs to, the same for all "
        "signals of one file."
    ),
]


def _known(name: JsonValue) -> JsonValue:
    """Replace the name of a variant that only a newer service knows; its signal is matched too."""
    return Variant.named(name) if isinstance(name, str) else name


# `op` is always sent, and the OpenAPI document says so: clients tell entries apart by it
_WITH_OP: Final = ConfigDict(json_schema_serialization_defaults_required=True)


class AddedEntry(Message):
    """An entry of the feed: add this signal to the bank.

    A hash of type `pdq`, `sha256` or `sha256-veil` has 256 bits, one of `md5` or `md5-veil` 128,
    one of `phash` or `dhash` 64. `pdq-veil128`, `-veil144` and `-veil160` have 128, 144 and 160.
    """

    model_config = _WITH_OP

    op: Literal["add"] = "add"
    id: SignalId
    item: ItemId
    type: SignalType
    value: Annotated[
        HexValue,
        Field(description="The hash in lowercase hexadecimal digits.", examples=[PDQ_EXAMPLE]),
    ]
    quality: Annotated[
        Quality | None, Field(description="PDQ's quality measure; null for other types.")
    ]
    media: Media
    variant: Annotated[
        Variant,
        BeforeValidator(_known),
        Field(
            description="The altered copy that was hashed. Later versions may have further names: "
            "match their signals like all others."
        ),
    ]

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if len(self.value) * 4 != self.type.bits:
            raise ValueError("the length of the value is not that of its type")
        return self


class RemovedEntry(Message):
    """An entry of the feed: remove this signal from the bank and match nothing against it.

    It carries no value. If the bank has no signal with this id, ignore the entry.
    """

    model_config = _WITH_OP

    op: Literal["remove"] = "remove"
    id: SignalId


class FeedReply(Message):
    """A page of the feed. Apply its entries in their order, all of them or none."""

    entries: Annotated[
        tuple[Annotated[AddedEntry | RemovedEntry, Field(discriminator="op")], ...],
        Field(description="Additions and removals, in the order of the log."),
    ]
    cursor: Annotated[
        OpaqueId,
        Field(description="The position after the last entry; send it to request the next page."),
    ]
    more: Annotated[
        bool, Field(description="Whether the log had further entries: request the next page now.")
    ]

    @classmethod
    def of(cls, page: FeedPage) -> Self:
        """Return the message for a page."""
        return cls(
            entries=tuple(_entry(e) for e in page.entries), cursor=page.cursor, more=page.more
        )

    @property
    def page(self) -> FeedPage:
        """The page of this message."""
        return FeedPage(
            tuple(
                Removed(e.id)
                if isinstance(e, RemovedEntry)
                else Added(
                    id=e.id,
                    item=e.item,
                    signal=Signal.from_hex(e.type, e.value),
                    quality=e.quality,
                    media=e.media,
                    variant=e.variant,
                )
                for e in self.entries
            ),
            self.cursor,
            self.more,
        )


def _entry(entry: Added | Removed) -> AddedEntry | RemovedEntry:
    match entry:
        case Added():
            return AddedEntry(
                id=entry.id,
                item=entry.item,
                type=entry.signal.type,
                value=entry.signal.hex,
                quality=entry.quality,
                media=entry.media,
                variant=entry.variant,
            )
        case Removed():
            return RemovedEntry(id=entry.id)
        case _ as never:
            assert_never(never)


class Acknowledgement(Message):
    """The platform's statement that it has applied the feed up to a cursor.

    It means that all additions and removals up to there are on the platform's disk and in what it
    matches uploads against. Survivors see it, so never acknowledge what has only been received.
    """

    model_config = example(cursor=ID_EXAMPLE)

    cursor: Annotated[OpaqueId, Field(description="The cursor of a page, unchanged.")]


class MatchQuery(Message):
    """Hashes of one type to match against the bank.

    PDQ hashes can be sent as `application/octet-stream` instead: 32 bytes each, end to end, without
    qualities.
    """

    model_config = example(type="pdq", values=[PDQ_EXAMPLE], qualities=[93])

    type: Annotated[SignalType, Field(description="The type of all values; not a veiled one.")]
    values: Annotated[
        tuple[Annotated[HexValue, Field(examples=[PDQ_EXAMPLE])], ...],
        Field(
            min_length=1,
            max_length=QUERIES_MAX,
            description="The hashes in lowercase hexadecimal digits.",
        ),
        FailFast(),
    ]
    qualities: Annotated[
        tuple[Quality, ...] | None,
        Field(
            min_length=1,
            max_length=QUERIES_MAX,
            exclude_if=lambda qualities: qualities is None,
            description="For `pdq`, optionally the quality of each value, in the same order: a "
            "hash with a quality below 50 matches nothing.",
        ),
        FailFast(),
    ] = None

    @model_validator(mode="after")
    def _fit_their_type(self) -> Self:
        if self.type.veils is not None:
            raise ValueError("a veiled hash cannot be a query")
        if any(len(value) * 4 != self.type.bits for value in self.values):
            raise ValueError("the length of a value is not that of its type")
        if self.qualities is not None and (
            self.type is not SignalType.PDQ or len(self.qualities) != len(self.values)
        ):
            raise ValueError("only pdq values have qualities, one for each value")
        return self


class Hit(Message):
    """A signal of the bank within the threshold of a query.

    The distance is never returned, since distances would reveal the bank.
    """

    id: SignalId
    item: ItemId
    band: Annotated[
        Band,
        Field(
            description="How close the match is. `strong`: up to 16 of 256 bits (`pdq`) or 5 of 64 "
            "(`phash`, `dhash`). `likely`: up to 31 or 10 bits. Hits of `md5` and `sha256`, whose "
            "values are equal, are always `strong`."
        ),
    ]


class Hits(tuple[Hit, ...]):  # noqa: SLOT001 - a tuple holds no slots of its own
    """The hits of one query; `truncated` if it had more than the service returns."""

    truncated: bool = False

    @classmethod
    def of(cls, hits: Iterable[Hit], *, truncated: bool = False) -> Self:
        """Collect the hits of one query."""
        collected = cls(hits)
        collected.truncated = truncated
        return collected


class MatchReply(Message):
    """The hits of each query.

    The hits of one query are of at most 20 files, and at most 8 of each file. Files with a `strong`
    hit come first; otherwise the order is that of the ids, which carries no information.
    """

    as_of: Annotated[
        OpaqueId, Field(description="The position in the log up to which the bank was searched.")
    ]
    matches: Annotated[
        tuple[tuple[Hit, ...], ...],
        Field(description="The hits of each query, in the order of the queries."),
    ]
    truncated: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(
            exclude_if=lambda indexes: not indexes,
            description="The indexes, from 0, of the queries with more hits than are returned. "
            "Omitted if there are none.",
        ),
    ] = ()

    @property
    def hits(self) -> list[Hits]:
        """The hits of each query, and whether they are all."""
        truncated = frozenset(self.truncated)
        return [Hits.of(row, truncated=n in truncated) for n, row in enumerate(self.matches)]


class VerdictIn(Message):
    """The platform's decision on its match with one signal."""

    id: Annotated[OpaqueId, Field(description="The signal's id, from the feed or a match.")]
    verdict: Verdict


class Feedback(Message):
    """Verdicts on matches. A later verdict on the same signal replaces the earlier one."""

    model_config = example(verdicts=[{"id": ID_EXAMPLE, "verdict": "blocked"}])

    verdicts: Annotated[
        tuple[VerdictIn, ...],
        Field(
            min_length=1,
            max_length=VERDICTS_MAX,
            description="The verdicts, each on one signal that the feed or a match returned.",
        ),
    ]


class FeedbackTaken(Message):
    """How many verdicts were recorded."""

    recorded: Annotated[int, Field(description="How many verdicts were recorded.")]
    unknown: Annotated[
        int, Field(description="How many were about an id that this platform never received.")
    ]
