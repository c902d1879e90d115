"""The HTTP API of Hasher-Matcher-Actioner (HMA) 1.x, as far as its callers use it.

Paths, parameters, fields and types are those of HMA's hashing, matching and curation routes
(github.com/facebook/threatexchange, hasher-matcher-actioner/src/OpenMediaMatch/blueprints), with
these differences:

- There is one bank, which is read-only. It is shown under each of the names that `banks` of the
  configuration lists, so that a caller that creates its bank first, as Coop does, finds its own.
- `bank_content_id` is 53 bits of a digest of the item's id: an integer that JavaScript reads
  exactly, and that does not change. There is one match for each item, the nearest.
- `distance` is the number of bits, as a string. A match of a part of the picture has the distance
  after alignment. A veiled bank has none, and answers the largest of the match's band.
- A file that is looked up is checked as in any other dialect, parts and policy included. The
  headers `Gate-Decision` and `Gate-Reference` say what was decided. A hash that is looked up is one
  of a whole picture, of which it is not known how much detail it has.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from nciihash.errors import FileRefused, SandboxUnavailable, ServiceError
from nciihash.gate.config import DialectConfig
from nciihash.gate.fetching import Fetcher, FetchRefused
from nciihash.gate.gate import Gate
from nciihash.gate.hma_fields import (
    CONTENT_TYPES,
    SIGNAL_NAMES,
    SIGNAL_TYPES,
    HmaRefused,
    bank_fields,
    hash_fields,
    match_fields,
    nearest_items,
    parse_boolean,
    parse_signal,
    parse_types,
)
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.gate.pool import PoolFull
from nciihash.gate.upload import Upload
from nciihash.gate.uploads import BodyRefused, ClientGone, is_multipart, read_uploads
from nciihash.signals import Hashed, Item, Level, Media, Signal, SignalType

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Read: TypeAlias = Callable[[Request, ExitStack], Awaitable[Upload]]

_JSON_BYTES: Final = 1 << 14
_READ_ONLY: Final = "This bank is read-only: it follows the feed of a clearinghouse."
_UNREADABLE: Final = "The file cannot be hashed."
_TRY_AGAIN: Final = "The gate cannot check this now. Try again."


def routes(gate: Gate, fetcher: Fetcher | None = None) -> list[BaseRoute]:
    """Return the routes of the API.

    Args:
        gate: checks what is looked up.
        fetcher: fetches the files of `url`; by default one with the system's resolver.
    """
    api = _Api(gate, fetcher or Fetcher())
    reads: dict[str, Handler] = {
        "/h/hash": api.hash,
        "/m/lookup": api.look_up,
        "/m/raw_lookup": api.look_up_raw,
        "/m/index/status": api.show_index,
        "/c/banks": api.list_banks,
        "/c/bank/{name}": api.show_bank,
        "/c/signal_type": api.list_signal_types,
        "/c/signal_type/index": api.show_signal_type_index,
        "/c/content_type": api.list_content_types,
        "/c/exchanges": api.list_nothing,
        "/c/exchanges/apis": api.list_nothing,
        "/c/exchange/{name}": api.show_no_exchange,
    }
    writes: list[tuple[str, Handler, list[str]]] = [
        ("/h/hash", api.hash_file, ["POST"]),
        ("/m/lookup", api.look_up_file, ["POST"]),
        ("/m/compare", api.compare, ["POST"]),
        ("/c/banks", api.create_bank, ["POST"]),
        ("/c/bank/{name}", api.refuse_write, ["PUT", "DELETE"]),
        ("/c/bank/{name}/{rest:path}", api.refuse_write, ["POST", "PUT", "DELETE"]),
        ("/c/exchanges", api.refuse_write, ["POST"]),
    ]
    handlers = [(path, handler, ["GET"]) for path, handler in reads.items()] + writes
    return [
        Route("/status", api.show_status),
        Route("/site-map", partial(_show_paths, sorted({path for path, *_ in handlers}))),
        *(Route(path, api.answering(handler), methods=each) for path, handler, each in handlers),
    ]


@dataclass(frozen=True, slots=True)
class _Api:
    gate: Gate
    fetcher: Fetcher

    @property
    def settings(self) -> DialectConfig:
        return self.gate.config.dialects[Dialect.HMA]

    def answering(self, handler: Handler) -> Handler:
        """Return a handler that checks the token first, and whose errors have HMA's form."""

        async def answer(request: Request) -> Response:
            try:
                _check_token(request, self.settings.token)
                return await handler(request)
            except HmaRefused as error:
                return _error(error.status, error.message)
            except FetchRefused as error:
                return _error(400, str(error))
            except BodyRefused as error:
                return _error(error.status, f"{error.title}. {error.detail}", Connection="close")
            except ClientGone:
                return Response(status_code=400)
            except FileRefused:
                return _error(400, _UNREADABLE)
            except (PoolFull, SandboxUnavailable, ServiceError):
                return _error(503, _TRY_AGAIN, Retry_After="1")

        return answer

    # hashing

    async def hash(self, request: Request) -> Response:
        """`GET /h/hash`: fetch a file and return its hashes."""
        return await self._hash(request, self._fetch)

    async def hash_file(self, request: Request) -> Response:
        """`POST /h/hash`: return the hashes of a file."""
        return await self._hash(request, self._receive)

    async def _hash(self, request: Request, read: Read) -> Response:
        types = parse_types(request.query_params.get("types"))
        with ExitStack() as stack:
            upload = await read(request, stack)
            if upload.refused is Reason.QUEUE_FULL:
                raise HmaRefused(503, _TRY_AGAIN)
            if upload.refused is not None:
                raise HmaRefused(413, "The file is too large.")
            item = await self.gate.pool.hash(upload.data, level=Level.FAST)
        return JSONResponse({n: value for n, value in hash_fields(item).items() if n in types})

    # matching

    async def look_up(self, request: Request) -> Response:
        """`GET /m/lookup`: look up a file that is fetched, or a hash."""
        query = request.query_params
        if query.get("url"):
            return await self._look_up(request, self._fetch)
        signal = parse_signal(query.get("signal"), query.get("signal_type"))
        outcome = await self.gate.check_item(Dialect.HMA, _item(signal))
        return _decided(outcome, self._found(request, outcome).get(SIGNAL_NAMES[signal.type], {}))

    async def look_up_file(self, request: Request) -> Response:
        """`POST /m/lookup`: look up a file."""
        return await self._look_up(request, self._receive)

    async def _look_up(self, request: Request, read: Read) -> Response:
        query = request.query_params
        types = parse_types(query.get("types"))
        selected = query.get("signal_type")
        if selected is not None:
            parse_types(selected)
        with ExitStack() as stack:
            upload = await read(request, stack)
            outcome = await self.gate.check(Dialect.HMA, upload)
        found = {n: banks for n, banks in self._found(request, outcome).items() if n in types}
        return _decided(outcome, found if selected is None else found.get(selected, {}))

    async def look_up_raw(self, request: Request) -> Response:
        """`GET /m/raw_lookup`: return what the bank has near a hash, whatever the policy."""
        query = request.query_params
        signal = parse_signal(query.get("signal"), query.get("signal_type"))
        with_distance = parse_boolean(query.get("include_distance", "false"))
        if self.gate.bank.state().as_of is None:
            raise HmaRefused(503, "index not yet ready")
        (result,) = await asyncio.to_thread(self.gate.bank.look_up, [_item(signal)], Level.FAST)
        nearest = (
            nearest_items(result).get(SIGNAL_NAMES[signal.type], {}) if self._banks(request) else {}
        )
        entries = match_fields(nearest)
        return JSONResponse(
            {"matches": entries if with_distance else [each["bank_content_id"] for each in entries]}
        )

    async def compare(self, request: Request) -> Response:
        """`POST /m/compare`: return whether two hashes of a type match, and their distance."""
        compared: dict[str, list[Any]] = {}
        for name, pair in (await _json(request)).items():
            if not isinstance(pair, list) or len(pair) != 2:
                raise HmaRefused(400, "Comparison hash list length must be exactly 2")
            first, second = (parse_signal(value, name) for value in pair)
            difference = int.from_bytes(first.value, "big") ^ int.from_bytes(second.value, "big")
            bits = difference.bit_count()
            if first.type.exact:
                bits = min(bits, 1)  # as HMA counts a difference
            compared[name] = [bits <= first.type.threshold, {"distance": bits}]
        return JSONResponse(compared)

    async def show_index(self, request: Request) -> Response:
        """`GET /m/index/status`: return the state of the bank, all types of signals together."""
        state = self.gate.bank.state()
        present = state.as_of is not None
        status = {
            "present": present,
            "built_to": -1 if state.as_of is None else int(state.as_of),
            "size": state.signals if present else 0,
        }
        return JSONResponse(dict.fromkeys(_selected(request), status))

    # curation

    async def list_banks(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """`GET /c/banks`."""
        return JSONResponse([bank_fields(name) for name in self.settings.banks])

    async def show_bank(self, request: Request) -> Response:
        """`GET /c/bank/NAME`."""
        name = request.path_params["name"]
        if name not in self.settings.banks:
            raise HmaRefused(404, "bank not found")
        return JSONResponse(bank_fields(name))

    async def create_bank(self, request: Request) -> Response:
        """`POST /c/banks`: do nothing for a name that the configuration has; refuse any other."""
        name = (await _json(request)).get("name")
        if not isinstance(name, str) or name not in self.settings.banks:
            raise HmaRefused(403, f"{_READ_ONLY} Add the name to `banks` of the gate.")
        return JSONResponse(bank_fields(name), 201)

    async def list_signal_types(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """`GET /c/signal_type`."""
        return JSONResponse([{"name": name, "enabled_ratio": 1.0} for name in SIGNAL_TYPES])

    async def show_signal_type_index(self, request: Request) -> Response:
        """`GET /c/signal_type/index`."""
        state = self.gate.bank.state()
        until = -1 if state.as_of is None else int(state.as_of)
        status = {
            "db_size": state.signals,
            "index_size": state.signals,
            "index_out_of_date": not state.current,
            "newest_db_item": until,
            "index_built_to": until,
        }
        return JSONResponse(dict.fromkeys(_selected(request), status))

    async def list_content_types(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """`GET /c/content_type`."""
        return JSONResponse([{"name": name, "enabled": True} for name in CONTENT_TYPES])

    async def list_nothing(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """Return the exchanges, of which a gate has none."""
        return JSONResponse([])

    async def show_no_exchange(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """`GET /c/exchange/NAME`: there is none."""
        raise HmaRefused(404, "Exchange not found")

    async def refuse_write(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """Refuse to change a bank."""
        raise HmaRefused(403, _READ_ONLY)

    async def show_status(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """`GET /status`: whether the bank is complete and recent. It needs no token."""
        state = self.gate.bank.state()
        if state.as_of is None:
            return PlainTextResponse("INDEX-NOT-LOADED", 503)
        if not self.gate.recent(state):
            return PlainTextResponse("INDEX-STALE", 503)
        return PlainTextResponse("I-AM-ALIVE")

    async def _fetch(self, request: Request, stack: ExitStack) -> Upload:
        url = request.query_params.get("url")
        if not url:
            raise HmaRefused(400, "url is required")
        if request.query_params.get("content_type", "photo") not in CONTENT_TYPES:
            raise HmaRefused(400, "no such content_type")
        upload = stack.enter_context(self.gate.upload())
        await self.fetcher.fetch(url, upload, self.settings.hosts)
        return upload

    async def _receive(self, request: Request, stack: ExitStack) -> Upload:
        if not is_multipart(request.headers.get("content-type", "")):
            raise HmaRefused(400, "Missing multipart/form-data file upload")
        uploads = await read_uploads(
            request.headers,
            request.receive,
            lambda: stack.enter_context(self.gate.upload()),
            self.gate.config.limits,
        )
        if len(uploads) != 1:
            raise HmaRefused(400, "Only one file allowed per request")
        return uploads[0]

    def _banks(self, request: Request) -> list[str]:
        """Return the names of the banks that a request asks for."""
        wanted = request.query_params.get("banks")
        names = self.settings.banks
        return list(names) if not wanted else [n for n in names if n in wanted.split(",")]

    def _found(self, request: Request, outcome: Outcome) -> dict[str, dict[str, Any]]:
        """Return the matches of an outcome by type of signal and by bank.

        Raises:
            HmaRefused: it was not checked, and the dialect fails closed.
        """
        if outcome.decision is Decision.UNREADABLE and outcome.stop:
            raise HmaRefused(400, _UNREADABLE)
        if outcome.decision is Decision.UNCHECKED and outcome.stop:
            raise HmaRefused(503, _TRY_AGAIN)
        if outcome.decision in {Decision.UNREADABLE, Decision.UNCHECKED}:
            return {}
        found: dict[str, dict[str, Any]] = {
            CONTENT_TYPES["video" if outcome.media is Media.VIDEO else "photo"]: {}
        }
        if outcome.decision is not Decision.CLEAR and outcome.result is not None:
            for name, items in nearest_items(outcome.result).items():
                matches = match_fields(items)
                found[name] = dict.fromkeys(self._banks(request), matches)
        return found


def _item(signal: Signal) -> Item:
    """Return a file of which only one hash is known."""
    media = Media.IMAGE if signal.type is SignalType.PDQ else Media.VIDEO
    return Item(media, (Hashed(signal),))


def _selected(request: Request) -> Iterable[str]:
    """Return the types of signals that a request asks for.

    Raises:
        HmaRefused: there is no such type.
    """
    return sorted(parse_types(request.query_params.get("signal_type")))


def _decided(outcome: Outcome, fields: dict[str, Any]) -> Response:
    """Return the response to a look-up, with what the gate decided in its headers."""
    headers = {"Gate-Decision": outcome.decision.value}
    if outcome.reference is not None:
        headers["Gate-Reference"] = outcome.reference
    return JSONResponse(fields, headers=headers)


def _error(status: int, message: str, **headers: str) -> Response:
    return JSONResponse(
        {"message": message},
        status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def _check_token(request: Request, token: str | None) -> None:
    """Check the token of a request.

    Raises:
        HmaRefused: it has another one, or none.
    """
    if token is None:
        return
    sent = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(sent, f"Bearer {token}".encode()):
        raise HmaRefused(401, "Authentication required")


async def _json(request: Request) -> dict[str, Any]:
    """Read an object of JSON.

    Raises:
        HmaRefused: the body is another, or too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _JSON_BYTES:
            raise HmaRefused(413, "The request is too large.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HmaRefused(400, "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise HmaRefused(400, "Request input was not a dict")
    return value


async def _show_paths(paths: list[str], request: Request) -> Response:  # noqa: ARG001 - a handler
    """`GET /site-map`."""
    return JSONResponse(paths)
