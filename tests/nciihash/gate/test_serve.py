import json
import resource
import signal
import socket
import ssl
import stat
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from nciihash.client import Client
from nciihash.sandbox import hash_file
from nciihash.wire import Reason
from support.certificates import self_signed
from support.gate_process import KEY, GateProcess
from support.paths import ROOT
from support.pictures import encode, textured
from support.service_process import ServiceProcess

PICTURES = ROOT / "docs" / "gate"
BLOCK = (PICTURES / "block.jpg").read_bytes()
HTTP = '[http]\nlisten = "127.0.0.1:0"\nlevel = "fast"\n'
CLAMD = '[clamd]\nlisten = "127.0.0.1:0"\nlevel = "fast"\nreview_as = "clear"\n'


def check(gate, content, **options):
    return httpx.post(gate.urls["http"] + "/check", content=content, timeout=60, **options)


def connect(gate, dialect="http"):
    address = httpx.URL(gate.urls[dialect])
    connection = socket.create_connection((address.host, address.port))
    connection.settimeout(60)
    return connection


def received(connection):
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def until(condition):
    """Wait until a condition is true, at most a minute; return whether it is."""
    end = time.monotonic() + 60
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_after_the_upload_in_progress_is_answered(tmp_path, number):
    head = b"POST /check HTTP/1.1\r\nHost: gate\r\nContent-Length: %d\r\n\r\n" % len(BLOCK)
    with GateProcess(tmp_path, HTTP) as gate, connect(gate) as busy, connect(gate) as idle:
        busy.sendall(head + BLOCK[:1000])
        assert until(lambda: "upload_memory_bytes 1000.0" in metrics(gate))
        gate.notify(number)
        assert received(idle) == b""
        assert until(lambda: refuses_connections(gate))
        busy.sendall(BLOCK[1000:])
        answer = received(busy)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"decision":"block"' in answer
        assert gate.end() == 0
        gate.logged("The gate has ended.")


def metrics(gate):
    return httpx.get(gate.urls["http"] + "/metrics").text


def refuses_connections(gate):
    try:
        connect(gate).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_second_signal_ends_it_at_once(tmp_path):
    with GateProcess(tmp_path, HTTP) as gate, connect(gate) as busy:
        busy.sendall(b"POST /check HTTP/1.1\r\nHost: gate\r\nContent-Length: 10\r\n\r\nx")
        assert until(lambda: "upload_memory_bytes 1.0" in metrics(gate))
        gate.notify(signal.SIGTERM)
        gate.logged("The gate ends once")
        assert gate.end() == 0


def test_sighup_applies_a_changed_policy(tmp_path):
    with GateProcess(tmp_path, HTTP) as gate:
        assert check(gate, BLOCK).json()["decision"] == "block"
        gate.configure(HTTP + "dry_run = true\n")
        gate.notify(signal.SIGHUP)
        gate.logged("The configuration was reloaded.")
        assert check(gate, BLOCK).json()["dry_run"] is True
        # an invalid configuration changes nothing
        gate.configure(HTTP + "dry_run = 7\n")
        gate.notify(signal.SIGHUP)
        gate.logged("The configuration was not reloaded")
        assert check(gate, BLOCK).json()["dry_run"] is True
        gate.config.unlink()
        gate.notify(signal.SIGHUP)
        assert until(lambda: gate.log().count("The configuration was not reloaded") == 2)
        # listeners stay as they are
        gate.configure(HTTP.replace(":0", ":1") + CLAMD)
        gate.notify(signal.SIGHUP)
        gate.logged("These settings need a restart: http.listen, clamd.listen.")
        assert check(gate, BLOCK).json()["decision"] == "block"


def test_serves_all_dialects_with_the_same_address_together(tmp_path):
    tables = (
        HTTP
        + '[pictrs]\nlisten = "127.0.0.1:0"\nlevel = "fast"\nreview_as = "block"\n'
        + '[hma]\nlisten = "127.0.0.1:0"\nlevel = "fast"\n'
        + CLAMD
        + '[icap]\nlisten = "127.0.0.1:0"\nlevel = "fast"\nreview_as = "clear"\n'
    )
    with GateProcess(tmp_path, tables) as gate:
        assert gate.urls["http"] == gate.urls["pictrs"] == gate.urls["hma"]
        assert check(gate, BLOCK).json()["decision"] == "block"
        assert httpx.post(gate.urls["pictrs"] + "/pictrs", content=BLOCK).status_code == 451
        assert httpx.get(gate.urls["hma"] + "/status").status_code == 200
        with connect(gate, "clamd") as clamd:
            clamd.sendall(b"nINSTREAM\n" + len(BLOCK).to_bytes(4, "big") + BLOCK + bytes(4))
            assert b"FOUND" in clamd.recv(1000)
        with connect(gate, "icap") as icap:
            icap.sendall(b"OPTIONS icap://gate/reqmod ICAP/1.0\r\nHost: gate\r\n\r\n")
            assert icap.recv(1000).startswith(b"ICAP/1.0 200 ")
        assert gate.urls["clamd"].startswith("clamd://127.0.0.1:")
        assert gate.urls["icap"].startswith("icap://127.0.0.1:")


