"""A rehearsal: made-up hashes and made-up trouble, for a platform that tries out its client.

`clearinghouse serve --sandbox` adds these addresses to the service and to nothing else. Nobody's
case is in it, and everything is gone when it ends. `examples/check_client.py` runs a client through
it and says what it gets wrong.
"""

import secrets
import threading
from collections import deque
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from clearinghouse.cases import lifecycle
from clearinghouse.cases.intake import prepare
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import Busy, CursorExpired
from clearinghouse.routes.dependencies import Serving, refusal_answer
from nciihash.signals import MATCHED, Media, SignalType, Variant
from nciihash.wire import CaseState, Declaration, ItemIn, Message, Reason, SignalIn

CASES_MAX: Final = 200
FILES_MAX: Final = 200
FAULTS_MAX: Final = 100
_DECLARED: Final = Declaration(adult=True, depicted=True)
FEEDS: Final = ("/v1/feed", "/stopncii/v1/FetchHashes")


class Fault(StrEnum):
    """What goes wrong with the next page of a feed.

    `cut`: the connection breaks off in the middle of it. `busy`: 503, come back in a second.
    `expired`: 410, start anew, where the client names a cursor.
    """

    CUT = "cut"
    BUSY = "busy"
    EXPIRED = "expired"


class Burst(Message):
    """Open cases, all of them in one moment."""

    cases: Annotated[int, Field(ge=1, le=CASES_MAX)] = 10
    files: Annotated[int, Field(ge=1, le=FILES_MAX)] = 5


class Retreat(Message):
    """Withdraw the oldest cases that are still open."""

    cases: Annotated[int, Field(ge=1, le=CASES_MAX)] = 5


class Trouble(Message):
    """Let something go wrong with the next pages."""

    fault: Fault
    times: Annotated[int, Field(ge=1, le=FAULTS_MAX)] = 1


class Values(Message):
    """PDQ hashes in hexadecimal digits."""

    values: tuple[str, ...]


class Ready(Message):
    """The trouble is arranged."""

    state: Literal["arranged"] = "arranged"


class Rehearsal:
    """What has been made up so far; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: deque[tuple[int, tuple[str, ...]]] = deque()
        self._faults: deque[Fault] = deque()

    def opened(self, case: int, values: tuple[str, ...]) -> None:
        """Note a case and its hashes."""
        with self._lock:
            self._open.append((case, values))

    def oldest(self, count: int) -> list[tuple[int, tuple[str, ...]]]:
        """Take out the oldest cases."""
        with self._lock:
            return [self._open.popleft() for _ in range(min(count, len(self._open)))]

    def held(self) -> list[str]:
        """Give every hash that is to be matched now."""
        with self._lock:
            return sorted(value for _, values in self._open for value in values)

    def arrange(self, trouble: Trouble) -> None:
        """Let the next pages go wrong."""
        with self._lock:
            self._faults.extend([trouble.fault] * trouble.times)

    def next_fault(self, *, first_page: bool) -> Fault | None:
        """Give what goes wrong with this page; a first page has no cursor that could expire."""
        with self._lock:
            if not self._faults or (first_page and self._faults[0] is Fault.EXPIRED):
                return None
            return self._faults.popleft()


def rehearsal(request: Request) -> Rehearsal:
    """Give what this application makes up."""
    found: Rehearsal = request.app.state.rehearsal
    return found


Rehearsing = Annotated[Rehearsal, Depends(rehearsal)]

router = APIRouter(prefix="/sandbox", tags=["sandbox"])


@router.post("/burst")
def burst(body: Burst, serving: Serving, making: Rehearsing) -> Values:
    """Open made-up cases in one moment, and tell their hashes."""
    now = serving.clock()
    values = tuple(_made_up() for _ in range(body.cases * body.files))
    intake = prepare(serving.store, serving.lawful, [_item(value) for value in values], MATCHED)
    with serving.store.write() as tx:
        intake.screening.check(tx)
        for first in range(0, len(values), body.files):
            chosen = slice(first, first + body.files)
            lookup = secrets.token_bytes(32)  # no case number leads to it
            lifecycle.open_case(
                tx, _DECLARED, Reason.PRECAUTION,
                replace(intake, files=intake.files[chosen]), lookup=lookup, number="",
                # no passphrase opens it: this is no verifier
                passphrase="", verifier="", months=serving.settings.case_months, now=now,
            )  # fmt: skip
            row = tx.cases.find(lookup)
            assert row is not None  # noqa: S101 - inserted above
            making.opened(row.id, values[chosen])
    serving.waiters.poke()
    return Values(values=values)


def _made_up() -> str:
    """Return a value that PDQ could give: half of its bits are set."""
    half = secrets.token_bytes(16)
    return (half + bytes(byte ^ 0xFF for byte in half)).hex()


def _item(value: str) -> ItemIn:
    signal = SignalIn(type=SignalType.PDQ, value=value, quality=100, variant=Variant.ORIGINAL)
    return ItemIn(media=Media.IMAGE, signals=(signal,))


@router.post("/withdraw")
def withdraw(body: Retreat, serving: Serving, making: Rehearsing) -> Values:
    """Withdraw the oldest made-up cases, and tell the hashes that are gone."""
    gone: list[str] = []
    for case, values in making.oldest(body.cases):
        with serving.store.read() as tx:
            is_open = tx.cases.read(case).state == CaseState.OPEN
        if is_open:
            lifecycle.withdraw(serving.store, partial(_same, case), None, now=serving.clock)
        gone += values
    serving.waiters.poke()
    return Values(values=tuple(gone))


def _same(case: int, _tx: Transaction) -> int:
    return case


@router.get("/held")
def held(making: Rehearsing) -> Values:
    """Tell every hash that a platform which is up to date holds now, no more and no less."""
    return Values(values=tuple(making.held()))


@router.post("/fault")
def fault(body: Trouble, making: Rehearsing) -> Ready:
    """Let the next pages of the feed go wrong."""
    making.arrange(body)
    return Ready()


class Faults:
    """Lets pages go wrong where that has been arranged."""

    def __init__(self, app: ASGIApp, *, rehearsal: Rehearsal) -> None:
        self._app = app
        self._rehearsal = rehearsal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or let it fail."""
        fault = None
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in FEEDS:
            first = b"cursor=" not in scope["query_string"]
            fault = self._rehearsal.next_fault(first_page=first)
        if fault is Fault.BUSY:
            await refusal_answer(Busy())(scope, receive, send)
        elif fault is Fault.EXPIRED:
            await refusal_answer(CursorExpired())(scope, receive, send)
        elif fault is Fault.CUT:
            await self._app(scope, receive, _cut(send))
        else:
            await self._app(scope, receive, send)


def _cut(send: Send) -> Send:
    """Send the first half of a body and never the rest, at which the server hangs up."""

    async def cut(event: Event) -> None:
        if event["type"] == "http.response.body":
            half = event["body"][: len(event["body"]) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        else:
            await send(event)

    return cut
