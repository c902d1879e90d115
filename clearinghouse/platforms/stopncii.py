"""The StopNCII wire format: its documents, and what they mean here.

Clients that exist speak it: `threatexchange` and Hasher-Matcher-Actioner, unmodified. The rules
that they depend on, some by crashing:

- Times never go back, across pages and fetches, and a reader may stop after any page and start
  again at its `nextSetTimestamp` (`clearinghouse.database.queries.stopncii_records` says how). At
  most a hundred records share a time, so a page of more than that leads to a later one; smaller
  pages are not given.
- There are no withdrawn records: the clients take one for a live record. A hash that is withdrawn
  is missing from every later page, so a reader gets rid of it by fetching all from the beginning.
  A reader that cannot do that should use `/v1/feed`, which sends removals.
- `caseNumbers` holds one id of our own making for each record and reader, since case numbers would
  join one survivor's files.
- Feedback names a hash by its value alone. It is recorded for every file that holds the value, and
  moves that platform's record to the end of its view. The answer does not tell whether the value is
  known, so that a key for feedback alone cannot ask. Tags are free text: they are read and dropped.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.abuse.screening import screened
from clearinghouse.database.queries.contributions import CONTRIBUTED
from clearinghouse.database.queries.stopncii_records import SHARED, Record
from clearinghouse.database.store import Store
from clearinghouse.platforms import verdicts
from clearinghouse.platforms.contributions import (
    Contribution,
    contribute,
    lookup_of,
    make_ready,
    take_back,
)
from clearinghouse.platforms.keys import Platform
from clearinghouse.platforms.live_index import read_place
from clearinghouse.sealing.platform_ids import PlatformIds
from nciihash.errors import InvalidSignal
from nciihash.signals import Media, Signal, SignalType, Verdict

START: Final = 10  # the `startTimestamp` that clients send for "from the beginning"
PAGE_MIN: Final = SHARED + 1  # so that each page ends at a later time than it began
_ENDED_AT_ONCE: Final = 100  # contributions taken back in one transaction
PAGE_MAX: Final = 10_000
BATCH_MAX: Final = 1_000  # hashes, or feedbacks, in one request
TIME_MAX: Final = 2**40


class RecordType(StrEnum):
    """What a value is, among those that we exchange. The format has further ones."""

    IMAGE_PDQ = "ImagePDQ"
    VIDEO_MD5 = "VideoMD5"

    @property
    def media(self) -> Media:
        """Give the kind of file."""
        return Media.IMAGE if self is RecordType.IMAGE_PDQ else Media.VIDEO

    @property
    def signal(self) -> SignalType:
        """Give the type of hash."""
        return SignalType.PDQ if self is RecordType.IMAGE_PDQ else SignalType.MD5


class RecordStatus(StrEnum):
    """The state of a record, or of a case in it. We send `Active` alone."""

    UNKNOWN = "Unknown"
    RECEIVED = "Received"
    ACTIVE = "Active"
    WITHDRAWN = "Withdrawn"
    DELETED = "Deleted"


class FeedbackValue(StrEnum):
    """What a platform says about a hash."""

    UNKNOWN = "Unknown"
    NONE = "None"
    QUALITY_UNKNOWN = "QualityUnknown"
    PENDING_REVIEW = "PendingReview"
    BLOCKED = "Blocked"
    NOT_BLOCKED = "NotBlocked"
    WITHDRAWN = "Withdrawn"
    DELETED = "Deleted"

    @property
    def verdict(self) -> Verdict:
        """Read it as one of our verdicts; whatever decides nothing is `unsure`."""
        return _VERDICTS.get(self, Verdict.UNSURE)

    @property
    def takes_back(self) -> bool:
        """Tell whether the platform ends what it contributed itself."""
        return self in {FeedbackValue.WITHDRAWN, FeedbackValue.DELETED}


_VERDICTS: Final = {
    FeedbackValue.PENDING_REVIEW: Verdict.PENDING,
    FeedbackValue.BLOCKED: Verdict.BLOCKED,
    FeedbackValue.NOT_BLOCKED: Verdict.NOT_BLOCKED,
}
_SAID: Final = {verdict: value for value, verdict in _VERDICTS.items()} | {
    Verdict.UNSURE: FeedbackValue.UNKNOWN
}

_PDQ_EXAMPLE: Final = "255a6ce6f173791f2727dea6d88274b00f1bf03a57d1a922968309b9e09eaa9c"
HashValue = Annotated[str, Field(pattern=r"^([0-9a-f]{64}|[0-9a-f]{32})$", examples=[_PDQ_EXAMPLE])]
Tags = Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=100)]


class Document(BaseModel):
    """Base of all: frozen. Members that we do not know are passed over, for the format is not ours.

    Names are the format's.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True
    )


