"""Speak to a clearinghouse: `Client` for a survivor, `PlatformClient` for a platform.

Two doors with nothing in common but the way requests travel (`nciihash.transport`). Both are
context managers; both raise only subclasses of `nciihash.errors.ServiceError`, whose messages hold
no passphrase, key or hash.
"""

import base64
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import ValidationError

from nciihash import wire
from nciihash.advocacy import Claim
from nciihash.door import Door, KeyedDoor, encoded, wire_items
from nciihash.errors import InvalidRequest, ProtocolError, ServiceRefused
from nciihash.feed import FeedPage
from nciihash.signals import Item, Signal, SignalType, Verdict
from nciihash.transport import Outgoing, new_idempotency_key
from nciihash.veil import Veil
from nciihash.veiling import VeilReply
from nciihash.wire import Hit, Message, Reason
from nciihash.work import DIFFICULTY_MAX, PUZZLES, Work, WorkAsked, solve

_ID: Final = re.compile(r"[0-9a-f]{32}")

_CODE_MAX: Final = 40
_WORK_NEEDED: Final = "work_needed"
_WORK_ATTEMPTS: Final = 4  # openings refused before it is given up

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class Client(Door):
    """What a survivor, or somebody beside her, asks of a clearinghouse.

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        patience: how often and how long to try again after a passing fault.
        http: what carries the requests, instead of real connections.

    Raises:
        InvalidRequest: the address cannot be right.
    """

    def open_case(
        self,
        items: Sequence[Item],
        *,
        reason: Reason,
        adult: bool,
        depicted: bool,
        idempotency_key: str | None = None,
        working: Callable[[int, int], object] = lambda _done, _all: None,
    ) -> wire.CaseOpened:
        """Open a case with the hashes of up to 200 files.

        While many cases are being opened, the service asks for some computing, which is done here.

        Args:
            items: the files' hashes.
            reason: why.
            adult: whether everybody in the pictures was over 18 when they were taken.
            depicted: whether they show the person who opens the case.
            idempotency_key: that of an earlier call whose outcome is unknown, to repeat it without
                opening a second case; a new one by default.
            working: called during that computing with the number of puzzles solved, from 0, and
                their number in all.

        Returns:
            The case number, the passphrase (given this once) and what became of each file.

        Raises:
            InvalidRequest: no items, more than 200, or more signals than an item may have.
            ServiceError: `uncertain` says whether the case may have been opened all the same.
        """
        opening = wire.OpenCase(
            declaration=wire.Declaration(adult=adult, depicted=depicted),
            reason=reason,
            items=wire_items(items),
        )
        key = idempotency_key or new_idempotency_key()
        for attempt in range(1, _WORK_ATTEMPTS + 1):
            request = Outgoing("POST", "/v1/cases", body=encoded(opening), idempotency_key=key)
            try:
                return self._transport.call(request, status=201, reply=wire.CaseOpened)
            except ServiceRefused as error:
                # more may be asked than a moment ago
                if error.problem != _WORK_NEEDED or attempt == _WORK_ATTEMPTS:
                    raise
            opening = opening.model_copy(update={"work": self._work(working)})
        raise AssertionError("the last attempt returns or raises")

    def _work(self, working: Callable[[int, int], object]) -> Work | None:
        """Ask what opening a case takes, and do it."""
        asked = self._transport.call(Outgoing("GET", "/v1/work"), status=200, reply=WorkAsked)
        if asked.challenge is None:
            return None
        if asked.puzzles != PUZZLES or not 0 <= asked.difficulty <= DIFFICULTY_MAX:
            raise ProtocolError(
                "The clearinghouse asks for more computing than this version does. Bring this "
                "program up to date, or ask the operator."
            )
        done = itertools.count(1)
        working(0, PUZZLES)
        nonces = solve(
            asked.challenge, asked.difficulty, solved=lambda: working(next(done), PUZZLES)
        )
        return Work(challenge=asked.challenge, nonces=nonces)

    def add(self, case: str, passphrase: str, items: Sequence[Item]) -> wire.ItemsAdded:
        """Add files to an open case.

        Raises:
            InvalidRequest: as `open_case`.
            ServiceError: wrong credentials, a closed case, or no answer.
        """
        body = encoded(wire.AddItems(items=wire_items(items)))
        return self._transport.call(
            Outgoing(
                "POST",
                "/v1/case/items",
                _credentials(case, passphrase),
                body,
                idempotency_key=new_idempotency_key(),
            ),
            status=201,
            reply=wire.ItemsAdded,
        )

    def claim(self, code: str, *, idempotency_key: str | None = None) -> wire.CaseOpened:
        """Take over a case that an advocate opened for you, by the code that she gave you.

        Returns:
            The case number and the passphrase (given this once), and the files in it.

        Raises:
            InvalidRequest: it cannot be such a code.
            ServiceError: the code is unknown, was used or has run out, or there is no answer.
        """
        if not 0 < len(code.strip()) <= _CODE_MAX:
            raise InvalidRequest("The code has twelve letters and digits: type it as you got it.")
        key = idempotency_key or new_idempotency_key()
        body = encoded(Claim(code=code.strip()))
        request = Outgoing("POST", "/v1/claim", body=body, idempotency_key=key)
        return self._transport.call(request, status=200, reply=wire.CaseOpened)

    def status(self, case: str, passphrase: str) -> wire.CaseStatus:
        """Ask what each platform did about each file. Asking renews the case.

        Raises:
            ServiceError: wrong credentials, or no answer.
        """
        request = Outgoing("GET", "/v1/case", _credentials(case, passphrase))
        return self._transport.call(request, status=200, reply=wire.CaseStatus)

    def withdraw(self, case: str, passphrase: str, item: int | None = None) -> wire.Withdrawal:
        """Withdraw one file by its number, or all of them and with them the case.

        Repeating it is safe.

        Raises:
            ServiceError: wrong credentials, no such file, or no answer.
        """
        if item is not None and item < 1:
            raise InvalidRequest("The files of a case are numbered from 1.")
        path = "/v1/case" if item is None else f"/v1/case/items/{item}"
        request = Outgoing("DELETE", path, _credentials(case, passphrase))
        return self._transport.call(request, status=200, reply=wire.Withdrawal)


