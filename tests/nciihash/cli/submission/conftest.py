"""What both use cases of a submission share: a terminal, its input, and replies of a service."""

import io
import sys
from datetime import UTC, datetime

import pytest

from nciihash.cli.terminal import Terminal
from nciihash.wire import ItemReceipt

EXPIRES = datetime(2028, 5, 17, tzinfo=UTC)


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def answers(monkeypatch):
    """Return a function that sets what is typed at the questions."""

    def type_in(text):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    type_in("")
    return type_in


@pytest.fixture
def receipts():
    """Return a function that makes the receipts of items of which all hashes are accepted."""

    def of(items):
        return tuple(
            ItemReceipt(item=number, accepted=len(item.hashes))
            for number, item in enumerate(items, 1)
        )

    return of
