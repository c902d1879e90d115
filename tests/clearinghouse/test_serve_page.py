"""The survivor's page from her own machine: who is answered, what is passed on, and what is not."""

import asyncio
import json

import httpx
import pytest

from clearinghouse import serve_page
from clearinghouse.errors import SettingInvalid
from clearinghouse.page.single_file import build
from clearinghouse.routes import page, survivors

HOST = "127.0.0.1:4321"
SECRET = "Case SzdRNC0yOVhELU1NM1I6c2l4IHdvcmRz"


class Elsewhere:
    """A clearinghouse that notes what reaches it."""

    def __init__(self, status=200, content=b'{"fine":true}', headers=None):
        self.seen = []
        self.answer = status, content, headers or {}

    def __call__(self, request):
        self.seen.append(request)
        status, content, headers = self.answer
        return httpx.Response(status, content=content, headers=headers)


def ask(method, path, *, elsewhere=None, server="https://house.example/under", **options):
    """Ask the server on this machine, as a browser does under its own address."""
    there = httpx.MockTransport(elsewhere or Elsewhere())
    app = serve_page.create_app(server, HOST, transport=there)

    async def asked():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            return await client.request(method, path, **options)

    return asyncio.run(asked())


def test_the_survivors_requests_are_passed_on_and_no_others():
    ours = {
        (method, route.path.replace("{item}", "{item:int}"))
        for route in survivors.router.routes
        for method in route.methods
    }
    assert set(serve_page.FORWARDED) == ours
    for method, path in (
        *(("GET", "/v1/feed"), ("POST", "/v1/match"), ("GET", "/metrics"), ("PUT", "/v1/case")),
        *(("GET", "/v1/case/../feed"), ("DELETE", "/v1/case/items/x"), ("GET", "/openapi.json")),
    ):
        elsewhere = Elsewhere()
        assert ask(method, path, elsewhere=elsewhere).status_code in {404, 405, 422}, path
        assert elsewhere.seen == []


def test_a_request_goes_on_as_it_is_and_says_nothing_of_who_asked():
    elsewhere = Elsewhere(201, b'{"case":"K7Q4"}', {"Retry-After": "7", "Set-Cookie": "seen=1"})
    body = b'{"items":[]}'
    headers = {
        "Authorization": SECRET,
        "Idempotency-Key": "5f",
        "Content-Type": "application/json",
        "User-Agent": "a browser that can be told from others",
        "Accept-Language": "ur",
        "Cookie": "a=b",
        "Origin": f"http://{HOST}",
        "X-Forwarded-For": "192.0.2.1",
    }
    path = "/v1/case/items"
    reply = ask("POST", path, elsewhere=elsewhere, content=body, headers=headers)
    assert (reply.status_code, reply.content) == (201, b'{"case":"K7Q4"}')
    assert reply.headers["retry-after"] == "7"
    assert "set-cookie" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    (request,) = elsewhere.seen
    assert str(request.url) == "https://house.example/under/v1/case/items"
    assert request.content == body
    assert request.headers["authorization"] == SECRET
    assert request.headers["idempotency-key"] == "5f"
    assert request.headers["user-agent"].startswith("nciihash/")
    assert not {"accept-language", "cookie", "origin", "x-forwarded-for"} & set(request.headers)


@pytest.mark.parametrize("status", [307, 401, 429, 500])
def test_what_the_clearinghouse_refuses_is_refused_here(status):
    elsewhere = Elsewhere(status, b'{"code":"x"}', {"Location": "https://other.example/"})
    reply = ask("GET", "/v1/case", elsewhere=elsewhere, headers={"Authorization": SECRET})
    assert (reply.status_code, reply.json()) == (status, {"code": "x"})
    assert "location" not in reply.headers
    assert len(elsewhere.seen) == 1


def test_a_clearinghouse_that_is_away_or_answers_without_end_is_called_out_of_reach(monkeypatch):
    def away(request):
        raise httpx.ConnectError("no route to 192.0.2.1", request=request)

    monkeypatch.setattr(serve_page, "_REPLY_MAX", 1000)
    for elsewhere in (away, Elsewhere(200, b"x" * 1001)):
        reply = ask("GET", "/v1/work", elsewhere=elsewhere)
        assert (reply.status_code, reply.json()) == (502, {"code": "offline"})


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:4321"},
        {"Host": "localhost:4321"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:80"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:80"},
    ],
)
def test_another_website_is_not_answered(headers):
    """Neither under a name of its own that leads here, nor across."""
    for path in ("/", "/v1/work", "/page/app.js"):
        elsewhere = Elsewhere()
        reply = ask("GET", path, elsewhere=elsewhere, headers=headers)
        assert (reply.status_code, reply.content) == (421, b"")
        assert elsewhere.seen == []


def test_bodies_are_bounded_and_of_one_kind():
    json_kind = {"Content-Type": "application/json"}
    assert ask("POST", "/v1/cases", content=b"x", headers={"Content-Type": "text/plain"}).is_error
    large = b" " * (2 * 2**20 + 1)
    assert ask("POST", "/v1/cases", content=large, headers=json_kind).status_code == 413


def test_the_page_comes_with_the_policies_that_it_has_elsewhere():
    for path, policy in page.POLICIES.items():
        reply = ask("GET", path)
        assert reply.headers["content-security-policy"] == policy
        assert reply.headers["referrer-policy"] == "no-referrer"
    assert json.loads(ask("GET", "/digests.json").content)["single_file"]


def test_without_a_clearinghouse_the_page_that_sends_nothing_is_served():
    reply = ask("GET", "/", server=None)
    assert reply.text == build().html
    assert "connect-src 'none'" in reply.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert ask("GET", "/v1/work", server=None).status_code == 404


@pytest.mark.parametrize("server", ["house.example", "http://house.example", "https://a:b@c.d"])
def test_an_address_that_cannot_be_right_is_refused_at_once(server):
    with pytest.raises(SettingInvalid):
        serve_page.create_app(server, HOST)
