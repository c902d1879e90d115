"""The module for Synapse, in a real home server that asks a real gate over HTTP.

Tests that need Synapse are skipped where `NCIIHASH_SYNAPSE` names no Python that has it
(tests/tools/gate/synapse_peer.sh installs it into a temporary folder).
"""

import ast
import asyncio
import contextlib
import subprocess
import threading
from pathlib import Path

import pytest

from nciihash.gate.dialects import http
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Fail, Policy
from nciihash.gate.rehearsal import picture_items
from nciihash.gate.transport.http_connections import HttpLimits
from nciihash.gate.transport.http_server import HttpServer
from support.gating import dialect_config, gate_config, open_gate
from support.home_server import free_port, home_server, synapse
from support.paths import ROOT

MODULE = ROOT / "nciihash" / "gate" / "synapse.py"
PICTURES = ROOT / "docs" / "gate"
BLOCK, REVIEW, CLEAR, UNREADABLE = (
    (PICTURES / f"{name}.jpg").read_bytes() for name in ("block", "review", "clear", "unreadable")
)
TOKEN = "secret-of-the-gate"
PYTHON = synapse()
needs_synapse = pytest.mark.skipif(PYTHON is None, reason="NCIIHASH_SYNAPSE names no Synapse")


class GateThread:
    """A gate that serves its own HTTP, in a thread of its own: the tests block.

    Attributes:
        gate: the gate.
        address: of its API.
    """

    def __init__(self, folder):
        self._folder = folder
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))
        self.gate = self.address = None

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        assert self.address, "The gate did not start."
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        settings = dialect_config(token=TOKEN)
        config = gate_config(self._folder, {Dialect.HTTP: settings})
        try:
            async with open_gate(self._folder, picture_items(), config) as gate:
                server = HttpServer(
                    settings.listen, http.routes(gate), HttpLimits(), close_seconds=1
                )
                await server.start()
                self.gate, self.address = gate, f"http://127.0.0.1:{server.port}"
                self._ready.set()
                await self._stop.wait()
                server.close()
                await server.wait_closed()
        finally:
            self._ready.set()


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    with GateThread(tmp_path_factory.mktemp("gate")) as running:
        yield running


@pytest.fixture(scope="module", params=["accept", "refuse"])
def server(request, gate, tmp_path_factory):
    """A home server that accepts, or refuses, what the gate did not check or wants reviewed."""
    settings = {
        "gate": gate.address,
        "token": TOKEN,
        "review": request.param,
        "on_error": request.param,
        "timeout": 20,
    }
    with home_server(PYTHON, tmp_path_factory.mktemp("home"), settings) as running:
        running.refuses = request.param == "refuse"
        yield running