class SaidFeedback(Document):
    """One platform's feedback within a record that is read."""

    source: str
    feedback_value: Annotated[FeedbackValue, Field(alias="feedbackValue")]


class HashRecord(Document):
    """A value, as it is read."""

    last_modified: Annotated[StrictInt, Field(alias="lastModtimestamp", ge=0)]
    signal_type: Annotated[str, Field(alias="signalType")]
    value: Annotated[str, Field(alias="hashValue")]
    status: Annotated[str, Field(alias="hashStatus")]
    case_numbers: Annotated[dict[str, str], Field(alias="caseNumbers")]
    feedbacks: Annotated[tuple[SaidFeedback, ...], Field(alias="CSPFeedbacks")] = ()


class FetchReply(Document):
    """A page of records, in the order of their times."""

    count: StrictInt
    next_page: Annotated[str | None, Field(alias="nextPageToken")] = None
    next_start: Annotated[StrictInt, Field(alias="nextSetTimestamp")]
    more: Annotated[StrictBool, Field(alias="hasMoreRecords")]
    records: Annotated[tuple[HashRecord, ...], Field(alias="hashRecords")]


class OwnFeedback(Document):
    """A platform's own feedback."""

    value: Annotated[FeedbackValue, Field(alias="feedbackValue")]
    tags: Tags = ()


class HashFeedback(OwnFeedback):
    """Feedback on one value."""

    hash: Annotated[HashValue, Field(alias="hashValue")]


class SubmitFeedback(Document):
    """Feedback on values."""

    count: StrictInt
    feedbacks: Annotated[
        tuple[HashFeedback, ...],
        Field(alias="hashFeedbacks", min_length=1, max_length=BATCH_MAX),
    ]


class NewRecord(Document):
    """A hash that a platform found by itself, with its feedback.

    The public client writes the type as Python writes its enum, `StopNCIISignalType.ImagePDQ`.
    """

    signal_type: Annotated[
        str,
        Field(
            alias="signalType",
            pattern=r"^(StopNCIISignalType\.)?(ImagePDQ|VideoMD5)$",
            examples=["ImagePDQ"],
        ),
    ]
    hash: Annotated[HashValue, Field(alias="hashValue")]
    feedbacks: Annotated[tuple[OwnFeedback, ...], Field(alias="CSPFeedbacks", max_length=100)] = ()

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if len(self.hash) * 4 != self.type.signal.bits:
            raise ValueError("the value has another length than its type asks for")
        return self

    @property
    def type(self) -> RecordType:
        """Give the type."""
        return RecordType(self.signal_type.removeprefix("StopNCIISignalType."))

    @property
    def contributed(self) -> Contribution:
        """Read the hash."""
        return Contribution(self.type.media, Signal.from_hex(self.type.signal, self.hash))


class SubmitHashes(Document):
    """Hashes that a platform found by itself."""

    count: StrictInt
    records: Annotated[
        tuple[NewRecord, ...], Field(alias="hashRecords", min_length=1, max_length=BATCH_MAX)
    ]


class SubmitReply(Document):
    """How many entries were read. Whether their values are known here is not told."""

    count: int


