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
  headers `Gate-Decision` and `Gate-Reference` say what was decided.
- So is a hash that is looked up within a minute after its file was hashed here, as Coop and
  policyserv do. Any other hash is one of a whole picture of which it is not known how much detail
  it has, so its matches are reviews.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from itertools import chain
from typing import Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nciihash.errors import FileRefused, SandboxUnavailable, ServiceError
from nciihash.gate.config import DialectConfig
from nciihash.gate.confirmations import ConfirmationsFull
from nciihash.gate.dialects.fetching import Fetcher, FetchRefused
from nciihash.gate.dialects.hma_curation import HmaCuration
from nciihash.gate.dialects.hma_fields import (
    CONTENT_TYPES,
    SIGNAL_NAMES,
    HmaRefused,
    match_fields,
    nearest_items,
    parse_boolean,
    parse_signal,
    parse_types,
    read_object,
)
from nciihash.gate.dialects.recent import RecentItems
from nciihash.gate.dialects.requests import (
    Body,
    Endpoint,
    authorized,
    json_response,
    skip_body,
    while_connected,
)
from nciihash.gate.dialects.uploads import BodyRefused, ClientGone, is_multipart, read_uploads
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.gate.pool import PoolFull
from nciihash.gate.upload import Upload
from nciihash.sdk.lookup import LookupResult
from nciihash.signals import Hashed, Item, Level, Media, Signal, SignalType

Read: TypeAlias = Callable[[Request, ExitStack], Awaitable[Upload]]

_UNREADABLE: Final = "The file cannot be hashed."
_TRY_AGAIN: Final = "The gate cannot check this now. Try again."


def routes(
    gate: Gate, fetcher: Fetcher | None = None, recent: RecentItems | None = None
) -> list[BaseRoute]:
    """Return the routes of the API.

    Args:
        gate: checks what is looked up.
        fetcher: fetches the files of `url`; by default one with the system's resolver.
        recent: keeps files until they are looked up by their hash.
    """
    api = _Api(gate, fetcher or Fetcher(), RecentItems() if recent is None else recent)
    curation = HmaCuration(gate)
    handlers: list[tuple[str, str, Endpoint]] = [
        ("GET", "/h/hash", api.hash),
        ("POST", "/h/hash", api.hash_file),
        ("GET", "/m/lookup", api.look_up),
        ("POST", "/m/lookup", api.look_up_file),
        ("GET", "/m/raw_lookup", api.look_up_raw),
        ("POST", "/m/compare", api.compare),
        *curation.handlers(),
    ]
    paths = sorted({path for _, path, _ in handlers})

    async def show_paths(_: Request) -> Response:
        return json_response(paths)

    return [
        Route("/status", curation.show_status),
        Route("/site-map", show_paths),
        *(Route(path, api.answering(each), methods=[method]) for method, path, each in handlers),
    ]


