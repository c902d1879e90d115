"""Show the gate: two sites that know nothing of hashes refuse copies, until a case is withdrawn.

One site asks a virus scanner about uploads, in clamd's protocol; the gate has that address. The
other asks nobody; in front of it is Squid, which asks the gate over ICAP. Nothing is simulated: the
clearinghouse, the gate, both sites and Squid are processes of this machine.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
from rich.table import Table
from rich.text import Text

from nciihash.cli import tables
from nciihash.cli.demo.edits import EDITS
from nciihash.cli.demo.local_service import LocalService
from nciihash.cli.demo.photos import DemoFiles, choose_files
from nciihash.cli.terminal import Terminal
from nciihash.client.survivor import Client
from nciihash.errors import ServiceUnreachable
from nciihash.wire import Reason

_WAIT_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0
_SITE: Final = re.compile(r"upload site: listening on (http://\S+)")
_REFUSED: Final = range(400, 500)
_CONFIG: Final = """
server = "{server}"
data = "{data}"

[http]
listen = "127.0.0.1:{http}"
level = "thorough"

[clamd]
listen = "127.0.0.1:{clamd}"
level = "thorough"
review_as = "block"

[icap]
listen = "127.0.0.1:{icap}"
level = "thorough"
review_as = "block"
"""
# `accel` makes Squid a reverse proxy: its clients see a web site, and the site sees requests.
_SQUID: Final = """
http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1
cache_peer 127.0.0.1 parent {site} 0 no-query originserver
http_access allow all
cache deny all
icap_enable on
icap_service uploads reqmod_precache bypass=off icap://127.0.0.1:{icap}/reqmod
adaptation_access uploads allow all
icap_preview_enable on
pid_filename {folder}/squid.pid
access_log none
cache_log {folder}/squid.log
cache_store_log none
coredump_dir {folder}
cache_mem 8 MB
shutdown_lifetime 1 second
pinger_enable off
"""


@dataclass(frozen=True, slots=True)
class GateScore:
    """The result of the demonstration; every number is a sum over the sites.

    Attributes:
        copies: uploads of edited copies.
        blocked: of these, how many were refused.
        others: uploads of unrelated photos.
        passed: of these, how many were accepted.
        after: uploads of copies that were refused after the withdrawal.
    """

    copies: int
    blocked: int
    others: int
    passed: int
    after: int

    @property
    def line(self) -> str:
        """The last line of output."""
        return (
            f"gate: {self.blocked} of {self.copies} copies blocked, {self.passed} of "
            f"{self.others} others passed, after withdrawal {self.after} blocked"
        )

    @property
    def good(self) -> bool:
        """Whether nine of ten copies were refused, nothing else, and nothing afterwards."""
        return (
            10 * self.blocked >= 9 * self.copies > 0
            and self.passed == self.others
            and not self.after
        )


@dataclass(frozen=True, slots=True)
class _Uploads:
    """Whether a site refused each copy and each unrelated photo."""

    copies: list[bool]
    unrelated: list[bool]


def run(terminal: Terminal, photos: Sequence[Path]) -> bool:
    """Run the demonstration and print its results; the last line of output is `GateScore.line`.

    Args:
        terminal: where to print the results.
        photos: the files to submit; the photos of scikit-image if there are none.

    Returns:
        Whether the results are as they should be: `GateScore.good`.

    Raises:
        ExtraMissing: the service, the gate or the photos are not installed.
        NciihashError: one of the steps failed.
    """
    with TemporaryDirectory(prefix="nciihash-demo-") as name, ExitStack() as stack:
        folder = Path(name)
        service = stack.enter_context(LocalService(folder))
        files = choose_files(terminal, photos, folder)
        survivor = stack.enter_context(Client(service.address))
        opened = survivor.open_case(
            files.items, reason=Reason.PRECAUTION, adult=True, depicted=True
        )
        terminal.show(
            f"A clearinghouse listens at {service.address}. Case {opened.case} is open with the "
            f"hashes of {len(files.items)} photos."
        )
        key = service.add_platform("Platform", "feed,match,feedback")
        ports = _free_ports(4)
        admin = stack.enter_context(_gate(folder, service.address, key, ports))
        _wait(lambda: _signals(admin) > 0, "The gate did not receive the hashes.")
        terminal.show(f"The gate has {_signals(admin)} signals. Its status page: {admin}/")
        sites = {"by the site with a virus scanner": stack.enter_context(_site(folder, ports[1]))}
        if squid := shutil.which("squid", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
            plain = stack.enter_context(_site(folder, None))
            sites["by the site behind Squid"] = stack.enter_context(
                _squid(folder, squid, ports[3], plain, ports[2])
            )
        else:
            terminal.show("Squid is not installed, so the second site is left out.")
        before = {site: _upload(url, files) for site, url in sites.items()}
        terminal.show("")
        terminal.show(_table(files, {site: uploads.copies for site, uploads in before.items()}))
        survivor.withdraw(opened.case, opened.passphrase)
        terminal.show("\nThe person withdraws everything.")
        _wait(lambda: _signals(admin) == 0, "The gate did not receive the withdrawal.")
        after = [_upload(url, files) for url in sites.values()]
    score = _score(list(before.values()), after)
    terminal.show(score.line)
    return score.good


def _upload(site: str, files: DemoFiles) -> _Uploads:
    return _Uploads(
        [_refused(site, file) for file in files.copies],
        [_refused(site, file) for file in files.unrelated],
    )


def _score(before: Sequence[_Uploads], after: Sequence[_Uploads]) -> GateScore:
    return GateScore(
        copies=sum(len(site.copies) for site in before),
        blocked=sum(sum(site.copies) for site in before),
        others=sum(len(site.unrelated) for site in before),
        passed=sum(not refused for site in before for refused in site.unrelated),
        after=sum(sum(site.copies) for site in after),
    )


def _table(files: DemoFiles, refused: dict[str, list[bool]]) -> Table:
    """Return a table with how many copies of each edit each site refused."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Copies refused")
    for site in refused:
        table.add_column(Text(site), justify="right")
    for number, edit in enumerate(EDITS):
        rows = range(number, len(files.copies), len(EDITS))
        cells = [f"{sum(each[row] for row in rows)} of {len(rows)}" for each in refused.values()]
        table.add_row(tables.shown(edit.name), *cells)
    return table


