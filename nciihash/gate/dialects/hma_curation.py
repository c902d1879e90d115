"""The curation routes of Hasher-Matcher-Actioner's API, and its state: read-only."""

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nciihash.gate.config import DialectConfig
from nciihash.gate.dialects.hma_fields import (
    CONTENT_TYPES,
    SIGNAL_TYPES,
    HmaRefused,
    bank_fields,
    parse_types,
    read_object,
)
from nciihash.gate.dialects.requests import Endpoint, json_response
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Dialect

_READ_ONLY: Final = "This bank is read-only: it follows the feed of a clearinghouse."


@dataclass(frozen=True, slots=True)
class HmaCuration:
    """The curation routes."""

    gate: Gate

    @property
    def settings(self) -> DialectConfig:
        """The settings of the dialect."""
        return self.gate.config.dialects[Dialect.HMA]

    def handlers(self) -> list[tuple[str, str, Endpoint]]:
        """Return the methods, paths and endpoints. Each endpoint may raise `HmaRefused`."""
        return [
            ("GET", "/m/index/status", self.show_index),
            ("GET", "/c/banks", self.list_banks),
            ("POST", "/c/banks", self.create_bank),
            ("GET", "/c/bank/{name}", self.show_bank),
            ("PUT", "/c/bank/{name}", self.refuse_write),
            ("DELETE", "/c/bank/{name}", self.refuse_write),
            ("POST", "/c/bank/{name}/content", self.refuse_write),
            ("POST", "/c/bank/{name}/signal", self.refuse_write),
            ("PUT", "/c/bank/{name}/content/{id}", self.refuse_write),
            ("DELETE", "/c/bank/{name}/content/{id}", self.refuse_write),
            ("GET", "/c/signal_type", self.list_signal_types),
            ("GET", "/c/signal_type/index", self.show_signal_type_index),
            ("PUT", "/c/signal_type/{name}", self.refuse_write),
            ("GET", "/c/content_type", self.list_content_types),
            ("GET", "/c/exchanges", self.list_no_exchanges),
            ("POST", "/c/exchanges", self.refuse_write),
            ("GET", "/c/exchanges/apis", self.list_no_exchanges),
            ("GET", "/c/exchange/{name}", self.show_no_exchange),
        ]

    async def show_status(self, _: Request) -> Response:
        """`GET /status`: whether the bank is complete and recent. It needs no token."""
        state = self.gate.state()
        if state.as_of is None:
            return PlainTextResponse("INDEX-NOT-LOADED", 503)
        if state.stale:
            return PlainTextResponse("INDEX-STALE", 503)
        return PlainTextResponse("I-AM-ALIVE")

    async def show_index(self, request: Request) -> Response:
        """`GET /m/index/status`: the bank's state; its size is that of all types together."""
        state = self.gate.bank.state()
        present = state.as_of is not None
        status = {
            "present": present,
            "built_to": -1 if state.as_of is None else int(state.as_of),
            "size": state.signals if present else 0,
        }
        return json_response(dict.fromkeys(_selected(request), status))

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
        return json_response(dict.fromkeys(_selected(request), status))

    async def list_banks(self, _: Request) -> Response:
        """`GET /c/banks`."""
        return json_response([bank_fields(name) for name in self.settings.banks])

    async def show_bank(self, request: Request) -> Response:
        """`GET /c/bank/NAME`."""
        name = request.path_params["name"]
        if name not in self.settings.banks:
            raise HmaRefused(404, "bank not found")
        return json_response(bank_fields(name))

    async def create_bank(self, request: Request) -> Response:
        """`POST /c/banks`: do nothing for a name that the configuration has; refuse any other."""
        name = (await read_object(request)).get("name")
        if not isinstance(name, str) or name not in self.settings.banks:
            raise HmaRefused(403, f"{_READ_ONLY} Add the name to `banks` of the gate.")
        return json_response(bank_fields(name), 201)

    async def list_signal_types(self, _: Request) -> Response:
        """`GET /c/signal_type`."""
        return json_response([{"name": name, "enabled_ratio": 1.0} for name in SIGNAL_TYPES])

    async def list_content_types(self, _: Request) -> Response:
        """`GET /c/content_type`."""
        return json_response([{"name": name, "enabled": True} for name in CONTENT_TYPES])

    async def list_no_exchanges(self, _: Request) -> Response:
        """`GET /c/exchanges` and `/c/exchanges/apis`."""
        return json_response([])

    async def show_no_exchange(self, _: Request) -> Response:
        """`GET /c/exchange/NAME`."""
        raise HmaRefused(404, "Exchange not found")

    async def refuse_write(self, _: Request) -> Response:
        """Refuse to change a bank."""
        raise HmaRefused(403, _READ_ONLY)


def _selected(request: Request) -> list[str]:
    """Return the types of signals that a request asks for.

    Raises:
        HmaRefused: there is no such type.
    """
    return sorted(parse_types(request.query_params.get("signal_type")))