def read_hashes(
    store: Store,
    platform: Platform,
    *,
    start: int,
    page_size: int,
    token: str | None,
    first_hand: bool,
) -> FetchReply:
    """Read a page of a platform's records.

    Args:
        store: what is read.
        platform: the reader.
        start: the time at and behind which records are given.
        page_size: how many; a page has `PAGE_MIN` at least, unless it is the last.
        token: that of the page before, None for the first.
        first_hand: leave out what was imported from another clearinghouse.

    Raises:
        BadCursor, CursorExpired: the token is not this platform's, or of another epoch of the log.
    """
    after = start * SHARED - 1
    if token:
        after = max(after, read_place(store, platform, PlatformIds.PAGE, token))
        start = max(start, (after + 1) // SHARED)
    limit = max(page_size, PAGE_MIN)
    with store.read() as tx:
        _, until = tx.log.released()
        found = tx.stopncii.read(
            platform.number, after, limit + 1, first_hand=first_hand, until=until
        )
    page, more = found[:limit], len(found) > limit
    end = page[-1].seq if page else after
    token = platform.names.write(PlatformIds.PAGE, [end], epoch=store.epoch)[0] if more else None
    return FetchReply(
        count=len(page),
        next_page=token,
        next_start=end // SHARED if page else start,
        more=more,
        records=tuple(_write(store, platform, record) for record in page),
    )


def _write(store: Store, platform: Platform, record: Record) -> HashRecord:
    value = store.vault.open(record.value, "signals", "value", record.item, record.ordinal)
    kind = RecordType.IMAGE_PDQ if record.type == SignalType.PDQ else RecordType.VIDEO_MD5
    number = UUID(hex=platform.names.write(PlatformIds.RECORD, [record.number])[0])
    said: tuple[SaidFeedback, ...] = ()
    if record.verdict is not None:
        feedback = _SAID[Verdict(record.verdict)]
        said = (SaidFeedback(source=platform.name, feedback_value=feedback),)
    return HashRecord(
        last_modified=record.seq // SHARED,
        signal_type=kind.value,
        value=value.hex(),
        status=RecordStatus.ACTIVE.value,
        case_numbers={str(number): RecordStatus.ACTIVE.value},
        feedbacks=said,
    )


def record_feedback(
    store: Store,
    platform: Platform,
    feedbacks: Sequence[HashFeedback],
    *,
    clock: Callable[[], datetime],
) -> SubmitReply:
    """Record a platform's feedback on values; on unknown ones nothing is recorded or told.

    In several transactions, so that nobody else has to wait long, however many files share a value.
    A file that comes in meanwhile may be missed. Repeating it changes nothing.
    """
    said: list[tuple[bytes, FeedbackValue]] = []
    for feedback in feedbacks:
        for kind in RecordType:
            try:
                signal = Signal.from_hex(kind.signal, feedback.hash)
            except InvalidSignal:
                continue  # the value has the length of the other type
            said.append((lookup_of(store, signal), feedback.value))
    _record_all(store, platform, said, clock=clock)
    return SubmitReply(count=len(feedbacks))


def _record_all(
    store: Store,
    platform: Platform,
    said: Sequence[tuple[bytes, FeedbackValue]],
    *,
    clock: Callable[[], datetime],
) -> None:
    ended = list(dict.fromkeys(lookup for lookup, value in said if value.takes_back))
    for start in range(0, len(ended), _ENDED_AT_ONCE):
        with store.write() as tx:
            some = ended[start : start + _ENDED_AT_ONCE]
            take_back(tx, platform.number, CONTRIBUTED, some, now=clock())
    last = dict(said)  # what is said twice of a value in one request is said last
    with store.read() as tx:
        found = tx.stopncii.signals(last)
    read = [(signal, last[lookup].verdict) for lookup, signal in found]
    for part in verdicts.parts(read):
        with store.write() as tx:
            verdicts.record(tx, platform, part, now=clock())


def take_hashes(
    store: Store,
    lawful: LawfulList,
    platform: Platform,
    records: Sequence[NewRecord],
    *,
    months: int,
    most: int,
    clock: Callable[[], datetime],
) -> SubmitReply:
    """Take hashes that a platform found by itself, and its feedback on them.

    A hash whose feedback is `Withdrawn` or `Deleted` is taken back instead.

    Args:
        store: where they are filed.
        lawful: what is like one of these is passed over.
        platform: who contributes.
        records: the hashes.
        months: after how many months without another call they expire.
        most: how many the platform may have contributed.
        clock: the time.

    Raises:
        ContributionsFull: it would be more than `most`; nothing is taken.
    """
    new = [r.contributed for r in records if not any(f.value.takes_back for f in r.feedbacks)]

    def file() -> int:
        ready = make_ready(store, lawful, new)
        with store.write() as tx:
            return contribute(
                tx, platform.number, CONTRIBUTED, ready, months=months, most=most, now=clock()
            )

    if new:
        screened(file)
    said = [
        (lookup_of(store, record.contributed.signal), feedback.value)
        for record in records
        for feedback in record.feedbacks
    ]
    _record_all(store, platform, said, clock=clock)
    return SubmitReply(count=len(records))
