"""The survivor's door: no account, a case number and a passphrase."""

import base64
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Response
from fastapi.security import APIKeyHeader
from starlette.concurrency import run_in_threadpool

from clearinghouse.abuse.proof_of_work import spend
from clearinghouse.cases import advocates, lifecycle
from clearinghouse.cases.idempotency import Attempt, Reply, about, earlier, once
from clearinghouse.cases.passphrases import mint_number, mint_passphrase, read_number
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import CredentialsMissing, CredentialsWrong
from clearinghouse.routes.dependencies import Repeatable, Serving, answer, documented, parsed
from nciihash.wire import (
    CASE_SCHEME,
    AddItems,
    CaseOpened,
    CaseStatus,
    ItemsAdded,
    OpenCase,
    Problem,
    Withdrawal,
)
from nciihash.wire.advocates import Claim
from nciihash.wire.proof_of_work import WorkAsked

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem},
    401: {"model": Problem},
    408: {"model": Problem},
    413: {"model": Problem},
    415: {"model": Problem},
    422: {"model": Problem},
    503: {"model": Problem},
    429: {"model": Problem},
}

router = APIRouter(prefix="/v1", tags=["survivors"], responses=_PROBLEMS)


_header = APIKeyHeader(
    name="Authorization",
    scheme_name="Case",
    description=f"`{CASE_SCHEME} ` and base64(number:passphrase).",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who knows a case's number and passphrase."""

    case: int


async def admit(
    serving: Serving,
    authorization: Annotated[str | None, Depends(_header)],
) -> Holder:
    """Check number and passphrase; an unknown case costs as much as a wrong passphrase."""
    number, passphrase = _credentials(authorization)
    lookup = lifecycle.case_lookup(serving.store, number)

    def find() -> tuple[int, str] | None:
        with serving.store.read() as tx:
            row = tx.cases.find(lookup)
            return None if row is None else (row.id, row.verifier)

    found = await run_in_threadpool(find)
    passed = await serving.checks.passes(lookup, found[1] if found else None, passphrase)
    if not passed or found is None:
        raise CredentialsWrong
    return Holder(found[0])


def _credentials(header: str | None) -> tuple[str, str]:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != CASE_SCHEME.lower():
        raise CredentialsMissing
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:  # no base64, or no UTF-8 in it
        raise CredentialsMissing from None
    number, colon, passphrase = text.partition(":")
    written = read_number(number)
    if not colon or len(passphrase) > 500:
        raise CredentialsMissing
    # A number that cannot be one is looked for all the same, and takes as long.
    return written or number[:64], passphrase


Admitted = Annotated[Holder, Depends(admit)]


@router.get("/work")
async def ask_for_work(serving: Serving) -> WorkAsked:
    """Ask what opening a case takes: nothing while it is quiet, else puzzles to solve."""
    return serving.gate.challenge(serving.clock())


@router.post(
    "/cases",
    status_code=201,
    response_model=CaseOpened,
    responses={428: {"model": Problem}},
    openapi_extra=documented(OpenCase),
)
async def open_case(
    body: Annotated[OpenCase, Depends(parsed(OpenCase))], serving: Serving, repeat: Repeatable
) -> Response:
    """Open a case with the hashes of its first files.

    The passphrase is in this answer and nowhere else.
    """
    now = serving.clock()
    repeat, known = await run_in_threadpool(_repeated, serving, repeat, body)
    if known is not None:
        return answer(known)
    mark = serving.gate.check(body.work, now)
    serving.gate.count(now)
    number, passphrase = mint_number(), mint_passphrase()
    verifier = await serving.checks.make(passphrase)

    def act(tx: Transaction) -> Reply:
        spend(tx, mark, now)
        opened = lifecycle.open_case(
            serving.store,
            serving.lawful,
            tx,
            body,
            number=number,
            passphrase=passphrase,
            verifier=verifier,
            months=serving.settings.case_months,
            matched=serving.settings.matched,
            now=now,
        )
        return Reply.of(201, opened)

    reply = await run_in_threadpool(once, serving.store, repeat, now, act)
    serving.waiters.poke()
    return answer(reply)


@router.post("/claim", response_model=CaseOpened, responses={404: {"model": Problem}})
async def claim(body: Claim, serving: Serving, repeat: Repeatable) -> Response:
    """Take over a case that an advocate opened for you, by the code that she gave you.

    Number and passphrase are in this answer and nowhere else, and the advocate's access ends.
    """
    now = serving.clock()

    def look() -> Reply | None:
        if repeat is not None and (known := earlier(serving.store, repeat)) is not None:
            return known
        with serving.store.read() as tx:
            advocates.claimable(serving.store, tx, body.code, now=now)
        return None

    if (known := await run_in_threadpool(look)) is not None:
        return answer(known)
    number, passphrase = mint_number(), mint_passphrase()
    verifier = await serving.checks.make(passphrase)

    def act(tx: Transaction) -> Reply:
        claimed = advocates.claim(
            serving.store,
            tx,
            body.code,
            number=number,
            passphrase=passphrase,
            verifier=verifier,
            months=serving.settings.case_months,
            now=now,
        )
        return Reply.of(200, claimed)

    return answer(await run_in_threadpool(once, serving.store, repeat, now, act))


def _repeated(
    serving: Serving, repeat: Attempt | None, body: OpenCase
) -> tuple[Attempt | None, Reply | None]:
    """Look for an answer given before; the request may come again with another proof of work."""
    if repeat is None:
        return None, None
    bare = body.model_copy(update={"work": None}).model_dump_json().encode()
    repeat = about(serving.store, repeat, bare)
    return repeat, earlier(serving.store, repeat)


@router.get("/case")
def read_case(holder: Admitted, serving: Serving) -> CaseStatus:
    """Tell what each platform did about each file. Looking renews the case."""
    return lifecycle.visit(
        serving.store,
        lambda _tx: holder.case,
        months=serving.settings.case_months,
        now=serving.clock(),
    )


@router.post(
    "/case/items",
    status_code=201,
    response_model=ItemsAdded,
    responses={409: {"model": Problem}},
    openapi_extra=documented(AddItems),
)
def add_items(
    holder: Admitted,  # first, so that nothing is read for a stranger
    body: Annotated[AddItems, Depends(parsed(AddItems))],
    serving: Serving,
    repeat: Repeatable,
) -> Response:
    """Add files to an open case."""
    now = serving.clock()

    def act(tx: Transaction) -> Reply:
        added = lifecycle.add_items(
            serving.store,
            serving.lawful,
            tx,
            holder.case,
            body.items,
            months=serving.settings.case_months,
            matched=serving.settings.matched,
            now=now,
        )
        return Reply.of(201, added)

    reply = once(serving.store, repeat, now, act)
    serving.waiters.poke()
    return answer(reply)


@router.delete("/case/items/{item}", responses={404: {"model": Problem}})
def withdraw_item(
    item: Annotated[int, Path(ge=1, le=2**31 - 1)], holder: Admitted, serving: Serving
) -> Withdrawal:
    """Withdraw one file. From now on nothing matches it here, and every platform is told."""
    with serving.store.write() as tx:
        withdrawal = lifecycle.withdraw(tx, holder.case, item, now=serving.clock())
    serving.waiters.poke()
    return withdrawal


@router.delete("/case")
def withdraw_case(holder: Admitted, serving: Serving) -> Withdrawal:
    """Withdraw all files and close the case. Repeating it is safe."""
    with serving.store.write() as tx:
        withdrawal = lifecycle.withdraw(tx, holder.case, None, now=serving.clock())
    serving.waiters.poke()
    return withdrawal
