"""A feed with scripted entries and faults, served to a platform's client without a network."""

import random

import httpx

from nciihash.client import PlatformClient
from nciihash.client.sans_io import RetryPolicy
from nciihash.feed import Added, FeedPage
from nciihash.signals import Media, Signal, SignalType, Variant
from nciihash.wire import FeedReply

KEY = "nciik_thisisnotarealkeyatall"

AT_ONCE = RetryPolicy(attempts=1, base=0.0, cap=0.0)


def hex_id(number):
    return f"{number:032x}"


def added(number):
    signal = Signal(SignalType.PDQ, random.Random(number).randbytes(32))
    return Added(hex_id(number), hex_id(1000 + number), signal, 90, Media.IMAGE, Variant.ORIGINAL)


class ScriptedFeed:
    """A feed of given entries, which records the requests.

    Attributes:
        entries: the entries; a test may change them.
        epoch: part of every cursor; those of another epoch have expired.
        acknowledged: the positions that were acknowledged.
        requested: the positions from which pages were requested.
        before: called with each request; it may raise, or return another response.
    """

    def __init__(self, *entries):
        self.entries = list(entries)
        self.epoch = 1
        self.acknowledged = []
        self.requested = []
        self.before = lambda request: None

    def cursor(self, position):
        return hex_id(self.epoch * 10**6 + position)

    def position(self, cursor):
        """Return the position of a cursor; None if it has expired."""
        epoch, position = divmod(int(cursor, 16), 10**6)
        return position if epoch == self.epoch else None

    def respond(self, request):
        if (response := self.before(request)) is not None:
            return response
        if request.url.path.endswith("/ack"):
            cursor = httpx.Response(200, content=request.content).json()["cursor"]
            position = self.position(cursor)
            if position is None:
                return expired()
            self.acknowledged.append(position)
            return httpx.Response(200, json={"cursor": cursor})
        cursor, limit = request.url.params.get("cursor"), int(request.url.params["limit"])
        start = 0 if cursor is None else self.position(cursor)
        if start is None:
            return expired()
        self.requested.append(start)
        entries = self.entries[start : start + limit]
        end = start + len(entries)
        page = FeedPage(tuple(entries), self.cursor(end), end < len(self.entries))
        return httpx.Response(200, json=FeedReply.of(page).model_dump(mode="json"))

    def client(self):
        transport = httpx.MockTransport(self.respond)
        return PlatformClient("https://example.org", KEY, http=transport, retry=AT_ONCE)


def problem(status, code, headers=None):
    body = {"title": "No", "status": status, "code": code}
    headers = {"content-type": "application/problem+json"} | (headers or {})
    return httpx.Response(status, json=body, headers=headers)


def expired():
    return problem(410, "cursor_expired")
