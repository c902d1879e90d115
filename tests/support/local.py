"""A clearinghouse that the tests of one module share, and a platform: for tests of the clients."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nciihash.client import PlatformClient
from nciihash.signals import Hashed, Item, Media, Signal, SignalType
from support import serving
from support.service_process import ServiceProcess


def random_item(signals: int = 1) -> Item:
    """Make a file's worth of random PDQ hashes."""
    return Item(
        Media.IMAGE,
        tuple(
            Hashed(Signal(SignalType.PDQ, bytes.fromhex(serving.pdq())), quality=90)
            for _ in range(signals)
        ),
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, empty_file: Path) -> Iterator[ServiceProcess]:
    """Give a clearinghouse that the tests of one module share."""
    folder = tmp_path_factory.mktemp("service")
    shutil.copy(empty_file, folder / "db.sqlite3")
    with ServiceProcess(folder, CLEARINGHOUSE_MATCH_TYPES="phash,dhash") as running:
        yield running


@pytest.fixture(scope="module")
def key(local: ServiceProcess) -> str:
    """Give the key of a platform with every scope."""
    return local.platform()


@pytest.fixture
def platform(local: ServiceProcess, key: str) -> Iterator[PlatformClient]:
    with PlatformClient(local.address, key) as client:
        yield client
