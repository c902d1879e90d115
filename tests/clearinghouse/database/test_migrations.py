"""The migrations: they produce the schema, keep the data, and refuse a newer database."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.queries.signals import NewSignals
from clearinghouse.database.queries.stopncii_records import RECORDS_PER_TIMESTAMP
from clearinghouse.database.schema import metadata
from clearinghouse.database.store import Store
from clearinghouse.errors import NewerDatabase
from clearinghouse.times import hour
from support.serving import NOW


@pytest.fixture
def store(settings):
    store = Store.open(settings)
    yield store
    store.close()


def test_the_migrations_produce_the_schema(store, settings):
    engine = create_engine(settings.database)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_newer_database_is_refused(store, settings):
    with store.write() as tx:
        tx.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(NewerDatabase):
        Store.open(settings)


BEFORE_0060 = """
ALTER TABLE signals DROP COLUMN expired;
ALTER TABLE platforms DROP COLUMN match_hour;
ALTER TABLE platforms DROP COLUMN match_day;
DROP INDEX ix_signals_record_seq;
DROP INDEX ix_verdicts_platform_id_record_seq;
ALTER TABLE signals RENAME COLUMN record_seq TO place;
ALTER TABLE verdicts RENAME COLUMN record_seq TO place;
CREATE INDEX ix_signals_place ON signals (place);
CREATE INDEX ix_verdicts_platform_id_place ON verdicts (platform_id, place);
UPDATE facts SET name = 'place' WHERE name = 'record_seq';
UPDATE alembic_version SET version_num = '0050'
"""


def test_migration_0060_keeps_the_order_of_stopncii_records(store, settings):
    """The columns are renamed, with their values, their indexes and the last seq allocated."""
    opened = {"verifier": "-", "reason": "shared", "state": "open", "opened": 0, "expires": 2**40}
    row = {"type": "pdq", "value": b"sealed", "quality": 90, "variant": "original"}
    [file] = store.reserve_items(1)
    with store.write() as tx:
        case = tx.cases.add(lookup=b"c" * 32, **opened)
        tx.cases.add_items(case, [NewItem(file, 1, "image")], 0)
        rows = [row | {"item_id": file, "ordinal": n, "lookup": bytes([n]) * 32} for n in range(3)]
        tx.signals.add([NewSignals("image", rows)], hour(NOW))
        platform = tx.platforms.add("Example", b"", 0)
        first = tx.log.read(0, 1)[0].signal
        assert tx.platforms.add_verdict(platform, first, "blocked", hour(NOW))

    def order(tx):
        return tx.stopncii.read(platform, 0, 10, first_hand=False), tx.stopncii.last_seq()

    with store.write() as tx:
        before = order(tx)
        for statement in BEFORE_0060.split(";"):
            tx.connection.execute(text(statement))
    assert [record.verdict for record in before[0]] == [None, None, "blocked"]
    assert before[1] == hour(NOW) * RECORDS_PER_TIMESTAMP + 3
    migrated = Store.open(settings)
    with migrated.read() as tx:
        assert order(tx) == before
        assert compare_metadata(MigrationContext.configure(tx.connection), metadata) == []
    migrated.close()
