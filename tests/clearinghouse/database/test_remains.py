"""What remains of a withdrawn hash in PostgreSQL's files, and the script that removes it."""

import re
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import make_url, select
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.schema import signals
from support.paths import ROOT
from support.serving import NOW, RunningService, item, pdq

SCRIPT = ROOT / "examples/deploy/scrub.sql"


@pytest.fixture
def superuser(own_server):
    plain = make_url(own_server.address).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(False), autocommit=True) as connection:
        yield connection


def files_with(server, sealed):
    """Return the names of the server's files that contain some bytes."""
    files = [path for path in (server.folder / "data").rglob("*") if path.is_file()]
    return {str(path.relative_to(server.folder)) for path in files if sealed in path.read_bytes()}


def test_the_script_removes_withdrawn_values(own_server, superuser, settings):
    superuser.execute("ALTER SYSTEM SET wal_recycle = off")
    superuser.execute("SELECT pg_reload_conf()")
    settings = replace(settings, database=own_server.address)
    app = create_app(settings, clock=lambda: NOW)
    with TestClient(app) as client:
        service = RunningService(app, client, lambda: NOW, settings)
        open_case, case = service.open(item(pdq())), service.open(item(pdq()))
        with service.parts.store.read() as tx:
            rows = tx.connection.execute(select(signals.c.value).order_by(signals.c.id)).all()
        kept, withdrawn = (bytes(row.value) for row in rows)
        case.withdraw()
    superuser.execute("CHECKPOINT")
    assert any("pg_wal" in name for name in files_with(own_server, withdrawn))
    script = re.sub(r"(?m)^--.*$", "", SCRIPT.read_text())
    for statement in filter(str.strip, script.split(";")):
        superuser.execute(statement)
    assert files_with(own_server, withdrawn) == set()
    assert files_with(own_server, kept)
    with TestClient(create_app(settings, clock=lambda: NOW)) as client:
        open_case.client = client
        assert open_case.status()["state"] == "open"
