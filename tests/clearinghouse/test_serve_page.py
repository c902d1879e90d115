"""The survivor's page served locally: which requests are answered and which are forwarded."""

import asyncio
import json
from typing import cast

import httpx
import pytest
from fastapi.routing import APIRoute

from clearinghouse import serve_page
from clearinghouse.errors import SettingInvalid
from clearinghouse.page.single_file import build
from clearinghouse.routes import page, survivors

HOST = "127.0.0.1:4321"
SECRET = "Case SzdRNC0yOVhELU1NM1I6c2l4IHdvcmRz"


class RemoteService:
    """A clearinghouse that records its requests."""

    def __init__(self, status=200, content=b'{"fine":true}', headers=None):
        self.requests = []
        self.response = status, content, headers or {}

    def __call__(self, request):
        self.requests.append(request)
        status, content, headers = self.response
        return httpx.Response(status, content=content, headers=headers)


def ask(
    method, path, *, remote_service=None, server="https://clearinghouse.example/under", **options
):
    """Send a request to the local server, as a browser does to its own address."""
    remote = httpx.MockTransport(remote_service or RemoteService())
    app = serve_page.create_app(server, HOST, transport=remote)

    async def send():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def test_only_the_survivors_api_is_forwarded():
    routes = cast("list[APIRoute]", survivors.router.routes)
    ours = {
        (method, route.path.replace("{item}", "{item:int}"))
        for route in routes
        for method in route.methods
    }
    assert set(serve_page.FORWARDED) == ours
    for method, path in (
        *(("GET", "/v1/feed"), ("POST", "/v1/match"), ("GET", "/metrics"), ("PUT", "/v1/case")),
        *(("GET", "/v1/case/../feed"), ("DELETE", "/v1/case/items/x"), ("GET", "/openapi.json")),
    ):
        remote_service = RemoteService()
        assert ask(method, path, remote_service=remote_service).status_code in {404, 405, 422}, path
        assert remote_service.requests == []


def test_a_request_is_forwarded_unchanged_without_anything_about_its_sender():
    remote_service = RemoteService(
        201, b'{"case":"K7Q4"}', {"Retry-After": "7", "Set-Cookie": "seen=1"}
    )
    body = b'{"items":[]}'
    headers = {
        "Authorization": SECRET,
        "Idempotency-Key": "5f",
        "Content-Type": "application/json",
        "User-Agent": "a distinctive browser",
        "Accept-Language": "ur",
        "Cookie": "a=b",
        "Origin": f"http://{HOST}",
        "X-Forwarded-For": "192.0.2.1",
    }
    path = "/v1/case/items"
    reply = ask("POST", path, remote_service=remote_service, content=body, headers=headers)
    assert (reply.status_code, reply.content) == (201, b'{"case":"K7Q4"}')
    assert reply.headers["retry-after"] == "7"
    assert "set-cookie" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    (request,) = remote_service.requests
    assert str(request.url) == "https://clearinghouse.example/under/v1/case/items"
    assert request.content == body
    assert request.headers["authorization"] == SECRET
    assert request.headers["idempotency-key"] == "5f"
    assert request.headers["user-agent"].startswith("nciihash/")
    assert not {"accept-language", "cookie", "origin", "x-forwarded-for"} & set(request.headers)


@pytest.mark.parametrize("status", [307, 401, 429, 500])
def test_refusals_of_the_clearinghouse_are_returned(status):
    remote_service = RemoteService(status, b'{"code":"x"}', {"Location": "https://other.example/"})
    reply = ask("GET", "/v1/case", remote_service=remote_service, headers={"Authorization": SECRET})
    assert (reply.status_code, reply.json()) == (status, {"code": "x"})
    assert "location" not in reply.headers
    assert len(remote_service.requests) == 1


def test_an_unreachable_or_endless_clearinghouse_is_reported_as_offline(monkeypatch):
    def unreachable(request):
        raise httpx.ConnectError("no route to 192.0.2.1", request=request)

    monkeypatch.setattr(serve_page, "_REPLY_MAX", 1000)
    for remote_service in (unreachable, RemoteService(200, b"x" * 1001)):
        reply = ask("GET", "/v1/work", remote_service=remote_service)
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
def test_requests_of_other_websites_are_refused(headers):
    """Neither by DNS rebinding nor by a cross-site request."""
    for path in ("/", "/v1/work", "/page/app.js"):
        remote_service = RemoteService()
        reply = ask("GET", path, remote_service=remote_service, headers=headers)
        assert (reply.status_code, reply.content) == (421, b"")
        assert remote_service.requests == []


def test_bodies_are_bounded_and_must_be_json():
    json_kind = {"Content-Type": "application/json"}
    assert ask("POST", "/v1/cases", content=b"x", headers={"Content-Type": "text/plain"}).is_error
    large = b" " * (2 * 2**20 + 1)
    assert ask("POST", "/v1/cases", content=large, headers=json_kind).status_code == 413


def test_the_page_has_the_same_policies_as_at_a_clearinghouse():
    for path, policy in page.POLICIES.items():
        reply = ask("GET", path)
        assert reply.headers["content-security-policy"] == policy
        assert reply.headers["referrer-policy"] == "no-referrer"
    assert json.loads(ask("GET", "/digests.json").content)["single_file"]


def test_without_a_clearinghouse_the_offline_edition_is_served():
    reply = ask("GET", "/", server=None)
    assert reply.text == build().html
    assert "connect-src 'none'" in reply.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert ask("GET", "/v1/work", server=None).status_code == 404


@pytest.mark.parametrize(
    "server", ["clearinghouse.example", "http://clearinghouse.example", "https://a:b@c.d"]
)
def test_an_invalid_address_is_refused_at_startup(server):
    with pytest.raises(SettingInvalid):
        serve_page.create_app(server, HOST)
