import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from nciihash.bank import bank as banks


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a bank.ncii"


@pytest.fixture
def small_journal(monkeypatch) -> None:
    """Compact after a few pages instead of after megabytes."""
    monkeypatch.setattr(banks, "JOURNAL_BYTES", 1500)


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    gc.disable()  # so that garbage of an earlier test counts both before and after
    try:
        yield
    finally:
        gc.enable()
    if len(list(Path("/proc/self/fd").iterdir())) > before:
        gc.collect()  # each mapped snapshot has a descriptor
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
