"""The tables. Times are hours: seconds since 1970 (UTC), cut to the hour.

Row numbers are never used again (AUTOINCREMENT, or a sequence), since platforms' ids stand for
them. The values of a withdrawn signal are null; its row stays, so that verdicts and
acknowledgements keep a place.
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

_Row = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER can count by itself there


def _number() -> Column[int]:
    return Column("id", _Row, primary_key=True, autoincrement=True)


# Epoch of the log, last place of the StopNCII door, cost of a passphrase check, and how it all is
# sealed (`clearinghouse.sealing.master_key`).
facts = Table(
    "facts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

cases = Table(
    "cases",
    metadata,
    _number(),
    Column("lookup", LargeBinary(32), nullable=False, unique=True),  # HMAC of the case number
    Column("verifier", String(200), nullable=False),  # tag and Argon2id of the passphrase
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
    _number(),
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),  # the number that its owner knows it by
    Column("media", String(8), nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("withdrawn", BigInteger),
    # hashes sent so far, while more are to follow; null once all of them were sent
    Column("awaiting_after", Integer),
    UniqueConstraint("case_id", "ordinal"),
    sqlite_autoincrement=True,
)

signals = Table(
    "signals",
    metadata,
    _number(),
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("type", String(8), nullable=False),
    Column("value", LargeBinary),  # sealed; null once withdrawn
    Column("lookup", LargeBinary(32), index=True),  # HMAC of the value; null once withdrawn
    Column("quality", Integer),
    Column("variant", String(16), nullable=False),
    # the same under the next master key, while it is being changed
    # (`clearinghouse.maintenance.key_rotation`)
    Column("next_lookup", LargeBinary(32)),
    # in the StopNCII door's order (`clearinghouse.database.queries.stopncii_records`); null where
    # that door shows nothing
    Column("record_seq", BigInteger, index=True),
    # the hour in which it was held back by verdicts, or submitted again after that: it matches
    # nothing, and its value is kept for some days (`clearinghouse.abuse.verdict_holds`)
    Column("held", BigInteger),
    UniqueConstraint("item_id", "ordinal"),
    Index(
        "ix_signals_held",
        "held",
        sqlite_where=text("held IS NOT NULL"),
        postgresql_where=text("held IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

log = Table(  # its order is the order of commit
    "log",
    metadata,
    _number(),
    Column("op", String(6), nullable=False),  # add, remove
    # no foreign key: a removal is still sent when the case has long been forgotten
    Column("signal_id", BigInteger, nullable=False, index=True),
    sqlite_autoincrement=True,
)

platforms = Table(
    "platforms",
    metadata,
    _number(),
    Column("name", String(64), nullable=False, unique=True),
    Column("secret", LargeBinary, nullable=False),  # sealed; names rows for it, never changes
    Column("added", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

keys = Table(
    "keys",
    metadata,
    _number(),
    Column("platform_id", ForeignKey("platforms.id"), nullable=False, index=True),
    Column("lookup", LargeBinary(32), nullable=False, unique=True),  # HMAC of the key
    Column("scopes", String(64), nullable=False),  # comma-separated
    Column("added", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger),
    Column("used", BigInteger),  # the last hour in which it opened a door
    sqlite_autoincrement=True,
)

acknowledgements = Table(  # every place in the log that a platform confirmed, and in which hour
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
    Column("earlier", String(16)),  # what it was when the day of `hour` began; null for none
    Index("ix_verdicts_signal_id", "signal_id"),
    Index("ix_verdicts_platform_id_record_seq", "platform_id", "record_seq"),
)

matches = Table(  # how often each platform's queries met each file
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

contributions = Table(  # the case that holds what a platform added, or what was imported from it
    "contributions",
    metadata,
    Column("platform_id", ForeignKey("platforms.id"), primary_key=True),
    Column("kind", String(12), primary_key=True),  # contributed, imported
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE"), nullable=False, index=True),
)

budgets = Table(  # how many hashes each key may have looked for in each hour: leased, not counted
    "budgets",
    metadata,
    Column("key_id", ForeignKey("keys.id"), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("leased", BigInteger, nullable=False),
)

advocates = Table(  # helplines that open cases for others
    "advocates",
    metadata,
    _number(),
    Column("name", String(64), nullable=False, unique=True),
    Column("lookup", LargeBinary(32), nullable=False, unique=True),  # HMAC of the key
    Column("added", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger),
    sqlite_autoincrement=True,
)

assisted = Table(  # cases that were opened for somebody; in whose hands is forgotten afterwards
    "assisted",
    metadata,
    Column("case_id", ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    Column("advocate_id", ForeignKey("advocates.id")),  # null once it was handed over
    Column("reference", String(8)),  # by which she finds it; null likewise
    Column("consent", BigInteger, nullable=False),  # the hour in which it was given
    Column("reported", BigInteger),  # the hour in which a site was sent a notice
    Column("code", LargeBinary(32), unique=True),  # HMAC of what hands it over
    Column("code_expires", BigInteger),
    UniqueConstraint("advocate_id", "reference"),
)

lawful = Table(  # what the operator knows to be lawful pictures, such as famous photographs
    "lawful",
    metadata,
    _number(),
    Column("type", String(8), nullable=False),
    Column("value", LargeBinary, nullable=False),  # sealed for its look-up value
    Column("lookup", LargeBinary(32), nullable=False, unique=True),  # HMAC of the value
    Column("added", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

reviews = Table(  # what the operator is asked to decide on
    "reviews",
    metadata,
    _number(),
    Column("kind", String(12), nullable=False),  # `queries.reviews` names them
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), index=True),
    Column("key_id", ForeignKey("keys.id")),  # whose queries gather around the file
    # the file of an alarm, whose `item_id` is null: no foreign key, for the alarm outlives the file
    Column("around", BigInteger),
    Column("count", BigInteger, nullable=False),  # of queries, or of platforms
    Column("state", String(8), nullable=False, index=True),  # open, kept, removed
    Column("opened", BigInteger, nullable=False),
    Column("closed", BigInteger),
    sqlite_autoincrement=True,
)

takeouts = Table(  # files that a platform's verdicts helped to hold back on a day
    "takeouts",
    metadata,
    Column("platform_id", ForeignKey("platforms.id"), primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), primary_key=True),
)

removals = Table(  # files that others than their holder took out
    "removals",
    metadata,
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), primary_key=True),
    Column("by", String(12), nullable=False),  # operator, platforms
)

withdrawn = Table(  # what survivors withdrew, so that no contributor brings it back
    "withdrawn",
    metadata,
    Column("tag", LargeBinary(8), primary_key=True),  # `clearinghouse.sealing.vault.Vault.tag`
    Column("day", BigInteger, nullable=False, index=True),  # of the last withdrawal
)

spent = Table(  # proofs of work that were used, until they have run out
    "spent",
    metadata,
    Column("mark", LargeBinary(32), primary_key=True),  # HMAC of the challenge
    Column("hour", BigInteger, nullable=False, index=True),
)

intake = Table(  # signals that survivors sent in an hour, for the price of the next ones
    "intake",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("signals", BigInteger, nullable=False),
)

replies = Table(  # answers to idempotent requests, for a day
    "replies",
    metadata,
    Column("lookup", LargeBinary(32), primary_key=True),  # HMAC of key, caller and address
    Column("body", LargeBinary(32), nullable=False),  # HMAC of the request's body
    Column("status", Integer, nullable=False),
    Column("reply", LargeBinary, nullable=False),  # sealed under the idempotency key
    Column("made", BigInteger, nullable=False, index=True),
)

# What operators did; each digest holds the one before (`clearinghouse.database.audit`).
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
