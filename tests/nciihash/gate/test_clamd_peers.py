"""The clamd dialect with real clients: clamdscan, Python's `clamd`, and Haraka with its plugin.

Tests of programs that are absent are skipped. `tests/tools/gate/clamd_peers.sh` installs Haraka
from npm into a temporary folder, whose path `HARAKA` has.
"""

import asyncio
import io
import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from nciihash.gate.config import Address
from nciihash.gate.dialects import clamd as dialect
from nciihash.gate.dialects.clamd_protocol import FILES_REFUSED
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Fail, Policy
from nciihash.gate.rehearsal import picture_items
from support.gating import dialect_config, gate_config, open_gate
from support.pictures import encode, textured

PICTURES = Path(__file__).parents[3] / "docs" / "gate"
COPY = (PICTURES / "block.jpg").read_bytes()
OTHER = encode(textured(7), "JPEG")


def edited():
    """Return a copy that is smaller, brighter, and compressed again."""
    image = Image.open(io.BytesIO(COPY)).convert("RGB")
    smaller = image.resize((image.width * 2 // 3, image.height * 2 // 3))
    return encode(ImageEnhance.Brightness(smaller).enhance(1.15), "JPEG", quality=60)


CLAMDSCAN = shutil.which("clamdscan")
HARAKA = Path(os.environ["HARAKA"]) if "HARAKA" in os.environ else None


class GateThread:
    """A gate in a thread of its own, since the clients block."""

    def __init__(self, folder):
        self._folder = folder
        self._ready = threading.Event()
        self._loop = self._stop = self.port = self.bank = None
        self.path = folder / "clamd.ctl"
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        assert self.port, "The gate did not start."
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        policy = Policy(review_as=Action.BLOCK, unchecked=Fail.CLOSED)
        unix = dialect_config(listen=Address(path=self.path), policy=policy)
        tcp = dialect_config(policy=policy)
        config = gate_config(self._folder / "gate", {Dialect.CLAMD: tcp})
        try:
            async with open_gate(self._folder / "gate", picture_items(), config) as gate:
                self.bank = gate.bank
                servers = [await dialect.serve(gate, each) for each in (tcp, unix)]
                self.port = servers[0].port
                self._ready.set()
                await self._stop.wait()
                for server in servers:
                    server.close()
                    await server.wait_closed()
        finally:
            self._ready.set()


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    with GateThread(tmp_path_factory.mktemp("gate")) as running:
        yield running


@pytest.fixture(params=["tcp", "unix"])
def settings(request, gate, tmp_path):
    """Return a configuration file for clamdscan."""
    lines = [f"LocalSocket {gate.path}"]
    if request.param == "tcp":
        lines = [f"TCPSocket {gate.port}", "TCPAddr 127.0.0.1"]
    path = tmp_path / "clamd.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def folder(tmp_path):
    """Return a folder with copies of a picture of the bank, and with others."""
    it = tmp_path / "uploads"
    it.mkdir()
    for number in range(3):
        (it / f"copy-{number}.jpg").write_bytes(COPY)
        (it / f"other-{number}.jpg").write_bytes(OTHER)
    (it / "empty").touch()
    (it / "text.txt").write_text("Hello")
    return it


def without_reference(text):
    """Return a text without the references of decisions."""
    return re.sub(r"(NCII\.match\.strong)\.[0-9A-Z]{4}(-[0-9A-Z]{4}){6}", r"\1", text)


def clamdscan(settings, *arguments):
    """Run clamdscan, and return its exit status and lines."""
    command = [CLAMDSCAN, f"--config-file={settings}", "--no-summary", "--stdout", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stdout.write(f"$ clamdscan {' '.join(arguments)} # {process.returncode}\n{process.stdout}")
    return process.returncode, sorted(without_reference(process.stdout).splitlines())


def found(folder):
    return [f"{folder}/copy-{number}.jpg: NCII.match.strong FOUND" for number in range(3)]


needs_clamdscan = pytest.mark.skipif(CLAMDSCAN is None, reason="clamdscan is not installed")


@needs_clamdscan
def test_clamdscan_streams_files(settings, folder):
    status, lines = clamdscan(settings, "--stream", str(folder))
    assert (status, lines) == (1, found(folder))
    other = folder / "other-0.jpg"
    assert clamdscan(settings, "--stream", str(other)) == (0, [f"{other}: OK"])


@needs_clamdscan
def test_clamdscan_scans_several_files_in_a_session(settings, folder):
    status, lines = clamdscan(settings, "--stream", "--multiscan", str(folder))
    assert (status, lines) == (1, found(folder))


@needs_clamdscan
def test_clamdscan_reads_its_input(settings):
    command = [CLAMDSCAN, f"--config-file={settings}", "--no-summary", "--stdout", "-"]
    for data, expected in (
        (COPY, (1, "stream: NCII.match.strong FOUND\n")),
        (OTHER, (0, "stream: OK\n")),
    ):
        process = subprocess.run(command, input=data, capture_output=True, check=False)
        assert (process.returncode, without_reference(process.stdout.decode())) == expected


@needs_clamdscan
@pytest.mark.parametrize("settings", ["unix"], indirect=True)
def test_no_files_are_read_for_clamdscan(settings, folder):
    path = str(folder / "other-0.jpg")
    assert clamdscan(settings, path) == (2, [FILES_REFUSED])
    reason = FILES_REFUSED.partition(": ")[2]
    assert clamdscan(settings, "--fdpass", path) == (2, [f"{path}: {reason}"])
    status, lines = clamdscan(settings, "--fdpass", "--multiscan", str(folder))
    assert status == 2
    assert any(reason in line for line in lines)


@needs_clamdscan
def test_clamdscan_pings_and_prints_the_version(settings):
    assert clamdscan(settings, "--ping=1")[0] == 0
    status, (line,) = clamdscan(settings, "--version")
    assert status == 0
    assert line.startswith("nciihash-gate ")
    assert clamdscan(settings, "--reload")[0] == 2


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_pythons_clamd(gate, kind):
    clamd = pytest.importorskip("clamd")
    if kind == "tcp":
        client = clamd.ClamdNetworkSocket("127.0.0.1", gate.port)
    else:
        client = clamd.ClamdUnixSocket(str(gate.path))
    assert client.ping() == "PONG"
    assert client.version().startswith("nciihash-gate ")
    status, name = client.instream(io.BytesIO(COPY))["stream"]
    assert (status, without_reference(name)) == ("FOUND", "NCII.match.strong")
    assert client.instream(io.BytesIO(OTHER)) == {"stream": ("OK", None)}
    assert client.stats().startswith("POOLS: 1")
    (answer,) = client.scan("/etc/hostname").values()
    assert answer[0] == "ERROR"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def haraka(folder, clamd_socket):
    """Run Haraka with its clamd plugin, accepting mail for example.org and discarding it."""
    port = free_port()
    config = folder / "config"
    shutil.copytree(HARAKA / "node_modules/Haraka/config", config)
    for name, text in {
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes=0\n",
        "plugins": "rcpt_to.in_host_list\nclamd\nqueue/discard\n",
        "host_list": "example.org\n",
        "me": "mail.example.org\n",
        "clamd.ini": f"clamd_socket={clamd_socket}\n",
        "loglevel": "NOTICE\n",
    }.items():
        (config / name).write_text(text)
    (folder / "package.json").write_text('{"name": "mail", "version": "1.0.0"}')
    (folder / "node_modules").symlink_to(HARAKA / "node_modules")
    command = ["node", str(HARAKA / "node_modules/Haraka/bin/haraka"), "-c", str(folder)]
    variables = os.environ | {"YES_REALLY_DO_DISCARD": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                continue
        yield port
    finally:
        process.terminate()
        process.wait()
        sys.stdout.write((folder / "log").read_text()[-3000:])


@pytest.mark.skipif(HARAKA is None, reason="HARAKA does not name a folder with Haraka from npm")
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_haraka_refuses_mail_with_a_copy(gate, tmp_path, kind):
    address = f"127.0.0.1:{gate.port}" if kind == "tcp" else str(gate.path)
    with haraka(tmp_path / "mail", address) as port:

        def send(picture):
            message = EmailMessage()
            message["From"], message["To"] = "a@example.org", "b@example.org"
            message["Subject"] = "A picture"
            message.set_content("See the attachment.")
            message.add_attachment(picture, "image", "jpeg", filename="picture.jpg")
            with smtplib.SMTP("127.0.0.1", port) as client:
                client.set_debuglevel(1)
                return client.send_message(message)

        assert send(OTHER) == {}
        with pytest.raises(smtplib.SMTPDataError, match=r"infected with NCII\.match\.") as refusal:
            send(edited())
        assert refusal.value.smtp_code == 550
        gate.bank.changes = {"as_of": None}
        try:
            with pytest.raises(smtplib.SMTPDataError) as refusal:
                send(OTHER)
        finally:
            gate.bank.changes = {}
        assert refusal.value.smtp_code == 450  # it is to be sent again later