def test_an_address_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = HTTP.replace(":0", f":{taken.getsockname()[1]}")
        with pytest.raises(AssertionError, match="cannot listen for http"):
            GateProcess(tmp_path, CLAMD + listen)


def test_listens_at_a_unix_socket(tmp_path):
    path = tmp_path / "gate.sock"
    table = f'[http]\nlisten = "unix:{path}"\nlevel = "fast"\n'
    transport = httpx.HTTPTransport(uds=str(path))
    with GateProcess(tmp_path, table) as gate:
        assert gate.urls["http"] == f"http+unix://{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with httpx.Client(transport=transport, base_url="http://gate") as client:
            assert client.post("/check", content=BLOCK).json()["decision"] == "block"
        gate.end(signal.SIGKILL)
    assert path.exists()  # left by the kill, and replaced
    with GateProcess(tmp_path, table) as gate:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://gate"
        ) as client:
            assert client.get("/health/live").status_code == 200
        assert gate.end() == 0
    assert not path.exists()


def test_speaks_tls(tmp_path):
    pem = self_signed(tmp_path / "gate.pem")
    context = ssl.create_default_context(cafile=pem)
    table = HTTP.replace("127.0.0.1:0", "localhost:0")
    table += f'certificate = "{pem}"\ncertificate_key = "{pem}"\n'
    with GateProcess(tmp_path, table) as gate:
        url = gate.urls["http"]
        assert url.startswith("https://localhost:")
        with httpx.Client(verify=context) as client:
            assert client.post(f"{url}/check", content=BLOCK).json()["decision"] == "block"
        # a peer that never makes the handshake, and one that speaks no TLS
        with connect(gate), connect(gate) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n")
            with suppress(ConnectionResetError):
                assert not plain.recv(100).startswith(b"HTTP")


# --- what is written ---


SECRET = "telltale-4711"


