"""The tables. Times are Unix seconds (UTC) rounded down to the hour.

Row numbers are never reused (AUTOINCREMENT, or a sequence), since the ids that platforms see are
encrypted row numbers. A withdrawn signal has a null value; its row stays, because verdicts and log
entries refer to it.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    text,
)

AnyRow = Row[*tuple[Any, ...]]

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

_Row = BigInteger().with_variant(Integer, "sqlite")  # SQLite autoincrements INTEGER columns only


def _id() -> Column[int]:
    return Column("id", _Row, primary_key=True, autoincrement=True)


# Facts about the database: the epoch of the log, the last `record_seq`, the memory cost of a
# passphrase check, and the key check and sealed secrets (`clearinghouse.sealing.master_key`).
facts = Table(
    "facts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

cases = Table(
    "cases",
    metadata,
    _id(),
    Column("lookup", LargeBinary(32), nullable=False, unique=True),  # HMAC of the case number
    Column("verifier", String(200), nullable=False),  # tag and Argon2id hash of the passphrase
    Column("reason", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("opened", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
    Column("closed", BigInteger),
    sqlite_autoincrement=True,
)

items = Table(
    "items",
    metadata,
    _id(),
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),  # the number shown to the holder of the case
    Column("media", String(8), nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("withdrawn", BigInteger),
    # the number of hashes received so far; null once all have been received
    Column("awaiting_after", Integer),
    UniqueConstraint("case_id", "ordinal"),
    sqlite_autoincrement=True,
)

signals = Table(
    "signals",
    metadata,
    _id(),
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("type", String(8), nullable=False),
    Column("value", LargeBinary),  # sealed; null after withdrawal
    Column("lookup", LargeBinary(32), index=True),  # HMAC of the value; null after withdrawal
    Column("quality", Integer),
    Column("variant", String(16), nullable=False),
    # HMAC of the value under the next master key (`clearinghouse.maintenance.key_rotation`)
    Column("next_lookup", LargeBinary(32)),
    # position in the order of StopNCII records (`clearinghouse.database.queries.stopncii_records`);
    # null if the StopNCII API does not show this signal
    Column("record_seq", BigInteger, index=True),
    # the hour in which verdicts put it on hold, or in which it was submitted again after that: it
    # matches nothing, and its value is kept for some days (`clearinghouse.abuse.verdict_holds`)
    Column("held", BigInteger),
    # the hour in which it was removed because its case had expired; null if it was not, or if
    # somebody removed it
    Column("expired", BigInteger),
    UniqueConstraint("item_id", "ordinal"),
    Index(
        "ix_signals_held",
        "held",
        sqlite_where=text("held IS NOT NULL"),
        postgresql_where=text("held IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

log = Table(  # ids are in commit order
    "log",
    metadata,
    _id(),
    Column("op", String(6), nullable=False),  # add, remove
    # no foreign key: a removal is still sent after the case has been deleted
    Column("signal_id", BigInteger, nullable=False, index=True),
    sqlite_autoincrement=True,
)

platforms = Table(
    "platforms",
    metadata,
    _id(),
    Column("name", String(64), nullable=False, unique=True),
    Column("secret", LargeBinary, nullable=False),  # sealed; encrypts its ids, never changes
    Column("added", BigInteger, nullable=False),
    # lookups allowed to each of its keys in an hour and in a day; null for those of the settings
    Column("match_hour", BigInteger),
    Column("match_day", BigInteger),
    sqlite_autoincrement=True,
)

keys = Table(
    "keys",
    metadata,
    _id(),
    Column("platform_id", ForeignKey("platforms.id"), nullable=False, index=True),
    Column("lookup", LargeBinary(32), nullable=False, unique=True),  # HMAC of the key
    Column("scopes", String(64), nullable=False),  # comma-separated
    Column("added", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger),
    Column("used", BigInteger),  # the hour of its last use
    sqlite_autoincrement=True,
)

acknowledgements = Table(  # each log position that a platform acknowledged, and in which hour
    "acknowledgements",
    metadata,
    Column("platform_id", ForeignKey("platforms.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("hour", BigInteger, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("platform_id", ForeignKey("platforms.id"), primary_key=True),
    Column("signal_id", ForeignKey("signals.id", ondelete="CASCADE"), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("hour", BigInteger, nullable=False),
    Column("record_seq", BigInteger),  # as in `signals`
    Column("earlier", String(16)),  # the verdict when the day of `hour` began; null for none
    Index("ix_verdicts_signal_id", "signal_id"),
    Index("ix_verdicts_platform_id_record_seq", "platform_id", "record_seq"),
)

matches = Table(  # how often each platform's queries matched each file
    "matches",
    metadata,
    Column("platform_id", ForeignKey("platforms.id"), primary_key=True),
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), primary_key=True),
    Column("count", BigInteger, nullable=False),
    # the day of the last match, and the count when that day began
    Column("day", BigInteger, nullable=False, server_default=text("0")),
    Column("earlier", BigInteger, nullable=False, server_default=text("0")),
    Index("ix_matches_item_id", "item_id"),
)

contributions = Table(  # the case for what a platform contributed, or for imports from it
    "contributions",
    metadata,
    Column("platform_id", ForeignKey("platforms.id"), primary_key=True),
    Column("kind", String(12), primary_key=True),  # contributed, imported
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE"), nullable=False, index=True),
)

budgets = Table(  # how many lookups each key has leased in each hour; it may have used fewer
    "budgets",
    metadata,
    Column("key_id", ForeignKey("keys.id"), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("leased", BigInteger, nullable=False),
)

advocates = Table(  # helplines that open cases for survivors
    "advocates",
    metadata,
    _id(),
    Column("name", String(64), nullable=False, unique=True),
    Column("lookup", LargeBinary(32), nullable=False, unique=True),  # HMAC of the key
    Column("added", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger),
    sqlite_autoincrement=True,
)

assisted = Table(  # cases opened by an advocate; her id is deleted when the case is handed over
    "assisted",
    metadata,
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    Column("advocate_id", ForeignKey("advocates.id")),  # null after the handover
    Column("reference", String(8)),  # by which the advocate finds it; null after the handover
    Column("consent", BigInteger, nullable=False),  # the hour of the survivor's consent
    Column("reported", BigInteger),  # the hour in which a site was sent a notice
    Column("code", LargeBinary(32), unique=True),  # HMAC of the handover code
    Column("code_expires", BigInteger),
    UniqueConstraint("advocate_id", "reference"),
)

lawful = Table(  # the operator's allowlist of lawful pictures, such as famous photographs
    "lawful",
    metadata,
    _id(),
    Column("type", String(8), nullable=False),
    Column("value", LargeBinary, nullable=False),  # sealed, bound to `lookup`
    Column("lookup", LargeBinary(32), nullable=False, unique=True),  # HMAC of the value
    Column("added", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

reviews = Table(  # questions for the operator to decide
    "reviews",
    metadata,
    _id(),
    Column("kind", String(12), nullable=False),  # one of those in `queries.reviews`
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), index=True),
    # of an alarm: the key that queries near the file; of overturned blocks: the key that sent them
    Column("key_id", ForeignKey("keys.id")),
    # the file of an alarm, whose `item_id` is null: no foreign key, as the alarm outlives the file
    Column("around", BigInteger),
    Column("count", BigInteger, nullable=False),  # queries, platforms or verdicts, by kind
    Column("state", String(8), nullable=False, index=True),  # open, kept, removed
    Column("opened", BigInteger, nullable=False),
    Column("closed", BigInteger),
    sqlite_autoincrement=True,
)

takeouts = Table(  # files that a platform's verdicts helped to put on hold on a day
    "takeouts",
    metadata,
    Column("platform_id", ForeignKey("platforms.id"), primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), primary_key=True),
)

removals = Table(  # files that were removed by somebody other than their holder
    "removals",
    metadata,
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), primary_key=True),
    Column("by", String(12), nullable=False),  # operator, platforms
)

withdrawn = Table(  # tags of what survivors withdrew, which contributors cannot add again
    "withdrawn",
    metadata,
    Column("tag", LargeBinary(8), primary_key=True),  # `clearinghouse.sealing.vault.Vault.tag`
    Column("day", BigInteger, nullable=False, index=True),  # of the last withdrawal
)

spent = Table(  # used proofs of work, until they expire
    "spent",
    metadata,
    Column("mark", LargeBinary(32), primary_key=True),  # HMAC of the challenge
    Column("hour", BigInteger, nullable=False, index=True),
)

intake = Table(  # signals submitted by survivors in each hour; sets the cost of a proof of work
    "intake",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("signals", BigInteger, nullable=False),
)

replies = Table(  # replies to idempotent requests, kept for a day
    "replies",
    metadata,
    Column("lookup", LargeBinary(32), primary_key=True),  # HMAC of key, caller and path
    Column("body", LargeBinary(32), nullable=False),  # HMAC of the request body
    Column("status", Integer, nullable=False),
    Column("reply", LargeBinary, nullable=False),  # sealed under the idempotency key
    Column("made", BigInteger, nullable=False, index=True),
)

# The audit trail; each digest covers the one before it (`clearinghouse.database.audit`).
audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("act", String(32), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("hour", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)
