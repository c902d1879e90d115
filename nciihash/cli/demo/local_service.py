"""Start a clearinghouse on this machine for the demo, or only its web page for `nciihash app`."""

import json
import os
import re
import selectors
import subprocess
import sys
import time
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn, Self

from nciihash.errors import ExtraMissing, ServiceUnreachable

_NEEDED: Final = (
    *("alembic", "argon2", "clearinghouse", "cryptography", "fastapi", "fastapi_swagger"),
    *("prometheus_client", "sqlalchemy", "uvicorn", "xkcdpass"),
)
_LISTENING: Final = re.compile(r"clearinghouse: listening on (http://\S+)")
_PROGRAM: Final = (sys.executable, "-m", "clearinghouse")
_START_SECONDS: Final = 60.0  # a cold disk is slow
_END_SECONDS: Final = 5.0  # within which the service is to shut down


def _check_installed(what: str, extra: str) -> None:
    if any(find_spec(name) is None for name in _NEEDED):
        raise ExtraMissing(
            f'{what} needs packages that are not installed: pip install "nciihash[{extra}]"'
        )


def become_page(server: str | None, port: int, *, browser: bool) -> NoReturn:
    """Replace this process by `clearinghouse app`, which serves the page.

    The library has no code that serves it.

    Args:
        server: address of the clearinghouse to send to; None to save fingerprints instead.
        port: port to listen on; 0 for any free one.
        browser: open the page in the browser.

    Raises:
        ExtraMissing: the service's packages are not installed.
    """
    _check_installed("The page", "server")
    arguments = ["app", "--port", str(port), "--browser" if browser else "--no-browser"]
    if server is not None:
        arguments += ["--server", server]
    os.execv(sys.executable, (*_PROGRAM, *arguments))  # noqa: S606 - our own program


class LocalService:
    """A clearinghouse on a free port of this machine; a context manager.

    The process starts at once; `address` waits until it listens.

    Args:
        folder: for its database, its key and its log, which are not deleted at the end.

    Raises:
        ExtraMissing: the service's packages are not installed.
    """

    def __init__(self, folder: Path) -> None:
        _check_installed("The demo", "demo")
        self._database = f"sqlite:///{folder}/clearinghouse.sqlite3"
        # Settings for a real service must not apply to this one.
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CLEARINGHOUSE_", "NCIIHASH_"))
        }
        self._log = folder / "log.txt"
        self._folder = folder
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                (*_PROGRAM, "serve", "--database", self._database, "--port", "0"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                cwd=folder,
            )

    @cached_property
    def address(self) -> str:
        """The address of the service; waits until it has printed that it listens.

        Raises:
            ServiceUnreachable: it did not start.
        """
        output = self._process.stdout
        assert output is not None  # noqa: S101 - it is a pipe
        end = time.monotonic() + _START_SECONDS
        line = b""
        with selectors.DefaultSelector() as ready:
            ready.register(output, selectors.EVENT_READ)
            while b"\n" not in line and ready.select(max(0.0, end - time.monotonic())):
                data = os.read(output.fileno(), 4096)
                if not data:
                    break
                line += data
        if match := _LISTENING.match(line.decode(errors="replace")):
            return match[1]
        log = self._log.read_text(errors="replace").strip().splitlines()
        raise ServiceUnreachable(
            "The clearinghouse of this demo did not start. "
            + (f"Its log ends with: {log[-1][:300]}" if log else "Its log is empty.")
        )

    def add_platform(self, name: str, scopes: str) -> str:
        """Add a platform with the service's own command, and return its key.

        Read `address` first: until then, the service may still be creating its database.

        Raises:
            ServiceUnreachable: the command failed.
        """
        process = subprocess.run(  # noqa: S603 - our own program; the name is one argument
            (
                *(*_PROGRAM, "platform", "add", name, "--scope", scopes),
                *("--database", self._database, "--json"),
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self._environment,
            cwd=self._folder,
            check=False,
        )
        if process.returncode:
            raise ServiceUnreachable(
                "The clearinghouse of this demo could not add a platform. Its message: "
                + process.stderr.decode(errors="replace").strip()[-300:]
            )
        key: str = json.loads(process.stdout)["key"]
        return key

    def close(self) -> None:
        """Terminate the process; kill it if it has not ended in time."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
