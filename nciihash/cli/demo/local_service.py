"""Start parts of a clearinghouse on this machine: all of it for the demo, or the page alone."""

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
_END_SECONDS: Final = 5.0  # the service promises to end within this


def _check_installed(what: str, extra: str) -> None:
    if any(find_spec(name) is None for name in _NEEDED):
        raise ExtraMissing(
            f'{what}, which needs packages that are not installed: pip install "nciihash[{extra}]"'
        )


def become_page(server: str | None, port: int, *, browser: bool) -> NoReturn:
    """Turn this process into the one that serves the page, for the library has no part of it.

    Args:
        server: the clearinghouse to which the page sends; None to save fingerprints instead.
        port: 0 for any free one.
        browser: open the page in the browser.

    Raises:
        ExtraMissing: the service's packages are not installed.
    """
    _check_installed("The page is part of the clearinghouse", "server")
    words = ["app", "--port", str(port), "--browser" if browser else "--no-browser"]
    if server is not None:
        words += ["--server", server]
    os.execv(sys.executable, (*_PROGRAM, *words))  # noqa: S606 - our own program


class LocalService:
    """A clearinghouse on a free port of this machine; a context manager.

    It starts at once; `address` waits until it answers.

    Args:
        folder: where its database, its key and its log go; they stay there when it has ended.

    Raises:
        ExtraMissing: the service's packages are not installed.
    """

    def __init__(self, folder: Path) -> None:
        _check_installed("This starts a clearinghouse", "demo")
        self._database = f"sqlite:///{folder}/clearinghouse.sqlite3"
        # What is set for a real service has nothing to do with this one.
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
        """Wait for the line in which the service says where it listens, and give that.

        Raises:
            ServiceUnreachable: it did not start.
        """
        output = self._process.stdout
        assert output is not None  # noqa: S101 - it was asked for
        end = time.monotonic() + _START_SECONDS
        said = b""
        with selectors.DefaultSelector() as ready:
            ready.register(output, selectors.EVENT_READ)
            while b"\n" not in said and ready.select(max(0.0, end - time.monotonic())):
                part = os.read(output.fileno(), 4096)
                if not part:
                    break
                said += part
        if found := _LISTENING.match(said.decode(errors="replace")):
            return found[1]
        log = self._log.read_text(errors="replace").strip().splitlines()
        raise ServiceUnreachable(
            "The clearinghouse of this demo did not start. "
            + (f"It said: {log[-1][:300]}" if log else "It said nothing.")
        )

    def add_platform(self, name: str, scopes: str) -> str:
        """Add a platform with the service's own command, and give its key.

        Only when the service has its address: before, it may still be making its database.

        Raises:
            ServiceUnreachable: the command failed.
        """
        done = subprocess.run(  # noqa: S603 - our own program; the name is one argument
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
        if done.returncode:
            raise ServiceUnreachable(
                "The clearinghouse of this demo took no platform. It said: "
                + done.stderr.decode(errors="replace").strip()[-300:]
            )
        key: str = json.loads(done.stdout)["key"]
        return key

    def close(self) -> None:
        """End the process: kindly, and if it has not ended in time, by force."""
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
