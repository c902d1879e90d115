"""Generated cases and injected faults, with which a platform tests its client.

`clearinghouse serve --sandbox` adds these routes to a service with a temporary database and no real
cases. `examples/check_client.py` runs a client through them and reports its mistakes.
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
from clearinghouse.routes.dependencies import ServiceDep, problem_response
from nciihash.signals import ALWAYS_MATCHED, Media, SignalType, Variant
from nciihash.wire import CaseState, Declaration, ItemIn, Message, Reason, SignalIn

CASES_MAX: Final = 200
FILES_MAX: Final = 200
FAULTS_MAX: Final = 100
_DECLARED: Final = Declaration(adult=True, depicted=True)
FEEDS: Final = ("/v1/feed", "/stopncii/v1/FetchHashes")


class Fault(StrEnum):
    """A fault in the response to a request for a page of a feed.

    `cut`: the connection is closed in the middle of the body. `busy`: 503 with `Retry-After`.
    `expired`: 410 (`cursor_expired`), for a request with a cursor.
    """

    CUT = "cut"
    BUSY = "busy"
    EXPIRED = "expired"


class Burst(Message):
    """How many cases to open at once, and how many files each has."""

    cases: Annotated[int, Field(ge=1, le=CASES_MAX)] = 10
    files: Annotated[int, Field(ge=1, le=FILES_MAX)] = 5


class Retreat(Message):
    """How many cases to withdraw, the oldest first."""

    cases: Annotated[int, Field(ge=1, le=CASES_MAX)] = 5


class Trouble(Message):
    """The fault to inject, and into how many responses."""

    fault: Fault
    times: Annotated[int, Field(ge=1, le=FAULTS_MAX)] = 1


class Values(Message):
    """PDQ hashes as hexadecimal digits."""

    values: tuple[str, ...]


class Ready(Message):
    """The fault will occur."""

    state: Literal["arranged"] = "arranged"


class Rehearsal:
    """The generated cases that are open, and the faults to come. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: deque[tuple[int, tuple[str, ...]]] = deque()
        self._faults: deque[Fault] = deque()

    def add(self, case: int, values: tuple[str, ...]) -> None:
        """Add a case, by its row number, and its hashes."""
        with self._lock:
            self._open.append((case, values))

    def pop_oldest(self, count: int) -> list[tuple[int, tuple[str, ...]]]:
        """Remove and return up to `count` of the oldest cases."""
        with self._lock:
            return [self._open.popleft() for _ in range(min(count, len(self._open)))]

    def live(self) -> list[str]:
        """Return the hashes of all open cases, sorted."""
        with self._lock:
            return sorted(value for _, values in self._open for value in values)

    def plan(self, fault: Fault, times: int) -> None:
        """Inject a fault into the next responses."""
        with self._lock:
            self._faults.extend([fault] * times)

    def next_fault(self, *, first_page: bool) -> Fault | None:
        """Remove and return the fault for this response; a first page has no cursor to expire."""
        with self._lock:
            if not self._faults or (first_page and self._faults[0] is Fault.EXPIRED):
                return None
            return self._faults.popleft()


def get_rehearsal(request: Request) -> Rehearsal:
    """Return the state of the application's rehearsal."""
    found: Rehearsal = request.app.state.rehearsal
    return found


RehearsalDep = Annotated[Rehearsal, Depends(get_rehearsal)]

router = APIRouter(prefix="/sandbox", tags=["sandbox"])


@router.post("/burst", summary="Open cases", response_description="The hashes that were added.")
def burst(body: Burst, service: ServiceDep, rehearsal: RehearsalDep) -> Values:
    """Open generated cases in one transaction, and return their hashes."""
    now = service.clock()
    values = tuple(_random_pdq() for _ in range(body.cases * body.files))
    intake = prepare(
        service.store, service.lawful, [_item(value) for value in values], ALWAYS_MATCHED
    )
    with service.store.write() as tx:
        intake.screening.check(tx)
        for first in range(0, len(values), body.files):
            chosen = slice(first, first + body.files)
            lookup = secrets.token_bytes(32)  # of no case number
            lifecycle.open_case(
                tx, _DECLARED, Reason.PRECAUTION,
                replace(intake, files=intake.files[chosen]), lookup=lookup, number="",
                # the verifier matches no passphrase
                passphrase="", verifier="", months=service.settings.case_months, now=now,
            )  # fmt: skip
            row = tx.cases.find(lookup)
            assert row is not None  # noqa: S101 - inserted above
            rehearsal.add(row.id, values[chosen])
    service.waiters.poke()
    return Values(values=values)


def _random_pdq() -> str:
    """Return a random plausible PDQ hash, half of whose bits are set."""
    half = secrets.token_bytes(16)
    return (half + bytes(byte ^ 0xFF for byte in half)).hex()


def _item(value: str) -> ItemIn:
    signal = SignalIn(type=SignalType.PDQ, value=value, quality=100, variant=Variant.ORIGINAL)
    return ItemIn(media=Media.IMAGE, signals=(signal,))


@router.post(
    "/withdraw",
    summary="Withdraw the oldest cases",
    response_description="The hashes that were withdrawn.",
)
def withdraw(body: Retreat, service: ServiceDep, rehearsal: RehearsalDep) -> Values:
    """Withdraw the oldest generated cases, and return their hashes."""
    withdrawn: list[str] = []
    for case, values in rehearsal.pop_oldest(body.cases):
        with service.store.read() as tx:
            is_open = tx.cases.read(case).state == CaseState.OPEN
        if is_open:
            lifecycle.withdraw(service.store, partial(_find, case), None, now=service.clock)
        withdrawn += values
    service.waiters.poke()
    return Values(values=tuple(withdrawn))


def _find(case: int, _tx: Transaction) -> int:
    return case


@router.get(
    "/held",
    summary="List the live hashes",
    response_description="All live hashes, sorted.",
)
def held(rehearsal: RehearsalDep) -> Values:
    """Return the hashes that the bank of an up-to-date client contains, and no others."""
    return Values(values=tuple(rehearsal.live()))


@router.post("/fault", summary="Inject faults", response_description="The fault will occur.")
def fault(body: Trouble, rehearsal: RehearsalDep) -> Ready:
    """Inject a fault into the next responses of `/v1/feed` and `/stopncii/v1/FetchHashes`."""
    rehearsal.plan(body.fault, body.times)
    return Ready()


class FaultInjector:
    """ASGI middleware that injects planned faults into the responses of feeds."""

    def __init__(self, app: ASGIApp, *, rehearsal: Rehearsal) -> None:
        self._app = app
        self._rehearsal = rehearsal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        fault = None
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in FEEDS:
            first = b"cursor=" not in scope["query_string"]
            fault = self._rehearsal.next_fault(first_page=first)
        if fault is Fault.BUSY:
            await problem_response(Busy())(scope, receive, send)
        elif fault is Fault.EXPIRED:
            await problem_response(CursorExpired())(scope, receive, send)
        elif fault is Fault.CUT:
            await self._app(scope, receive, _cut(send))
        else:
            await self._app(scope, receive, send)


def _cut(send: Send) -> Send:
    """Send only the first half of the body; the server then closes the connection."""

    async def cut(event: Event) -> None:
        if event["type"] == "http.response.body":
            half = event["body"][: len(event["body"]) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        else:
            await send(event)

    return cut