def test_writes_nothing_about_an_upload_or_its_sender(tmp_path):
    token = f"token-{SECRET}"
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    unlike = encode(textured(77), "JPEG")
    (tmp_path / "unlike.jpg").write_bytes(unlike)
    hashes = [
        hashed.signal.value
        for path in (tmp_path / "unlike.jpg", PICTURES / "block.jpg")
        for hashed in hash_file(path, variants="match").hashes
    ]
    (tmp_path / "unlike.jpg").unlink()
    broken = b"\x89PNG\r\n\x1a\n" + SECRET.encode() * 20
    table = f'{HTTP}token_file = "token"\n[clamd]\nlisten = "127.0.0.1:0"\nreview_as = "block"\n'
    headers = {
        "Authorization": f"Bearer {token}",
        "User-Agent": SECRET,
        "X-Forwarded-For": "203.0.113.77",
        "Referer": f"https://example.org/{SECRET}",
    }
    with GateProcess(tmp_path, table) as gate:
        url = gate.urls["http"]
        with httpx.Client(headers=headers, timeout=60) as client:
            for content in (BLOCK, unlike, broken, b"", SECRET.encode()):
                name = f"{SECRET}.jpg"
                client.post(f"{url}/check", files={SECRET: (name, content)}, data={"x": SECRET})
                client.post(f"{url}/check?{SECRET}={SECRET}", content=content)
            client.post(f"{url}/check?answer={SECRET}", content=BLOCK)
            client.post(f"{url}/{SECRET}", content=BLOCK)
            form = {"Content-Type": f"multipart/form-data; boundary={SECRET}"}
            client.post(f"{url}/check", content=f"--{SECRET}Q{SECRET}", headers=form)
            client.get(f"{url}/", headers={"Authorization": f"Bearer {SECRET}"})
            with connect(gate) as broken_http:
                broken_http.sendall(f"{SECRET}\r\n\r\n".encode())
                received(broken_http)
            with connect(gate, "clamd") as clamd:
                clamd.sendall(f"nSCAN /{SECRET}\n".encode())
                clamd.recv(1000)
            shown = client.get(f"{url}/metrics").text + client.get(f"{url}/").text
        assert 'decision="block",dialect="http"' in shown
        assert gate.end() == 0
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        written = [path for path in written if path.name not in {"token", "gate.toml"}]
        assert {"log", "decisions"} <= {path.name for path in written}
        everything = shown.encode() + b"".join(path.read_bytes() for path in written)
    for private in (SECRET, "203.0.113.77", "127.0.0.1", KEY, token):
        assert private.encode() not in everything
    for value in hashes:
        assert value not in everything
        assert value.hex().encode() not in everything
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_its_memory_cannot_be_dumped(tmp_path):
    with GateProcess(tmp_path, HTTP) as gate:
        limits = Path(f"/proc/{gate.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


# --- many connections ---


@pytest.mark.slow
def test_idle_connections_do_not_prevent_uploads(tmp_path):
    """10,000 of them, or as many as this process may open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(10_000, hard - len(list(Path("/proc/self/fd").iterdir())) - 500)
    try:
        with GateProcess(tmp_path, HTTP) as gate, ExitStack() as connections:
            for _ in range(most):
                connections.enter_context(connect(gate))
            assert until(lambda: open_connections(gate) >= most)
            assert check(gate, BLOCK).json()["decision"] == "block"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_connections(gate):
    (line,) = [
        line for line in metrics(gate).splitlines() if line.startswith("nciihash_gate_connections")
    ]
    return float(line.split()[1])


def test_the_longest_idle_connection_makes_way_for_a_new_one(tmp_path):
    with GateProcess(tmp_path, f"{HTTP}[limits]\nconnections = 3\n") as gate:
        connections = [connect(gate) for _ in range(3)]
        assert check(gate, BLOCK).json()["decision"] == "block"
        assert received(connections[0]) == b""
        for connection in connections:
            connection.close()


# --- with a clearinghouse ---


def test_follows_the_feed_and_reports_what_it_blocked(tmp_path):
    picture = tmp_path / "held.jpg"
    picture.write_bytes(encode(textured(5), "JPEG"))
    (tmp_path / "service").mkdir()
    (tmp_path / "gate").mkdir()
    with ServiceProcess(tmp_path / "service") as service:
        key = service.platform()
        with Client(service.address) as client:
            opened = client.open_case(
                [hash_file(picture, variants="standard")],
                reason=Reason.SHARED,
                adult=True,
                depicted=True,
            )
        table = f'{HTTP}[http.policy]\nunchecked = "closed"\n'
        with GateProcess(tmp_path / "gate", table, server=service.address, key=key) as gate:
            assert until(lambda: check(gate, picture.read_bytes()).status_code == 200)
            answer = check(gate, picture.read_bytes(), params={"answer": "status"})
            assert answer.status_code == 451
            gate.logged("Uploads are checked.")

            def verdicts():
                figures = json.loads(service.command("stats", "--json").stdout)
                return figures["verdicts"]

            assert until(lambda: verdicts() >= 1)
            service.withdraw((opened.case, opened.passphrase))
            assert until(lambda: check(gate, picture.read_bytes()).json()["decision"] == "clear")


def test_a_veiled_bank_confirms_candidates_at_the_clearinghouse(tmp_path):
    picture = tmp_path / "held.jpg"
    picture.write_bytes(encode(textured(5), "JPEG"))
    other = encode(textured(6), "JPEG")
    (tmp_path / "service").mkdir()
    (tmp_path / "gate").mkdir()
    with ServiceProcess(tmp_path / "service") as service:
        key = service.platform("veil,match,feedback")
        service.open(hash_file(picture, variants="standard"))
        table = f'veiled = true\n{HTTP}[http.policy]\nunchecked = "closed"\n'
        with GateProcess(tmp_path / "gate", table, server=service.address, key=key) as gate:
            assert until(lambda: check(gate, other).status_code == 200)
            found = check(gate, picture.read_bytes()).json()
            assert (found["decision"], found["matches"][0]["band"]) == ("block", "strong")
            assert check(gate, other).json()["decision"] == "clear"
            service.end()
            answer = check(gate, picture.read_bytes())
            assert (answer.status_code, answer.json()["code"]) == (503, "unconfirmed")
            assert check(gate, other).json()["decision"] == "clear"
            gate.logged("Matches cannot be confirmed")
