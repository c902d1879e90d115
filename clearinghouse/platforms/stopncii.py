"""The StopNCII wire format: its messages and how the service implements them.

Existing clients work unmodified: `threatexchange` and Hasher-Matcher-Actioner. They rely on these
rules, and some of them crash if one is broken:

- Timestamps never decrease, across pages and fetches. A client may stop after any page and resume
  at its `nextSetTimestamp` (see `clearinghouse.database.queries.stopncii_records`). At most
  `RECORDS_PER_TIMESTAMP` records have the same timestamp, and a page has more records than that, so
  it always ends at a later timestamp than it began.
- There are no withdrawn records, because clients would take one for a live record. A withdrawn hash
  is missing from all later pages, so a client drops it by fetching everything from the beginning.
  A client that cannot do this should use `/v1/feed`, which sends removals.
- `caseNumbers` has one generated id per record and platform. Real case numbers would link the files
  of one survivor.
- Feedback names a hash by its value. It is recorded for every file with this value, and moves the
  record to the end of this platform's list. The reply does not reveal whether the value is known,
  so a key with the scope `feedback` alone cannot probe for hashes. Tags are discarded.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.abuse.screening import retry_if_outdated
from clearinghouse.database.queries.contributions import CONTRIBUTED
from clearinghouse.database.queries.stopncii_records import RECORDS_PER_TIMESTAMP, Record
from clearinghouse.database.store import Store
from clearinghouse.platforms import verdicts
from clearinghouse.platforms.contributions import (
    Contribution,
    contribute,
    lookup_of,
    prepare,
    withdraw_contributions,
)
from clearinghouse.platforms.keys import Platform
from clearinghouse.platforms.live_index import read_seq
from clearinghouse.sealing.platform_ids import PlatformIds
from nciihash.errors import InvalidSignal
from nciihash.signals import Media, Signal, SignalType, Verdict

START: Final = 10  # the `startTimestamp` by which clients ask for everything
PAGE_MIN: Final = (
    RECORDS_PER_TIMESTAMP + 1
)  # so that a page ends at a later timestamp than it began
_WITHDRAWN_BATCH: Final = 100  # contributions withdrawn in one transaction
PAGE_MAX: Final = 10_000
BATCH_MAX: Final = 1_000  # hashes, or feedbacks, in one request
TIME_MAX: Final = 2**40


class RecordType(StrEnum):
    """The supported types of records. The format has more."""

    IMAGE_PDQ = "ImagePDQ"
    VIDEO_MD5 = "VideoMD5"

    @property
    def media(self) -> Media:
        """The media type of the file."""
        return Media.IMAGE if self is RecordType.IMAGE_PDQ else Media.VIDEO

    @property
    def signal(self) -> SignalType:
        """The type of the hash."""
        return SignalType.PDQ if self is RecordType.IMAGE_PDQ else SignalType.MD5


class RecordStatus(StrEnum):
    """The state of a record or of one of its cases. This service sends `Active` only."""

    UNKNOWN = "Unknown"
    RECEIVED = "Received"
    ACTIVE = "Active"
    WITHDRAWN = "Withdrawn"
    DELETED = "Deleted"


class FeedbackValue(StrEnum):
    """A platform's feedback on a hash."""

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
        """The verdict that it means; `unsure` for values that decide nothing."""
        return _VERDICTS.get(self, Verdict.UNSURE)

    @property
    def withdraws(self) -> bool:
        """Whether the platform withdraws the hash that it contributed."""
        return self in {FeedbackValue.WITHDRAWN, FeedbackValue.DELETED}


_VERDICTS: Final = {
    FeedbackValue.PENDING_REVIEW: Verdict.PENDING,
    FeedbackValue.BLOCKED: Verdict.BLOCKED,
    FeedbackValue.NOT_BLOCKED: Verdict.NOT_BLOCKED,
}
_FEEDBACKS: Final = {verdict: value for value, verdict in _VERDICTS.items()} | {
    Verdict.UNSURE: FeedbackValue.UNKNOWN
}

_PDQ_EXAMPLE: Final = "255a6ce6f173791f2727dea6d88274b00f1bf03a57d1a922968309b9e09eaa9c"
HashValue = Annotated[str, Field(pattern=r"^([0-9a-f]{64}|[0-9a-f]{32})$", examples=[_PDQ_EXAMPLE])]
Tags = Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=100)]


