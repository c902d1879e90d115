"""Detection of data that leaves the page or stays in the browser."""

import base64
import re
from functools import lru_cache


@lru_cache(maxsize=8)
def windows(data, length=8):
    return {data[i : i + length] for i in range(len(data) - length + 1)}


def decodings(text):
    """Yield a body as it is, and its hexadecimal and base64 parts decoded."""
    yield text
    for digits in re.findall(rb"[0-9a-f]{16,}", text):
        yield bytes.fromhex(digits.decode()[: len(digits) // 2 * 2])
    for word in re.findall(rb"[A-Za-z0-9+/_-]{12,}", text):
        yield base64.b64decode(word[: len(word) // 4 * 4], altchars=b"-_")


def assert_holds_nothing_of(body, files):
    for chosen in files:
        secret = windows(chosen["buffer"])
        for readable in decodings(body):
            assert secret.isdisjoint(windows(readable))
        for part in re.findall(r"\w{3,}", chosen["name"]):
            assert part.lower().encode() not in body.lower()


def leaks(visitor, seen=0):
    """Return a description of each forbidden request, error or item of stored data."""
    found = list(visitor.notes()) + visitor.errors
    for request in visitor.requests[seen:]:
        if request.url.startswith(f"blob:{visitor.url}/"):
            continue  # a video that the page itself plays
        if request.is_navigation_request() or not request.url.startswith(visitor.url):
            found.append(f"request: {request.url}")
        elif "?" in request.url or request.method not in {"GET", "POST"}:
            found.append(f"request: {request.method} {request.url}")
    stored = visitor.stored()
    nothing = dict.fromkeys(("local", "session", "databases", "caches", "workers"), 0)
    expected = nothing | {"cookie": "", "history": stored["history"]}
    if stored != expected:
        found.append(f"stored: {stored}")
    if visitor.page.context.cookies():
        found.append("cookie jar")
    return found
