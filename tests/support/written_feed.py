"""A feed that tests write by hand, behind a client of a platform."""

import random

import httpx

from nciihash.client import PlatformClient
from nciihash.client.sans_io import RetryPolicy
from nciihash.feed import Added, FeedPage
from nciihash.signals import Media, Signal, SignalType, Variant
from nciihash.wire import FeedReply

KEY = "nciik_thisisnotarealkeyatall"


AT_ONCE = RetryPolicy(attempts=1, base=0.0, cap=0.0)


def name(number):
    return f"{number:032x}"


def added(number):
    signal_ = Signal(SignalType.PDQ, random.Random(number).randbytes(32))
    return Added(name(number), name(1000 + number), signal_, 90, Media.IMAGE, Variant.ORIGINAL)


class Log:
    """A feed that tests write by hand, and the requests that came."""

    def __init__(self, *entries):
        self.entries = list(entries)
        self.epoch = 1
        self.acknowledged = []
        self.asked = []
        self.before = lambda request: None  # raises, or gives an answer instead

    def cursor(self, place):
        return name(self.epoch * 10**6 + place)

    def place(self, cursor):
        epoch, place = divmod(int(cursor, 16), 10**6)
        return place if epoch == self.epoch else None

    def answer(self, request):
        if (instead := self.before(request)) is not None:
            return instead
        if request.url.path.endswith("/ack"):
            cursor = httpx.Response(200, content=request.content).json()["cursor"]
            place = self.place(cursor)
            if place is None:
                return expired()
            self.acknowledged.append(place)
            return httpx.Response(200, json={"cursor": cursor})
        cursor, limit = request.url.params.get("cursor"), int(request.url.params["limit"])
        place = 0 if cursor is None else self.place(cursor)
        if place is None:
            return expired()
        self.asked.append(place)
        entries = self.entries[place : place + limit]
        end = place + len(entries)
        page = FeedPage(tuple(entries), self.cursor(end), end < len(self.entries))
        return httpx.Response(200, json=FeedReply.of(page).model_dump(mode="json"))

    def client(self):
        transport = httpx.MockTransport(self.answer)
        return PlatformClient("https://example.org", KEY, http=transport, retry=AT_ONCE)


def problem(status, code, more=None):
    body = {"title": "No", "status": status, "code": code}
    headers = {"content-type": "application/problem+json"} | (more or {})
    return httpx.Response(status, json=body, headers=headers)


def expired():
    return problem(410, "cursor_expired")