class Document(BaseModel):
    """Base of all messages. Frozen; ignores unknown fields, since others define the format."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True
    )


class SaidFeedback(Document):
    """The feedback that the reading platform has submitted on a hash."""

    source: str
    feedback_value: Annotated[FeedbackValue, Field(alias="feedbackValue")]


class HashRecord(Document):
    """A live hash.

    `lastModtimestamp` orders the records. It is the hour of the last change in Unix seconds, or a
    little later. `caseNumbers` has one generated id, which differs for each platform.
    """

    last_modified: Annotated[StrictInt, Field(alias="lastModtimestamp", ge=0)]
    signal_type: Annotated[str, Field(alias="signalType")]
    value: Annotated[str, Field(alias="hashValue")]
    status: Annotated[str, Field(alias="hashStatus")]
    case_numbers: Annotated[dict[str, str], Field(alias="caseNumbers")]
    feedbacks: Annotated[tuple[SaidFeedback, ...], Field(alias="CSPFeedbacks")] = ()


class FetchReply(Document):
    """A page of records, ordered by `lastModtimestamp`.

    While `hasMoreRecords` is true, send `nextPageToken` to fetch the next page. A later fetch
    resumes at `nextSetTimestamp`.
    """

    count: StrictInt
    next_page: Annotated[str | None, Field(alias="nextPageToken")] = None
    next_start: Annotated[StrictInt, Field(alias="nextSetTimestamp")]
    more: Annotated[StrictBool, Field(alias="hasMoreRecords")]
    records: Annotated[tuple[HashRecord, ...], Field(alias="hashRecords")]


class OwnFeedback(Document):
    """Feedback of the platform that sends it. `tags` are accepted and discarded."""

    value: Annotated[FeedbackValue, Field(alias="feedbackValue")]
    tags: Tags = ()


class HashFeedback(OwnFeedback):
    """Feedback on the hash with a given value."""

    hash: Annotated[HashValue, Field(alias="hashValue")]


class SubmitFeedback(Document):
    """Feedback on hashes, by their values. `count` is accepted and ignored."""

    count: StrictInt
    feedbacks: Annotated[
        tuple[HashFeedback, ...],
        Field(alias="hashFeedbacks", min_length=1, max_length=BATCH_MAX),
    ]


class NewRecord(Document):
    """A hash that a platform contributes, with its feedback.

    `signalType` may have the prefix `StopNCIISignalType.`, which the public Python client sends.
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
            raise ValueError("the value does not have the length of its type")
        return self

    @property
    def type(self) -> RecordType:
        """The type without the prefix that some clients send."""
        return RecordType(self.signal_type.removeprefix("StopNCIISignalType."))

    @property
    def contribution(self) -> Contribution:
        """The hash to contribute."""
        return Contribution(self.type.media, Signal.from_hex(self.type.signal, self.hash))


class SubmitHashes(Document):
    """Hashes that a platform contributes. `count` is accepted and ignored."""

    count: StrictInt
    records: Annotated[
        tuple[NewRecord, ...], Field(alias="hashRecords", min_length=1, max_length=BATCH_MAX)
    ]


