"""The client of a survivor: open a case, add to it, see its status, withdraw."""

import base64
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from nciihash import wire
from nciihash.client.base import Door, encoded
from nciihash.client.parts import divide, send_rest
from nciihash.client.sans_io import Outgoing, new_idempotency_key
from nciihash.errors import InvalidRequest, ProtocolError, ServiceRefused
from nciihash.signals import Item
from nciihash.wire import Reason
from nciihash.wire.advocates import Claim
from nciihash.wire.proof_of_work import DIFFICULTY_MAX, PUZZLES, Work, WorkAsked, solve

_CODE_MAX: Final = 40
_WORK_NEEDED: Final = "work_needed"
_WORK_ATTEMPTS: Final = 4  # openings refused before it is given up


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
        sent: Callable[[wire.CaseOpened], object] = lambda _opened: None,
    ) -> wire.CaseOpened:
        """Open a case with the hashes of up to 200 files.

        What is too much for one request is added to the case in further ones. While many cases are
        being opened, the service asks for some computing, which is done here.

        Args:
            items: the files' hashes.
            reason: why.
            adult: whether everybody in the pictures was over 18 when they were taken.
            depicted: whether they show the person who opens the case.
            idempotency_key: that of an earlier call whose outcome is unknown, to repeat it without
                opening a second case; a new one by default.
            working: called during that computing with the number of puzzles solved, from 0, and
                their number in all.
            sent: called after each request with the case and the files known to be in it.

        Returns:
            The case number, the passphrase (given this once) and what became of each file.

        Raises:
            InvalidRequest: no items, more than 200, or more signals than an item may have.
            PartlySent: the case is open, and a later request failed.
            ServiceError: `uncertain` says whether the case may have been opened all the same.
        """
        if len(items) > wire.ITEMS_MAX:
            raise InvalidRequest(f"A case holds {wire.ITEMS_MAX} files, not {len(items)}.")
        first, rest = divide(items)
        opening = wire.OpenCase(
            declaration=wire.Declaration(adult=adult, depicted=depicted),
            reason=reason,
            items=first.items,
        )
        key = idempotency_key or new_idempotency_key()
        opened = self._open(opening, key, working)
        secret = _credentials(opened.case, opened.passphrase)
        return send_rest(
            opened, rest, key, partial(self._add, secret), partial(self._append, secret), sent
        )

    def _open(
        self, opening: wire.OpenCase, key: str, working: Callable[[int, int], object]
    ) -> wire.CaseOpened:
        """Open a case with one request, doing the computing that the service asks for."""
        for attempt in range(1, _WORK_ATTEMPTS + 1):
            request = Outgoing("POST", "/v1/cases", body=encoded(opening), idempotency_key=key)
            try:
                return self._call(request, wire.CaseOpened, status=201)
            except ServiceRefused as error:
                # more may be asked than a moment ago
                if error.problem != _WORK_NEEDED or attempt == _WORK_ATTEMPTS:
                    raise
            opening = opening.model_copy(update={"work": self._work(working)})
        raise AssertionError("the last attempt returns or raises")

    def _work(self, working: Callable[[int, int], object]) -> Work | None:
        """Ask what opening a case takes, and do it."""
        asked = self._call(Outgoing("GET", "/v1/work"), WorkAsked, status=200)
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

        What is too much for one request is sent in several.

        Raises:
            InvalidRequest: as `open_case`.
            PartlySent: files were added, and a later request failed.
            ServiceError: wrong credentials, a closed case, or no answer.
        """
        secret, key = _credentials(case, passphrase), new_idempotency_key()
        first, rest = divide(items)
        added = self._add(secret, first.items, key)
        return send_rest(
            added,
            rest,
            key,
            partial(self._add, secret),
            partial(self._append, secret),
            lambda _added: None,
        )

    def _add(self, secret: str, items: tuple[wire.ItemIn, ...], key: str) -> wire.ItemsAdded:
        body = encoded(wire.AddItems(items=items))
        request = Outgoing("POST", "/v1/case/items", secret, body, idempotency_key=key)
        return self._call(request, wire.ItemsAdded, status=201)

    def _append(
        self, secret: str, item: int, signals: wire.AddSignals, key: str
    ) -> wire.SignalsAdded:
        path, body = f"/v1/case/items/{item}/signals", encoded(signals)
        request = Outgoing("POST", path, secret, body, idempotency_key=key)
        return self._call(request, wire.SignalsAdded, status=201)

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
        return self._call(request, wire.CaseOpened, status=200)

    def status(self, case: str, passphrase: str) -> wire.CaseStatus:
        """Ask what each platform did about each file. Asking renews the case.

        Raises:
            ServiceError: wrong credentials, or no answer.
        """
        request = Outgoing("GET", "/v1/case", _credentials(case, passphrase))
        return self._call(request, wire.CaseStatus, status=200)

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
        return self._call(request, wire.Withdrawal, status=200)


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