class PlatformClient(KeyedDoor):
    """What a platform asks of a clearinghouse.

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        key: the platform's key.
        patience: how often and how long to try again after a passing fault.
        http: what carries the requests, instead of real connections.

    Raises:
        InvalidRequest: the address or the key cannot be right.
    """

    def veil(self) -> Veil:
        """Ask how the veiled list of this platform is made.

        Raises:
            ServiceError: a wrong key, or no answer.
        """
        return self._call(Outgoing("GET", "/v1/veil", self._bearer), VeilReply).veil

    def feed(
        self,
        cursor: str | None = None,
        *,
        limit: int = 1_000,
        wait: float = 0.0,
        veil: bool = False,
    ) -> FeedPage:
        """Read the next page of the feed.

        Args:
            cursor: that of the last page; None for the beginning.
            limit: entries in the page, at most 10,000.
            wait: seconds, at most 30, that the service may wait when nothing is new.
            veil: only a part of each hash, although the key opens the whole feed.

        Raises:
            CursorExpired: fetch the feed from its beginning into a new bank.
            ProtocolError: the page promises more and leads nowhere, or is not a page.
            ServiceError: a wrong key, or no answer.
        """
        if not 1 <= limit <= wire.PAGE_MAX or not 0 <= wait <= wire.WAIT_MAX:
            raise InvalidRequest(
                f"A page has 1 to {wire.PAGE_MAX} entries, and a request waits 0 to "
                f"{wire.WAIT_MAX:.0f} seconds."
            )
        params = {"limit": str(limit), "wait": f"{wait:.3f}"}
        if cursor is not None:
            params["cursor"] = cursor
        if veil:
            params["veil"] = "true"
        request = Outgoing("GET", "/v1/feed", self._bearer, params=params, wait=wait)
        page = self._call(request, wire.FeedReply).page
        if page.more and page.cursor == cursor:
            raise ProtocolError(
                "The feed says that there is more, and leads back to the same place. Ask the "
                "operator of the clearinghouse."
            )
        return page

    def acknowledge(self, cursor: str) -> None:
        """Confirm that all up to `cursor` is on disk and in what is matched against.

        Call it only when that is so, removals included: survivors are told.

        Raises:
            CursorExpired: the cursor is of another epoch of the log.
            ServiceError: a wrong key, or no answer.
        """
        self._post("/v1/feed/ack", _checked_cursor(cursor), wire.Acknowledgement)

    def match(self, signals: Sequence[Signal]) -> list[tuple[Hit, ...]]:
        """Look for hashes, of any types and any number, in the service's bank.

        They are sent in requests of up to 10,000 hashes of one type. A repeated request may be
        counted twice among the matches that a survivor sees.

        Returns:
            The hits of each signal, in the order of `signals`.

        Raises:
            ServiceError: a wrong key, an answer for another number of hashes, or no answer.
        """
        found: list[tuple[Hit, ...]] = [()] * len(signals)
        for type in SignalType:
            places = [i for i, signal in enumerate(signals) if signal.type is type]
            for batch in _batches(places, wire.QUERIES_MAX):
                hits = self._match(type, [signals[i].value for i in batch])
                for place, hit in zip(batch, hits, strict=True):
                    found[place] = hit
        return found

    def _match(self, type: SignalType, values: Sequence[bytes]) -> tuple[tuple[Hit, ...], ...]:
        if type is SignalType.PDQ:
            body, content_type = b"".join(values), wire.OCTETS
            assert len(body) == len(values) * wire.PDQ_BYTES  # noqa: S101 - Signal checks its length
        else:
            query = wire.MatchQuery(type=type, values=tuple(value.hex() for value in values))
            body, content_type = encoded(query), "application/json"
        request = Outgoing("POST", "/v1/match", self._bearer, body, content_type)
        reply = self._call(request, wire.MatchReply)
        if len(reply.matches) != len(values):
            raise ProtocolError(
                f"{len(values)} hashes were looked for, and {len(reply.matches)} were answered. "
                "Ask the operator of the clearinghouse."
            )
        return reply.matches

    def feedback(self, verdicts: Mapping[str, Verdict]) -> wire.FeedbackTaken:
        """Say what was decided about matches; a later verdict on an id replaces the earlier.

        Args:
            verdicts: by the ids that the feed or `match` gave.

        Returns:
            How many were recorded, and how many ids this platform was never given.

        Raises:
            InvalidRequest: something is not an id.
            ServiceError: a wrong key, or no answer.
        """
        if not all(_ID.fullmatch(id) for id in verdicts):
            raise InvalidRequest("An id has 32 hexadecimal digits, as the matches show it.")
        recorded = unknown = 0
        for batch in _batches(list(verdicts.items()), wire.VERDICTS_MAX):
            body = wire.Feedback(
                verdicts=tuple(wire.VerdictIn(id=id, verdict=v) for id, v in batch)
            )
            taken = self._post("/v1/feedback", body, wire.FeedbackTaken)
            recorded += taken.recorded
            unknown += taken.unknown
        return wire.FeedbackTaken(recorded=recorded, unknown=unknown)

    def _post(self, path: str, body: Message, reply: type[M]) -> M:
        request = Outgoing(
            "POST",
            path,
            self._bearer,
            encoded(body),
            idempotency_key=new_idempotency_key(),
        )
        return self._call(request, reply)


def _credentials(case: str, passphrase: str) -> str:
    case = case.strip()
    if not case or ":" in case or not passphrase.strip():
        raise InvalidRequest("Give the case number and the passphrase as they were handed out.")
    try:
        pair = f"{case}:{passphrase.strip()}".encode()
    except UnicodeEncodeError:  # bytes that were no text where they came from
        raise InvalidRequest(
            "The case number or the passphrase holds what is no text: type it again as it was "
            "handed out."
        ) from None
    return f"{wire.CASE_SCHEME} {base64.b64encode(pair).decode()}"


def _checked_cursor(cursor: str) -> wire.Acknowledgement:
    try:
        return wire.Acknowledgement(cursor=cursor)
    except ValidationError:
        raise InvalidRequest("A cursor is what a page of the feed ended with, unchanged.") from None


def _batches(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