@dataclass(frozen=True, slots=True)
class _Api:
    """The hashing and matching routes."""

    gate: Gate
    fetcher: Fetcher
    recent: RecentItems

    @property
    def settings(self) -> DialectConfig:
        return self.gate.config.dialects[Dialect.HMA]

    def answering(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint that checks the token first, and whose errors have HMA's form."""

        async def answer(request: Request) -> Response:
            body = Body(request.receive)
            response = await self._answer(endpoint, Request(request.scope, body))
            if "expect" not in request.headers:  # else the client waits for the answer
                await body.drop()
            if not body.complete:
                response.headers["Connection"] = "close"
            return response

        return answer

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        token = self.settings.token
        if token is not None and not authorized(request, token):
            return _error(401, "Authentication required")
        try:
            return await endpoint(request)
        except HmaRefused as error:
            return _error(error.status, error.message)
        except FetchRefused as error:
            return _error(400, str(error))
        except BodyRefused as error:
            return _error(error.status, f"{error.title}. {error.detail}")
        except ClientGone:
            return Response(status_code=400)
        except FileRefused:
            return _error(400, _UNREADABLE)
        except (PoolFull, SandboxUnavailable, ServiceError, ConfirmationsFull):
            return _error(503, _TRY_AGAIN, Retry_After="1")

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
            hashing = self.gate.pool.hash(
                upload.data, level=self.settings.level, then=self._matches
            )
            item, matches = await while_connected(request.receive, hashing)
            signal, plain = await _own_signal(item, upload)
        if matches:
            self.recent.add(signal, item, now=asyncio.get_running_loop().time())
        hashes = {SIGNAL_NAMES[signal.type]: "" if plain else signal.hex}
        return json_response({name: value for name, value in hashes.items() if name in types})

    def _matches(self, item: Item) -> tuple[Item, bool]:
        """Return an item, and whether it has a match; runs in a thread of the pool.

        If the clearinghouse would have to be asked, it counts as a match.
        """
        bank = self.gate.bank
        if bank.asks(item):
            return item, True
        (result,) = bank.look_up([item], self.settings.level)
        return item, bool(result.found)

    # matching

    async def look_up(self, request: Request) -> Response:
        """`GET /m/lookup`: look up a file that is fetched, or a hash."""
        query = request.query_params
        if query.get("url"):
            return await self._look_up(request, self._fetch)
        signal = parse_signal(query.get("signal"), query.get("signal_type"))
        known = self.recent.get(signal, now=asyncio.get_running_loop().time())
        outcome = await self.gate.check_item(Dialect.HMA, known or _item(signal))
        matches = list(chain.from_iterable(_found(outcome).values()))
        return _decided(outcome, dict.fromkeys(self._banks(request), matches) if matches else {})

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
            checking = self.gate.check(Dialect.HMA, upload)
            outcome = await while_connected(request.receive, checking)
        banks = self._banks(request)
        found = {
            name: dict.fromkeys(banks, matches) if matches else {}
            for name, matches in _found(outcome).items()
            if name in types
        }
        return _decided(outcome, found if selected is None else found.get(selected, {}))

    async def look_up_raw(self, request: Request) -> Response:
        """`GET /m/raw_lookup`: return what the bank has near a hash, whatever the policy."""
        query = request.query_params
        signal = parse_signal(query.get("signal"), query.get("signal_type"))
        with_distance = parse_boolean(query.get("include_distance", "false"))
        if self.gate.bank.state().as_of is None:
            raise HmaRefused(503, "index not yet ready")
        (result,) = await self._look_up_item(_item(signal))
        nearest = (
            nearest_items(result).get(SIGNAL_NAMES[signal.type], {}) if self._banks(request) else {}
        )
        entries = match_fields(nearest)
        return json_response(
            {"matches": entries if with_distance else [each["bank_content_id"] for each in entries]}
        )

    async def _look_up_item(self, item: Item) -> list[LookupResult]:
        look_up = partial(self.gate.bank.look_up, [item], Level.FAST)
        if await asyncio.to_thread(self.gate.bank.asks, item):
            return await self.gate.confirmations.run(look_up)
        return await asyncio.to_thread(look_up)

    async def compare(self, request: Request) -> Response:
        """`POST /m/compare`: return whether two hashes of a type match, and their distance."""
        compared: dict[str, list[Any]] = {}
        for name, pair in (await read_object(request)).items():
            if not isinstance(pair, list) or len(pair) != 2:
                raise HmaRefused(400, "Comparison hash list length must be exactly 2")
            first, second = (parse_signal(value, name) for value in pair)
            difference = int.from_bytes(first.value, "big") ^ int.from_bytes(second.value, "big")
            bits = difference.bit_count()
            if first.type.exact:
                bits = min(bits, 1)  # as HMA counts a difference
            compared[name] = [bits <= first.type.threshold, {"distance": bits}]
        return json_response(compared)

    async def _fetch(self, request: Request, stack: ExitStack) -> Upload:
        url = request.query_params.get("url")
        if not url:
            raise HmaRefused(400, "url is required")
        if request.query_params.get("content_type", "photo") not in CONTENT_TYPES:
            raise HmaRefused(400, "no such content_type")
        await skip_body(request)
        upload = stack.enter_context(self.gate.upload())
        fetching = self.fetcher.fetch(url, upload, self.settings.hosts)
        await while_connected(request.receive, fetching)
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


def _found(outcome: Outcome) -> dict[str, list[dict[str, Any]]]:
    """Return the matches of an outcome by type of signal.

    Raises:
        HmaRefused: it was not checked, and the dialect fails closed.
    """
    if outcome.decision is Decision.UNREADABLE and outcome.stop:
        raise HmaRefused(400, _UNREADABLE)
    if outcome.decision is Decision.UNCHECKED and outcome.stop:
        raise HmaRefused(503, _TRY_AGAIN)
    if outcome.decision in {Decision.UNREADABLE, Decision.UNCHECKED}:
        return {}
    name = CONTENT_TYPES["video" if outcome.media is Media.VIDEO else "photo"]
    if outcome.decision is Decision.CLEAR or outcome.result is None:
        return {name: []}
    found = nearest_items(outcome.result)
    return {name: []} | {each: match_fields(items) for each, items in found.items()}


def _item(signal: Signal) -> Item:
    """Return a file of which only one hash is known."""
    media = Media.IMAGE if signal.type is SignalType.PDQ else Media.VIDEO
    return Item(media, (Hashed(signal),))


async def _own_signal(item: Item, upload: Upload) -> tuple[Signal, bool]:
    """Return the hash that HMA has of a file, and whether it is too plain to be used."""
    if item.media is Media.IMAGE:
        hashed = item.hashes[0]
        return hashed.signal, hashed.plain
    digest = await asyncio.to_thread(md5, upload.data, usedforsecurity=False)
    return Signal(SignalType.MD5, digest.digest()), False


def _decided(outcome: Outcome, fields: dict[str, Any]) -> Response:
    """Return the response to a look-up, with what the gate decided in its headers."""
    headers = {"Gate-Decision": outcome.decision.value}
    if outcome.reference is not None:
        headers["Gate-Reference"] = outcome.reference
    return json_response(fields, headers=headers)


def _error(status: int, message: str, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return json_response({"message": message}, status, headers=named)
