"""A clearinghouse in a process of its own, and a platform at its door: for tests of the clients."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearinghouse.settings import Settings
from nciihash.cli.demo.local_service import LocalService
from nciihash.client import Client, PlatformClient
from nciihash.signals import Hashed, Item, Media, Signal, SignalType
from nciihash.wire import Reason
from support.processes import add_platform, rotate_key


class Local:
    """A running clearinghouse."""

    def __init__(self, folder: Path) -> None:
        self.service = LocalService(folder)
        self._settings = Settings(database=f"sqlite:///{folder}/clearinghouse.sqlite3")
        self.address = self.service.address  # waits until it answers

    def platform(self, scopes: str = "feed,match,feedback", name: str | None = None) -> str:
        """Add a platform, by default under a new name, and give its key."""
        name = name or f"Platform {secrets.token_hex(4)}"
        return add_platform(self._settings, name, scopes.split(","))

    def rotated(self, name: str, scopes: str) -> str:
        """Give a platform a further key, with other scopes."""
        return rotate_key(self._settings, name, scopes.split(","))

    def survivor(self) -> Client:
        return Client(self.address)

    def open(self, *items: Item) -> tuple[str, str]:
        with self.survivor() as client:
            opened = client.open_case(list(items), reason=Reason.SHARED, adult=True, depicted=True)
        return opened.case, opened.passphrase

    def withdraw(self, case: tuple[str, str], item: int | None = None) -> None:
        with self.survivor() as client:
            client.withdraw(*case, item)


def random_item(signals: int = 1) -> Item:
    """Make a file's worth of random PDQ hashes."""
    return Item(
        Media.IMAGE,
        tuple(
            Hashed(Signal(SignalType.PDQ, secrets.token_bytes(32)), quality=90)
            for _ in range(signals)
        ),
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Give a clearinghouse that the tests of one module share."""
    running = Local(tmp_path_factory.mktemp("service"))
    yield running
    running.service.close()


@pytest.fixture(scope="module")
def key(local: Local) -> str:
    """Give the key of a platform with every scope."""
    return local.platform()


@pytest.fixture
def platform(local: Local, key: str) -> Iterator[PlatformClient]:
    with PlatformClient(local.address, key) as client:
        yield client
