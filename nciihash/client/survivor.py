"""The client of a survivor: open a case, add to it, see its status, withdraw."""

import base64
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias, TypeVar

from nciihash import wire
from nciihash.client.base import BaseClient, encoded
from nciihash.client.parts import divide, send_rest
from nciihash.client.sans_io import Request, new_idempotency_key
from nciihash.errors import InvalidRequest, ProtocolError, ServiceError, ServiceRefused
from nciihash.signals import Item
from nciihash.wire import Reason
from nciihash.wire.advocates import Claim
from nciihash.wire.proof_of_work import (
    DIFFICULTY_MAX,
    PUZZLES_MAX,
    Work,
    WorkAsked,
    solve,
    to_header,
)

M = TypeVar("M", bound=wire.Message)
Working: TypeAlias = Callable[[int, int], object]

_CODE_MAX: Final = 40
# How often work is done before it is given up, by the code of the answer that asks for it.
_ROUNDS: Final = {"work_needed": 3, "work_needed_to_sign_in": 8}
_SIGN_IN: Final = "work_needed_to_sign_in"


def _silent(_done: int, _all: int) -> None:
    """Show no progress."""


class Client(BaseClient):
    """What a survivor, or somebody beside her, asks of a clearinghouse.

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        retry: how often and how long to try again after a passing fault.
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
        working: Working = _silent,
        sent: Callable[[wire.CaseOpened], object] = lambda _opened: None,
    ) -> wire.CaseOpened:
        """Open a case with the hashes of up to 200 files.

        What is too much for one request is added to the case in further ones. While much is being
        sent, the service asks for some computing, which is done here.

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
        opened = self._ask(
            Request("POST", "/v1/cases", body=encoded(opening), idempotency_key=key),
            wire.CaseOpened,
            status=201,
            working=working,
            body=opening,
        )
        secret = _credentials(opened.case, opened.passphrase)
        return send_rest(
            opened,
            rest,
            key,
            partial(self._add, secret, working),
            partial(self._append, secret, working),
            sent,
        )

    def _ask(
        self,
        request: Request,
        reply: type[M],
        *,
        status: int,
        working: Working,
        body: wire.OpenCase | wire.AddItems | wire.AddSignals | None = None,
    ) -> M:
        """Send a request, again with as much work as the service asks for.

        Args:
            request: what to send.
            reply: the form of the answer's body.
            status: the HTTP status of the answer that is expected.
            working: as `open_case` takes it.
            body: what the request holds, to send it with a proof of work in it.
        """
        uncertain = False
        rounds = dict(_ROUNDS)
        while True:
            try:
                return self._call(request, reply, status=status)
            except ServiceError as error:
                # more may be asked than a moment ago
                uncertain = error.uncertain = error.uncertain or uncertain
                if not isinstance(error, ServiceRefused) or not rounds.get(error.problem):
                    raise
                rounds[error.problem] -= 1
                work = self._solved(self._asked(error), working)
                # the proof in the header was spent on this answer
                header = to_header(work) if work and error.problem == _SIGN_IN else None
                request = replace(request, work=header)
                if error.problem != _SIGN_IN and body is not None:
                    request = replace(request, body=encoded(body.model_copy(update={"work": work})))

    def _asked(self, refused: ServiceRefused) -> WorkAsked:
        """Read what an answer asks for; an older service does not say."""
        if refused.work is None:
            return self._call(Request("GET", "/v1/work"), WorkAsked, status=200)
        return WorkAsked.model_validate(refused.work)

    def _solved(self, asked: WorkAsked, working: Working) -> Work | None:
        """Do the work that is asked for."""
        if asked.challenge is None:
            return None
        puzzles = asked.puzzles
        if not (1 <= puzzles <= PUZZLES_MAX and 0 <= asked.difficulty <= DIFFICULTY_MAX):
            raise ProtocolError(
                "The clearinghouse asks for more computing than this version does. Bring this "
                "program up to date, or ask the operator."
            )
        done = itertools.count(1)
        working(0, puzzles)
        nonces = solve(
            asked.challenge,
            asked.difficulty,
            puzzles,
            solved=lambda: working(next(done), puzzles),
        )
        return Work(challenge=asked.challenge, nonces=nonces)

    def add(
        self, case: str, passphrase: str, items: Sequence[Item], *, working: Working = _silent
    ) -> wire.ItemsAdded:
        """Add files to an open case.

        What is too much for one request is sent in several.

        Raises:
            InvalidRequest: as `open_case`.
            PartlySent: files were added, and a later request failed.
            ServiceError: wrong credentials, a closed case, or no answer.
        """
        secret, key = _credentials(case, passphrase), new_idempotency_key()
        first, rest = divide(items)
        added = self._add(secret, working, first.items, key)
        return send_rest(
            added,
            rest,
            key,
            partial(self._add, secret, working),
            partial(self._append, secret, working),
            lambda _added: None,
        )

    def _add(
        self, secret: str, working: Working, items: tuple[wire.ItemIn, ...], key: str
    ) -> wire.ItemsAdded:
        body = wire.AddItems(items=items)
        return self._ask(
            Request("POST", "/v1/case/items", secret, encoded(body), idempotency_key=key),
            wire.ItemsAdded,
            status=201,
            working=working,
            body=body,
        )

    def _append(
        self, secret: str, working: Working, item: int, signals: wire.AddSignals, key: str
    ) -> wire.SignalsAdded:
        path = f"/v1/case/items/{item}/signals"
        return self._ask(
            Request("POST", path, secret, encoded(signals), idempotency_key=key),
            wire.SignalsAdded,
            status=201,
            working=working,
            body=signals,
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
        request = Request("POST", "/v1/claim", body=body, idempotency_key=key)
        return self._call(request, wire.CaseOpened, status=200)

    def status(self, case: str, passphrase: str, *, working: Working = _silent) -> wire.CaseStatus:
        """Ask what each platform did about each file. Asking renews the case.

        Raises:
            ServiceError: wrong credentials, or no answer.
        """
        request = Request("GET", "/v1/case", _credentials(case, passphrase))
        return self._ask(request, wire.CaseStatus, status=200, working=working)

    def withdraw(
        self, case: str, passphrase: str, item: int | None = None, *, working: Working = _silent
    ) -> wire.Withdrawal:
        """Withdraw one file by its number, or all of them and with them the case.

        Repeating it is safe.

        Raises:
            ServiceError: wrong credentials, no such file, or no answer.
        """
        if item is not None and item < 1:
            raise InvalidRequest("The files of a case are numbered from 1.")
        path = "/v1/case" if item is None else f"/v1/case/items/{item}"
        request = Request("DELETE", path, _credentials(case, passphrase))
        return self._ask(request, wire.Withdrawal, status=200, working=working)


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
