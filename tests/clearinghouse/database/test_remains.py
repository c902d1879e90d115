"""What PostgreSQL's own files hold of a hash that was withdrawn, and what removes it."""

import re
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import make_url, select
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.schema import signals
from support.paths import ROOT
from support.serving import NOW, Running, item, pdq

SCRIPT = ROOT / "examples/deploy/scrub.sql"


@pytest.fixture
def superuser(own_server):
    plain = make_url(own_server.address).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(False), autocommit=True) as connection:
        yield connection


def holding(server, sealed):
    """Name the files of a server that hold some bytes."""
    files = [path for path in (server.folder / "data").rglob("*") if path.is_file()]
    return {str(path.relative_to(server.folder)) for path in files if sealed in path.read_bytes()}


def test_the_script_removes_what_was_withdrawn(own_server, superuser, settings):
    superuser.execute("ALTER SYSTEM SET wal_recycle = off")
    superuser.execute("SELECT pg_reload_conf()")
    settings = replace(settings, database=own_server.address)
    app = create_app(settings, clock=lambda: NOW)
    with TestClient(app) as client:
        service = Running(app, client, lambda: NOW, settings)
        kept, case = service.open(item(pdq())), service.open(item(pdq()))
        with service.parts.store.read() as tx:
            rows = tx.connection.execute(select(signals.c.value).order_by(signals.c.id)).all()
        staying, gone = (bytes(row.value) for row in rows)
        case.withdraw()
    superuser.execute("CHECKPOINT")
    assert any("pg_wal" in name for name in holding(own_server, gone))
    script = re.sub(r"(?m)^--.*$", "", SCRIPT.read_text())
    for statement in filter(str.strip, script.split(";")):
        superuser.execute(statement)
    assert holding(own_server, gone) == set()
    assert holding(own_server, staying)
    with TestClient(create_app(settings, clock=lambda: NOW)) as client:
        kept.client = client
        assert kept.status()["state"] == "open"
