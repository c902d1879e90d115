"""ICAP with the clients that platforms have: c-icap-client, and Squid with `squid.conf`."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from nciihash.gate.policy import Fail
from nciihash.hashing.hasher import hash_bytes
from support.icap import icap_gate
from support.paths import ROOT
from support.pictures import encode, textured

BANKED, OTHER = textured(1), textured(2)
COPY = encode(BANKED.resize((400, 286)), "JPEG", quality=70)
PASS = encode(OTHER, "JPEG", quality=90)
LARGE = encode(OTHER.resize((1344, 960)), "JPEG", quality=98)  # more than Squid keeps: 64 KiB

C_ICAP = shutil.which("c-icap-client")
SQUID = shutil.which("squid", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
USER = "proxy"  # of Debian's package, for tests that run as root

needs_c_icap = pytest.mark.skipif(C_ICAP is None, reason="c-icap-client is not installed")
needs_squid = pytest.mark.skipif(SQUID is None, reason="squid is not installed")


@pytest.fixture(scope="module")
def icap(tmp_path_factory):
    items = {"item": hash_bytes(encode(BANKED, "PNG"))}
    with icap_gate(tmp_path_factory.mktemp("gate"), items) as running:
        yield running


@pytest.fixture
def c_icap(icap, tmp_path):
    """Run c-icap-client with a file; return what it prints and what it saves."""

    def run(data, *options, service="nciihash"):
        (tmp_path / "in").write_bytes(data)
        (tmp_path / "out").unlink(missing_ok=True)
        files = ["-f", str(tmp_path / "in"), "-o", str(tmp_path / "out")] if data else []
        process = subprocess.run(
            [
                C_ICAP,
                "-i",
                "127.0.0.1",
                "-p",
                str(icap.port),
                "-s",
                service,
                "-v",
                *files,
                *options,
            ],
            capture_output=True,
            check=True,
        )
        saved = tmp_path / "out"
        printed = (process.stdout + process.stderr).decode(errors="replace")
        return printed, saved.read_bytes() if saved.exists() else b""

    return run


@needs_c_icap
def test_c_icap_client_reads_the_options(c_icap):
    printed, _ = c_icap(b"")
    assert "Allow 204: Yes" in printed
    assert "Preview: 4096" in printed
    assert "Keep alive: Yes" in printed
    assert "Methods: REQMOD, RESPMOD" in printed


@needs_c_icap
@pytest.mark.parametrize("request_url", [(), ("-req", "http://site.example/upload")])
@pytest.mark.parametrize("options", [(), ("-nopreview",), ("-w", "100")])
def test_c_icap_client_passes_a_picture(c_icap, request_url, options):
    printed, saved = c_icap(PASS, *request_url, *options)
    assert "ICAP/1.0 204 Unmodified" in printed
    assert saved == b""
    printed, saved = c_icap(PASS, "-no204", *request_url, *options)
    assert "ICAP/1.0 200 OK" in printed
    assert saved == PASS


@needs_c_icap
@pytest.mark.parametrize("request_url", [(), ("-req", "http://site.example/upload")])
@pytest.mark.parametrize("options", [(), ("-nopreview",), ("-no204",)])
def test_c_icap_client_stops_a_copy(c_icap, request_url, options):
    printed, saved = c_icap(COPY, *request_url, *options, service="avscan")
    assert "ICAP/1.0 200 OK" in printed
    assert "X-Infection-Found: Type=0; Resolution=2; Threat=NCII.match.strong." in printed
    assert "HTTP/1.1 403 Forbidden" in printed
    assert b"<h1>This picture or video cannot be shared here</h1>" in saved


class Site(BaseHTTPRequestHandler):
    """An upload site that knows nothing of hashes: it stores bodies, and sends them back."""

    protocol_version = "HTTP/1.1"
    stored: bytes | None = None
    host: str | None = None

    def do_POST(self):
        """Store a body."""
        Site.host = self.headers["Host"]
        Site.stored = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201, b"stored")

    def do_GET(self):
        """Send the last body."""
        self._answer(200, Site.stored)

    def log_message(self, *_):
        """Log nothing."""

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def site():
    """The port of the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def squid(site, icap, *, bypass="off", forward=False):
    """Run Squid with the example's configuration; yields the URL of the site through it."""
    port = free_port()
    text = (ROOT / "examples/gate/squid.conf").read_text()
    text = text.replace("http_port 8080", f"http_port 127.0.0.1:{port}")
    text = text.replace(" 8000 ", f" {site} ").replace(":1344/", f":{icap}/")
    text = text.replace("bypass=off", f"bypass={bypass}")
    text = text.replace("nciihash_down deny", "nciihash_down allow")
    if forward:
        text = re.sub(r"(http_port \S+) .*", r"\1", text)
        text = re.sub(r"(cache_peer|never_direct) .*", "", text)
    folder = Path(tempfile.mkdtemp(prefix="squid-"))
    user = USER if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    text = text.replace("/tmp/nciihash-squid.log", str(folder / "log"))
    (folder / "squid.conf").write_text(text + f"coredump_dir {folder}\nshutdown_lifetime 0\n")
    process = subprocess.Popen(
        [SQUID, "-N", "-f", str(folder / "squid.conf")],
        user=user,
        extra_groups=[] if user else None,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not listening(port):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listening(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def upload(url, data, form=True, **options):
    """Upload a picture as a form does, or as the body."""
    how = {"files": {"f": ("a.jpg", data)}} if form else {"content": data}
    return httpx.post(f"{url}/upload", timeout=60, trust_env=False, **how, **options)


@pytest.fixture(scope="module")
def proxied(icap, site):
    with squid(site, icap.port) as url:
        yield url


@needs_squid
@pytest.mark.parametrize("form", [True, False])
def test_squid_refuses_the_upload_of_a_copy_and_takes_another(proxied, form):
    Site.stored = None
    answer = upload(proxied, COPY, form)
    assert answer.status_code == 403
    assert "<h1>This picture or video cannot be shared here</h1>" in answer.text
    assert "Reference: <code>" in answer.text
    assert Site.stored is None
    for picture in (PASS, LARGE):
        assert upload(proxied, picture, form).status_code == 201
        assert picture in Site.stored
        assert form or picture == Site.stored


@needs_squid
def test_squid_passes_the_gates_json_on(proxied):
    answer = upload(proxied, COPY, headers={"Accept": "application/json"})
    assert answer.status_code == 403
    assert answer.json()["reference"]


@needs_squid
def test_squid_passes_the_host_on_and_asks_no_other(proxied):
    assert upload(proxied, PASS, headers={"Host": "site.invalid"}).status_code == 201
    assert Site.host == "site.invalid"


@needs_squid
def test_squid_stops_a_download(proxied):
    Site.stored = COPY
    assert httpx.get(f"{proxied}/picture", trust_env=False).status_code == 403
    Site.stored = PASS
    assert httpx.get(f"{proxied}/picture", trust_env=False).content == PASS


@needs_squid
def test_squid_as_a_forward_proxy(icap, site):
    with squid(site, icap.port, forward=True) as proxy:
        assert upload(f"http://127.0.0.1:{site}", COPY).status_code == 201  # without the proxy
        with httpx.Client(proxy=proxy, trust_env=False) as client:
            url = f"http://127.0.0.1:{site}/upload"
            assert client.post(url, content=COPY).status_code == 403
            assert client.post(url, content=PASS).status_code == 201


@needs_squid
@pytest.mark.parametrize(("bypass", "status"), [("off", 500), ("on", 201)])
def test_squid_without_a_gate_does_what_bypass_says(site, bypass, status):
    with squid(site, free_port(), bypass=bypass) as url:
        assert upload(url, PASS).status_code == status


@needs_squid
@pytest.mark.parametrize("bypass", ["off", "on"])
def test_a_gate_that_cannot_check_decides_also_with_bypass(icap, site, bypass):
    icap.gate.bank.changes = {"as_of": 0.0}
    try:
        with squid(site, icap.port, bypass=bypass) as url:
            with icap.configured(unchecked=Fail.CLOSED):
                assert upload(url, PASS).status_code == 503
            with icap.configured(unchecked=Fail.OPEN):
                assert upload(url, PASS).status_code == 201
    finally:
        icap.gate.bank.changes = {}