def _refused(site: str, file: Path) -> bool:
    """Upload a file as a browser does; return whether it was refused.

    Raises:
        ServiceUnreachable: the site neither accepted nor refused it.
    """
    with file.open("rb") as opened:
        response = httpx.post(
            f"{site}/upload",
            files={"file": (file.name, opened, "application/octet-stream")},
            timeout=_WAIT_SECONDS,
            trust_env=False,
        )
    if response.status_code not in {201, *_REFUSED}:
        raise ServiceUnreachable(f"The upload site answered with {response.status_code}.")
    return response.status_code in _REFUSED


def _signals(gate: str) -> int:
    """Return how many signals the gate's bank has; -1 if the gate does not answer yet."""
    try:
        text = httpx.get(f"{gate}/metrics", timeout=5.0, trust_env=False).text
    except httpx.TransportError:
        return -1
    found = re.search(r"^nciihash_gate_bank_signals (\S+)", text, re.MULTILINE)
    return int(float(found[1])) if found else -1


@contextmanager
def _gate(folder: Path, server: str, key: str, ports: Sequence[int]) -> Iterator[str]:
    data = folder / "gate"
    data.mkdir(mode=0o700)
    config = folder / "gate.toml"
    config.write_text(
        _CONFIG.format(server=server, data=data, http=ports[0], clamd=ports[1], icap=ports[2])
    )
    arguments = [sys.executable, "-m", "nciihash", "gate", "--config", os.fspath(config)]
    with _process(arguments, folder / "gate.log", NCIIHASH_KEY=key):
        yield f"http://127.0.0.1:{ports[0]}"


@contextmanager
def _site(folder: Path, clamd: int | None) -> Iterator[str]:
    arguments = [sys.executable, "-m", "nciihash.cli.demo.upload_site"]
    arguments += ["--folder", os.fspath(folder / f"site-{clamd}")]
    if clamd is not None:
        arguments += ["--clamd", f"127.0.0.1:{clamd}"]
    log = folder / f"site-{clamd}.log"
    with _process(arguments, log):
        _wait(lambda: bool(_SITE.search(log.read_text())), "The upload site did not start.")
        yield _SITE.search(log.read_text())[1]  # type: ignore[index] # found above


@contextmanager
def _squid(folder: Path, program: str, port: int, site: str, icap: int) -> Iterator[str]:
    config = folder / "squid.conf"
    config.write_text(
        _SQUID.format(port=port, site=site.rpartition(":")[2], icap=icap, folder=folder)
    )
    address = f"http://127.0.0.1:{port}"

    def serves() -> bool:
        try:
            return httpx.get(address, timeout=5.0, trust_env=False).is_success
        except httpx.TransportError:
            return False

    with _process([program, "-N", "-f", os.fspath(config)], folder / "squid-output.log"):
        _wait(serves, "Squid did not start.")
        yield address


@contextmanager
def _process(arguments: Sequence[str], log: Path, **environment: str) -> Iterator[None]:
    """Run a program while the block runs; its output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    """Return free ports of this machine; another program might still take one before its use."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _wait(until: Callable[[], bool], message: str) -> None:
    """Wait until something is true.

    Raises:
        ServiceUnreachable: it takes too long.
    """
    end = time.monotonic() + _WAIT_SECONDS
    while not until():
        if time.monotonic() > end:
            raise ServiceUnreachable(message)
        time.sleep(0.1)
