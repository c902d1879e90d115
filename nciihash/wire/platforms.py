"""What platforms and the clearinghouse send to each other."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self, assert_never

from pydantic import FailFast, Field, model_validator

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

QUERIES_MAX: Final = 10_000  # hashes in one match request
PAGE_MAX: Final = 10_000  # entries in one page of the feed
WAIT_MAX: Final = 30.0  # seconds that a long poll may stay open
VERDICTS_MAX: Final = 1_000  # verdicts in one request
OCTETS: Final = "application/octet-stream"
PDQ_BYTES: Final = SignalType.PDQ.bits // 8


class AddedEntry(Message):
    """A signal joins the bank."""

    op: Literal["add"] = "add"
    id: OpaqueId
    item: OpaqueId
    type: SignalType
    value: Annotated[HexValue, Field(examples=[PDQ_EXAMPLE])]
    quality: Quality | None
    media: Media
    variant: Variant

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if len(self.value) * 4 != self.type.bits:
            raise ValueError("the value has another length than its type asks for")
        return self


class RemovedEntry(Message):
    """A signal leaves the bank."""

    op: Literal["remove"] = "remove"
    id: OpaqueId


class FeedReply(Message):
    """A page of the feed, whole or not at all."""

    entries: tuple[Annotated[AddedEntry | RemovedEntry, Field(discriminator="op")], ...]
    cursor: OpaqueId
    more: bool

    @classmethod
    def of(cls, page: FeedPage) -> Self:
        """Write a page down for the wire."""
        return cls(
            entries=tuple(_entry(e) for e in page.entries), cursor=page.cursor, more=page.more
        )

    @property
    def page(self) -> FeedPage:
        """Read the page back."""
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
    """Everything up to this cursor is on disk and in what is matched against, removals included."""

    model_config = example(cursor=ID_EXAMPLE)

    cursor: OpaqueId


class MatchQuery(Message):
    """Hashes of one type to look for.

    `qualities` may come with PDQ hashes, one for each: what is below 50 matches nothing.
    """

    model_config = example(type="pdq", values=[PDQ_EXAMPLE], qualities=[93])

    type: SignalType
    values: Annotated[
        tuple[Annotated[HexValue, Field(examples=[PDQ_EXAMPLE])], ...],
        Field(min_length=1, max_length=QUERIES_MAX),
        FailFast(),
    ]
    qualities: Annotated[
        tuple[Quality, ...] | None,
        Field(min_length=1, max_length=QUERIES_MAX, exclude_if=lambda given: given is None),
        FailFast(),
    ] = None

    @model_validator(mode="after")
    def _fit_their_type(self) -> Self:
        if self.type.veils is not None:
            raise ValueError("a part of a hash cannot be asked for")
        if any(len(value) * 4 != self.type.bits for value in self.values):
            raise ValueError("a value has another length than its type asks for")
        if self.qualities is not None and (
            self.type is not SignalType.PDQ or len(self.qualities) != len(self.values)
        ):
            raise ValueError("qualities belong to pdq, one for each value")
        return self


class Hit(Message):
    """A signal of the bank that a query matched. Never its distance: distances leak the bank."""

    id: OpaqueId
    item: OpaqueId
    band: Band


class Hits(tuple[Hit, ...]):  # noqa: SLOT001 - a tuple holds no slots of its own
    """The hits of one query; `truncated` says that it had more than the service tells."""

    truncated: bool = False

    @classmethod
    def of(cls, hits: Iterable[Hit], *, truncated: bool = False) -> Self:
        """Collect the hits of one query."""
        made = cls(hits)
        made.truncated = truncated
        return made


class MatchReply(Message):
    """Hits for each query, in the queries' order; `as_of` is how far the index had got.

    The hits of a query are of at most 20 files: those with a `strong` hit come first, and else the
    order is that of the ids, which tells nothing. `truncated` names the queries, by their places
    from 0, that met more than is told. It is left out where it would be empty.
    """

    as_of: OpaqueId
    matches: tuple[tuple[Hit, ...], ...]
    truncated: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(exclude_if=lambda places: not places)
    ] = ()

    @property
    def hits(self) -> list[Hits]:
        """The hits of each query, with whether they are all."""
        cut = frozenset(self.truncated)
        return [Hits.of(row, truncated=n in cut) for n, row in enumerate(self.matches)]


class VerdictIn(Message):
    """What the platform decided about its match with one signal."""

    id: OpaqueId
    verdict: Verdict


class Feedback(Message):
    """Verdicts; a later one about the same signal replaces the earlier."""

    model_config = example(verdicts=[{"id": ID_EXAMPLE, "verdict": "blocked"}])

    verdicts: Annotated[tuple[VerdictIn, ...], Field(min_length=1, max_length=VERDICTS_MAX)]


class FeedbackTaken(Message):
    """How many verdicts were recorded, and how many named a signal that this platform never had."""

    recorded: int
    unknown: int