def test_it_needs_only_what_synapse_has():
    """Wherever Synapse finds the file: `nciihash` need not be installed there."""
    names = set()
    for node in ast.walk(ast.parse(MODULE.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    assert names == {
        *("collections", "dataclasses", "ipaddress", "logging", "typing", "urllib"),
        *("synapse", "twisted"),
    }


@needs_synapse
def test_a_copy_is_refused_and_another_picture_accepted(server):
    refused = server.upload(BLOCK)
    assert refused.status_code == 400
    assert refused.json() == {"errcode": "M_UNKNOWN", "error": "Bad content"}
    stored = len(server.stored())
    accepted = server.upload(CLEAR)
    assert accepted.status_code == 200
    assert accepted.json()["content_uri"].startswith("mxc://home.test/")
    assert len(server.stored()) == stored + 1
    assert server.upload(BLOCK).status_code == 400
    assert len(server.stored()) == stored + 1, "a refused file is not kept"


@needs_synapse
def test_a_review_does_as_configured(server):
    assert server.upload(REVIEW).status_code == (400 if server.refuses else 200)


@needs_synapse
@pytest.mark.parametrize("fail", Fail)
def test_files_that_cannot_be_hashed_do_as_the_gate_is_configured(server, gate, fail):
    settings = dialect_config(token=TOKEN, policy=Policy(unsupported=fail, unreadable=fail))
    gate.gate.reload(gate_config(gate.gate.config.data, {Dialect.HTTP: settings}))
    for data, media_type in ((UNREADABLE, "image/jpeg"), (b"%PDF-1.7", "application/pdf")):
        answer = server.upload(data, media_type)
        assert answer.status_code == (200 if fail is Fail.OPEN else 400)


@needs_synapse
def test_a_gate_that_cannot_check_does_as_configured(server, gate):
    settings = dialect_config(token=TOKEN, policy=Policy(unchecked=Fail.CLOSED))
    gate.gate.reload(gate_config(gate.gate.config.data, {Dialect.HTTP: settings}))
    gate.gate.bank.changes = {"as_of": None}
    try:
        answer = server.upload(CLEAR)
    finally:
        gate.gate.bank.changes = {}
    assert answer.status_code == (400 if server.refuses else 200)
    assert "status 503" in server.log.read_text()


@needs_synapse
def test_a_wrong_token_does_as_configured(server, gate):
    settings = dialect_config(token="another")
    gate.gate.reload(gate_config(gate.gate.config.data, {Dialect.HTTP: settings}))
    try:
        answer = server.upload(CLEAR)
    finally:
        settings = dialect_config(token=TOKEN)
        gate.gate.reload(gate_config(gate.gate.config.data, {Dialect.HTTP: settings}))
    assert answer.status_code == (400 if server.refuses else 200)
    log = server.log.read_text()
    assert "status 401" in log
    assert TOKEN not in log


@needs_synapse
@pytest.mark.parametrize("choice", ["accept", "refuse"])
def test_a_gate_that_is_away_or_silent_does_as_configured(tmp_path, choice):
    settings = {"review": "refuse", "on_error": choice, "timeout": 0.5}
    expected = 200 if choice == "accept" else 400
    port = free_port()
    settings["gate"] = f"http://127.0.0.1:{port}"
    with home_server(PYTHON, tmp_path, settings) as running:
        assert running.upload(CLEAR).status_code == expected
        assert "ConnectionRefusedError" in running.log.read_text()
        with _silent(port):
            assert running.upload(CLEAR * 8).status_code == expected
        assert running.log.read_text().count("did not check a file") == 2


@contextlib.contextmanager
def _silent(port):
    """Accept connections and answer nothing."""
    import socket

    with socket.create_server(("127.0.0.1", port)) as listening:
        yield listening


GOOD = {"gate": "http://127.0.0.1:8460", "review": "refuse", "on_error": "accept"}
BAD = [
    ({"gate": None}, "address of the gate"),
    ({"gate": "127.0.0.1:8460"}, "address of the gate"),
    ({"gate": "ftp://127.0.0.1"}, "address of the gate"),
    ({"gate": "http://127.0.0.1:port"}, "address of the gate"),
    ({"gate": "http://gate.example"}, "plain http"),
    ({"gate": "http://10.0.0.1"}, "plain http"),
    ({"gate": "https://user:SECRET@gate.example"}, "only a host and a port"),
    ({"gate": "https://gate.example/check"}, "only a host and a port"),
    ({"gate": "https://gate.example?SECRET"}, "only a host and a port"),
    ({"review": None}, "`review`"),
    ({"review": "block"}, "`review`"),
    ({"on_error": "SECRET"}, "`on_error`"),
    ({"token": ""}, "`token`"),
    ({"token": 1}, "`token`"),
    ({"token": "S\u00c9CRET"}, "`token`"),
    ({"timeout": 0}, "`timeout`"),
    ({"timeout": "30"}, "`timeout`"),
    ({"timeout": True}, "`timeout`"),
    ({"fail": "SECRET"}, "do not exist: fail"),
]
ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from synapse.module_api.errors import ConfigError
from nciihash.gate.synapse import GateSpamChecker
assert "numpy" not in sys.modules
for changes in json.loads(sys.argv[2]):
    try:
        print(repr(GateSpamChecker.parse_config(changes)))
    except ConfigError as error:
        print("ConfigError", error)
"""


@needs_synapse
def test_the_settings_are_checked(tmp_path):
    """In Synapse's Python, where `nciihash` can be imported without what it depends on."""
    import json

    good = [
        GOOD,
        GOOD | {"gate": "https://gate.example/", "token": "SECRET", "timeout": 5},
        GOOD | {"gate": "http://gate.example:8460", "private": True},
        GOOD | {"gate": "http://[::1]:8460"},
    ]
    asked = [*good, *(GOOD | changes for changes, _ in BAD)]
    command = [PYTHON, "-c", ASK, str(ROOT), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert [line.partition("(")[0] for line in lines[: len(good)]] == ["Settings"] * len(good)
    assert "address='https://gate.example'" in lines[1]
    for line, (_, message) in zip(lines[len(good) :], BAD, strict=True):
        assert line.startswith("ConfigError")
        assert message in line
    assert "SECRET" not in done.stdout
    assert Path(PYTHON).exists()