class SubmitReply(Document):
    """How many entries were processed, whether or not their values are known here."""

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
    """Return a page of the records that a platform sees.

    Args:
        store: the database.
        platform: the reader.
        start: the least timestamp of the records.
        page_size: the number of records, raised to `PAGE_MIN`; the last page may have fewer.
        token: of the previous page; None for the first.
        first_hand: omit hashes that were imported from another clearinghouse.

    Raises:
        BadCursor: the token was not issued to this platform.
        CursorExpired: the token is of another epoch of the log.
    """
    after = start * RECORDS_PER_TIMESTAMP - 1
    if token:
        after = max(after, read_seq(store, platform, PlatformIds.PAGE, token))
        start = max(start, (after + 1) // RECORDS_PER_TIMESTAMP)
    limit = max(page_size, PAGE_MIN)
    with store.read() as tx:
        _, until = tx.log.release_point()
        found = tx.stopncii.read(
            platform.number, after, limit + 1, first_hand=first_hand, until=until
        )
    page, more = found[:limit], len(found) > limit
    end = page[-1].seq if page else after
    token = platform.ids.write(PlatformIds.PAGE, [end], epoch=store.epoch)[0] if more else None
    return FetchReply(
        count=len(page),
        next_page=token,
        next_start=end // RECORDS_PER_TIMESTAMP if page else start,
        more=more,
        records=tuple(_to_record(store, platform, record) for record in page),
    )


def _to_record(store: Store, platform: Platform, record: Record) -> HashRecord:
    value = store.vault.open(record.value, "signals", "value", record.item, record.ordinal)
    kind = RecordType.IMAGE_PDQ if record.type == SignalType.PDQ else RecordType.VIDEO_MD5
    number = UUID(hex=platform.ids.write(PlatformIds.RECORD, [record.number])[0])
    feedbacks: tuple[SaidFeedback, ...] = ()
    if record.verdict is not None:
        feedback = _FEEDBACKS[Verdict(record.verdict)]
        feedbacks = (SaidFeedback(source=platform.name, feedback_value=feedback),)
    return HashRecord(
        last_modified=record.seq // RECORDS_PER_TIMESTAMP,
        signal_type=kind.value,
        value=value.hex(),
        status=RecordStatus.ACTIVE.value,
        case_numbers={str(number): RecordStatus.ACTIVE.value},
        feedbacks=feedbacks,
    )


def record_feedback(
    store: Store,
    platform: Platform,
    feedbacks: Sequence[HashFeedback],
    *,
    clock: Callable[[], datetime],
) -> SubmitReply:
    """Record a platform's feedback on hashes, by their values. Unknown values are ignored.

    Uses several transactions, so that other writers get their turn however many files have the
    same value. A file that is added in between may be missed. Idempotent.
    """
    values: list[tuple[bytes, FeedbackValue]] = []
    for feedback in feedbacks:
        for kind in RecordType:
            try:
                signal = Signal.from_hex(kind.signal, feedback.hash)
            except InvalidSignal:
                continue  # it has the length of the other type
            values.append((lookup_of(store, signal), feedback.value))
    _record_all(store, platform, values, clock=clock)
    return SubmitReply(count=len(feedbacks))


def _record_all(
    store: Store,
    platform: Platform,
    values: Sequence[tuple[bytes, FeedbackValue]],
    *,
    clock: Callable[[], datetime],
) -> None:
    ended = list(dict.fromkeys(lookup for lookup, value in values if value.withdraws))
    for start in range(0, len(ended), _WITHDRAWN_BATCH):
        with store.write() as tx:
            some = ended[start : start + _WITHDRAWN_BATCH]
            withdraw_contributions(tx, platform.number, CONTRIBUTED, some, now=clock())
    last = dict(values)  # the last feedback on each value
    with store.read() as tx:
        found = tx.stopncii.signals(last)
    given = [(signal, last[lookup].verdict) for lookup, signal in found]
    for batch in verdicts.batches(given):
        with store.write() as tx:
            verdicts.record(tx, platform, batch, now=clock())


def add_hashes(
    store: Store,
    lawful: AllowlistIndex,
    platform: Platform,
    records: Sequence[NewRecord],
    *,
    months: int,
    most: int,
    clock: Callable[[], datetime],
) -> SubmitReply:
    """Add hashes that a platform contributes, and record its feedback on them.

    A hash with the feedback `Withdrawn` or `Deleted` is withdrawn instead.

    Args:
        store: the database.
        lawful: the allowlist; hashes near one on it are skipped.
        platform: the contributor.
        records: the hashes.
        months: months until all contributions of the platform expire, unless it sends another.
        most: how many contributions of the platform may be live.
        clock: returns the time.

    Raises:
        ContributionsFull: more than `most` would be live; nothing is added.
    """
    new = [r.contribution for r in records if not any(f.value.withdraws for f in r.feedbacks)]

    def file() -> int:
        prepared = prepare(store, lawful, new)
        with store.write() as tx:
            return contribute(
                tx, platform.number, CONTRIBUTED, prepared, months=months, most=most, now=clock()
            )

    if new:
        retry_if_outdated(file)
    values = [
        (lookup_of(store, record.contribution.signal), feedback.value)
        for record in records
        for feedback in record.feedbacks
    ]
    _record_all(store, platform, values, clock=clock)
    return SubmitReply(count=len(records))
