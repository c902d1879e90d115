"""The survivor's client: open a case, add files, read its status, withdraw."""

import base64
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias, TypeVar

from nciihash import wire
from nciihash.client.base import BaseClient, to_json
from nciihash.client.parts import send_rest, split
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
OnWork: TypeAlias = Callable[[int, int], object]

_CODE_MAX: Final = 40
_SIGN_IN: Final = "work_needed_to_sign_in"
# How often a proof of work is computed for one call, by the problem code that requires it.
_ROUNDS: Final = {"work_needed": 3, _SIGN_IN: 8}


def _no_progress(_solved: int, _puzzles: int) -> None:
    """Show no progress."""


class Client(BaseClient):
    """The client of a survivor, or of somebody who helps her.

    Args:
        server: the address, `https://HOST`; `http://` only for a service on this machine.
        retry: the retry policy after transient failures.
        http: an httpx transport to use instead of real connections.

    Raises:
        InvalidRequest: the address is invalid.
    """

    def open_case(
        self,
        items: Sequence[Item],
        *,
        reason: Reason,
        adult: bool,
        depicted: bool,
        idempotency_key: str | None = None,
        on_work: OnWork = _no_progress,
        on_sent: Callable[[wire.CaseOpened], object] = lambda _opened: None,
    ) -> wire.CaseOpened:
        """Open a case with the hashes of up to 200 files.

        What does not fit one request is added to the case by further ones. Under heavy load the
        service requires a proof of work, which is computed here.

        Args:
            items: the hashes of each file.
            reason: why the case is opened.
            adult: whether everybody in the pictures was 18 or older when they were taken.
            depicted: whether they show the person who opens the case.
            idempotency_key: the key of an earlier call whose outcome is unknown, to repeat it
                without opening a second case; a new key by default.
            on_work: called while a proof of work is computed, with the number of puzzles solved,
                from 0, and their total.
            on_sent: called after each request with the case and the receipts of the files sent so
                far.

        Returns:
            The case number, the passphrase (returned only this once) and a receipt for each file.

        Raises:
            InvalidRequest: no items, more than 200, or an item with more than 2,048 signals.
            PartlySent: the case is open, but a later request failed.
            ServiceError: if `uncertain`, the case may have been opened nevertheless.
        """
        if len(items) > wire.ITEMS_MAX:
            raise InvalidRequest(
                f"A case holds at most {wire.ITEMS_MAX} files, not {len(items)}. Open several "
                "cases."
            )
        first, rest = split(items)
        body = wire.OpenCase(
            declaration=wire.Declaration(adult=adult, depicted=depicted),
            reason=reason,
            items=first.items,
        )
        key = idempotency_key or new_idempotency_key()
        opened = self._call_with_work(
            Request("POST", "/v1/cases", body=to_json(body), idempotency_key=key),
            wire.CaseOpened,
            status=201,
            on_work=on_work,
            body=body,
        )
        authorization = _authorization(opened.case, opened.passphrase)
        return send_rest(
            opened,
            rest,
            key,
            partial(self._add, authorization, on_work),
            partial(self._append, authorization, on_work),
            on_sent,
        )

    def _call_with_work(
        self,
        request: Request,
        model: type[M],
        *,
        status: int,
        on_work: OnWork,
        body: wire.OpenCase | wire.AddItems | wire.AddSignals | None = None,
    ) -> M:
        """Send a request, and again with a proof of work if the service requires one.

        Args:
            request: the request.
            model: the Pydantic model of the response body.
            status: the expected HTTP status.
            on_work: as in `open_case`.
            body: the body of the request as a message, so that a proof of work can be added to it.
        """
        uncertain = False
        rounds = dict(_ROUNDS)
        while True:
            try:
                return self._call(request, model, status=status)
            except ServiceError as error:
                uncertain = error.uncertain = error.uncertain or uncertain
                # the service may require more work than it did a moment ago
                if not isinstance(error, ServiceRefused) or not rounds.get(error.problem):
                    raise
                rounds[error.problem] -= 1
                work = self._proof(self._required_work(error), on_work)
                # a proof in the header was spent on the request that has just been refused
                header = to_header(work) if work and error.problem == _SIGN_IN else None
                request = replace(request, work=header)
                if error.problem != _SIGN_IN and body is not None:
                    request = replace(request, body=to_json(body.model_copy(update={"work": work})))

    def _required_work(self, refused: ServiceRefused) -> WorkAsked:
        """Return the work that a refusal requires; older services do not include it."""
        if refused.work is None:
            return self._call(Request("GET", "/v1/work"), WorkAsked, status=200)
        return WorkAsked.model_validate(refused.work)

    def _proof(self, required: WorkAsked, on_work: OnWork) -> Work | None:
        """Compute a proof of work; None if none is required any more."""
        if required.challenge is None:
            return None
        puzzles = required.puzzles
        if not (1 <= puzzles <= PUZZLES_MAX and 0 <= required.difficulty <= DIFFICULTY_MAX):
            raise ProtocolError(
                "The clearinghouse requires more computing than this version is willing to do. "
                "Update this program, or ask the operator of the clearinghouse."
            )
        count = itertools.count(1)
        on_work(0, puzzles)
        nonces = solve(
            required.challenge,
            required.difficulty,
            puzzles,
            solved=lambda: on_work(next(count), puzzles),
        )
        return Work(challenge=required.challenge, nonces=nonces)

    def add(
        self, case: str, passphrase: str, items: Sequence[Item], *, on_work: OnWork = _no_progress
    ) -> wire.ItemsAdded:
        """Add files to an open case, in as many requests as they need.

        Args:
            case: the case number.
            passphrase: its passphrase.
            items: the hashes of each file.
            on_work: as in `open_case`.

        Raises:
            InvalidRequest: as for `open_case`.
            PartlySent: files were added, but a later request failed.
            ServiceError: the credentials are wrong, the case is closed, or there is no response.
        """
        authorization, key = _authorization(case, passphrase), new_idempotency_key()
        first, rest = split(items)
        added = self._add(authorization, on_work, first.items, key)
        return send_rest(
            added,
            rest,
            key,
            partial(self._add, authorization, on_work),
            partial(self._append, authorization, on_work),
            lambda _added: None,
        )

    def _add(
        self, authorization: str, on_work: OnWork, items: tuple[wire.ItemIn, ...], key: str
    ) -> wire.ItemsAdded:
        body = wire.AddItems(items=items)
        return self._call_with_work(
            Request("POST", "/v1/case/items", authorization, to_json(body), idempotency_key=key),
            wire.ItemsAdded,
            status=201,
            on_work=on_work,
            body=body,
        )

    def _append(
        self, authorization: str, on_work: OnWork, item: int, signals: wire.AddSignals, key: str
    ) -> wire.SignalsAdded:
        path = f"/v1/case/items/{item}/signals"
        return self._call_with_work(
            Request("POST", path, authorization, to_json(signals), idempotency_key=key),
            wire.SignalsAdded,
            status=201,
            on_work=on_work,
            body=signals,
        )

    def claim(self, code: str, *, idempotency_key: str | None = None) -> wire.CaseOpened:
        """Take over a case that an advocate opened, with the code from her.

        Args:
            code: the code, as the advocate wrote it.
            idempotency_key: the key of an earlier call whose outcome is unknown; a new one by
                default.

        Returns:
            The case number, the passphrase (returned only this once) and its files.

        Raises:
            InvalidRequest: the code is empty or too long.
            ServiceError: the code is unknown, used or expired, or there is no response.
        """
        if not 0 < len(code.strip()) <= _CODE_MAX:
            raise InvalidRequest(
                "A code has twelve letters and digits. Type it exactly as you received it."
            )
        key = idempotency_key or new_idempotency_key()
        body = to_json(Claim(code=code.strip()))
        request = Request("POST", "/v1/claim", body=body, idempotency_key=key)
        return self._call(request, wire.CaseOpened, status=200)

    def status(
        self, case: str, passphrase: str, *, on_work: OnWork = _no_progress
    ) -> wire.CaseStatus:
        """Return what each platform did about each file. This renews the case.

        Raises:
            ServiceError: the credentials are wrong, or there is no response.
        """
        request = Request("GET", "/v1/case", _authorization(case, passphrase))
        return self._call_with_work(request, wire.CaseStatus, status=200, on_work=on_work)

    def withdraw(
        self,
        case: str,
        passphrase: str,
        item: int | None = None,
        *,
        on_work: OnWork = _no_progress,
    ) -> wire.Withdrawal:
        """Withdraw one file by its number, or the whole case with all of its files.

        Repeating it is safe.

        Raises:
            InvalidRequest: the number is less than 1.
            ServiceError: the credentials are wrong, there is no such file, or there is no response.
        """
        if item is not None and item < 1:
            raise InvalidRequest("The files of a case are numbered from 1.")
        path = "/v1/case" if item is None else f"/v1/case/items/{item}"
        request = Request("DELETE", path, _authorization(case, passphrase))
        return self._call_with_work(request, wire.Withdrawal, status=200, on_work=on_work)


def _authorization(case: str, passphrase: str) -> str:
    """Return the value of the `Authorization` header: `Case base64(case:passphrase)`.

    Raises:
        InvalidRequest: one of them is empty, the number has a colon, or they are not text.
    """
    case = case.strip()
    if not case or ":" in case or not passphrase.strip():
        raise InvalidRequest(
            "The case number or the passphrase is missing or malformed. Enter both exactly as they "
            "were shown when the case was opened."
        )
    try:
        pair = f"{case}:{passphrase.strip()}".encode()
    except UnicodeEncodeError:  # lone surrogates: bytes that were not text where they came from
        raise InvalidRequest(
            "The case number or the passphrase contains bytes that are not text. Type it again."
        ) from None
    return f"{wire.CASE_SCHEME} {base64.b64encode(pair).decode()}"
