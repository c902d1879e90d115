"""A scripted feed for clients of platforms."""

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
    """A feed with given entries, and the requests that it received.

    Attributes:
        entries: of the log.
        epoch: of the cursors; change it to make older ones expire.
        acknowledged: the positions that were acknowledged.
        asked: the positions that pages were requested from.
        before: called with each request; may raise, or return a response to send instead.
    """

    def __init__(self, *entries):
        self.entries = list(entries)
        self.epoch = 1
        self.acknowledged = []
        self.asked = []
        self.before = lambda request: None

    def cursor(self, seq):
        return name(self.epoch * 10**6 + seq)

    def seq(self, cursor):
        epoch, seq = divmod(int(cursor, 16), 10**6)
        return seq if epoch == self.epoch else None

    def answer(self, request):
        if (instead := self.before(request)) is not None:
            return instead
        if request.url.path.endswith("/ack"):
            cursor = httpx.Response(200, content=request.content).json()["cursor"]
            seq = self.seq(cursor)
            if seq is None:
                return expired()
            self.acknowledged.append(seq)
            return httpx.Response(200, json={"cursor": cursor})
        cursor, limit = request.url.params.get("cursor"), int(request.url.params["limit"])
        seq = 0 if cursor is None else self.seq(cursor)
        if seq is None:
            return expired()
        self.asked.append(seq)
        entries = self.entries[seq : seq + limit]
        end = seq + len(entries)
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
