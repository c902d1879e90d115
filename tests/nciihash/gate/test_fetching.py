import asyncio
import ssl
import traceback
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nciihash.gate.dialects.fetching import Fetcher, FetchRefused, Refusal, system_resolver
from nciihash.gate.outcome import Reason
from nciihash.gate.upload import Upload, UploadMemory
from support.origin import Names, certificate, origin, respond

LOCAL = "127.0.0.1"
HOSTS = ["media.test@127.0.0.1"]
MOST = 1 << 20


def upload(most=MOST):
    return Upload(UploadMemory(most), most)


async def fetch(url, hosts, names, *, into=None, **options):
    """Return what a fetch received, and its media type; or why it was refused."""
    fetcher = Fetcher(resolver=names, **options)
    with into or upload() as received:
        try:
            media_type = await fetcher.fetch(url, received, hosts)
        except FetchRefused as error:
            return error.refusal
        return bytes(received.data), media_type


def test_a_file_is_fetched_from_the_address_that_was_checked():
    """`media.test` does not exist outside of the injected resolver."""

    async def run():
        names = Names(media_test=LOCAL)
        async with origin(
            lambda path: respond(path.encode(), Content_Type="Image/PNG; a=b")
        ) as served:
            found = await fetch(
                f"http://media.test:{served.port}/a%20b?c=d#e",
                [f"media.test:{served.port}@127.0.0.1"],
                names,
            )
            assert found == (b"/a%20b?c=d", "image/png")
            assert f"Host: media.test:{served.port}\r\n" in served.requests[0]
            assert "Accept-Encoding: identity\r\n" in served.requests[0]
            assert names.asked == ["media.test"]

    asyncio.run(run())


def test_a_name_is_resolved_once_for_each_request():
    """A resolver that answers differently the second time: DNS rebinding."""

    async def run():
        names = Names(media_test=[[LOCAL], ["169.254.169.254"]])
        async with origin(lambda _: respond(b"file")) as served:
            hosts = [f"media.test:{served.port}@127.0.0.0/8"]
            url = f"http://media.test:{served.port}/"
            assert await fetch(url, hosts, names) == (b"file", "")
            assert len(served.requests) == 1
            # the next request has the second answer
            assert await fetch(url, hosts, names) is Refusal.ADDRESS
            assert len(served.requests) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["10.0.0.1"],
        ["1.1.1.1", "127.0.0.1"],
        ["64:ff9b::7f00:1"],
    ],
)
def test_a_host_with_an_address_that_is_not_public_is_refused(addresses):
    async def run():
        async with origin(lambda _: respond(b"secret")) as served:
            host = f"media.test:{served.port}"
            found = await fetch(f"http://{host}/", [host], Names(media_test=addresses))
            assert found is Refusal.ADDRESS
            assert not served.requests

    asyncio.run(run())


def test_a_private_host_is_refused_outside_its_network():
    found = fetch("http://m.test/", ["m.test@10.0.0.0/8"], Names(m_test=["10.0.0.1", LOCAL]))
    assert asyncio.run(found) is Refusal.ADDRESS


def test_the_real_resolver_is_checked_as_well():
    resolve = system_resolver()

    async def run():
        addresses = await resolve("localhost")
        assert all(address.is_loopback for address in addresses)
        async with origin(lambda _: respond(b"file")) as served:
            host = f"localhost:{served.port}"
            url = f"http://{host}/"
            assert await fetch(url, [host], resolve) is Refusal.ADDRESS
            v4 = [f"127.0.0.1:{served.port}@127.0.0.1"]
            assert await fetch(f"http://127.0.0.1:{served.port}/", v4, resolve) == (b"file", "")

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "media.test",
        "//media.test/",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://media.test/",
        "gopher://media.test/",
        "data:image/png;base64,AAAA",
        "http://",
        "http:///path",
        "http://user@media.test/",
        "http://user:password@media.test/",
        "http://media.test@other.test/",
        "http://media.test./",
        "http://media.test:port/",
        "http://media test/",
        "http://media.test\\@other.test/",
        "http://media.test/\r\nX: y",
        "http://media.test/\0",
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://[::1/",
        "http://[fe80::1%25lo]/",
        "http://" + "a" * 300 + ".test/",
        "http://media.test/" + "a" * 10_000,
    ],
)
def test_urls_that_are_not_fetched(url):
    names = Names(media_test=LOCAL, other_test=LOCAL)
    assert asyncio.run(fetch(url, ["media.test@127.0.0.1"], names)) is Refusal.URL
    assert not names.asked


@pytest.mark.parametrize(
    "url",
    [
        "http://other.test/",
        "http://media.test.other.test/",
        "http://a.media.test/",
        "http://media.test:8080/",
        "http://media.test:443/",
        "https://media.test:80/",
        "http://media.test:0/",
        "http://media.test:99999999999/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
def test_hosts_and_ports_that_are_not_named(url):
    names = Names(media_test=LOCAL, other_test=LOCAL)
    assert asyncio.run(fetch(url, ["media.test@127.0.0.1"], names)) is Refusal.HOST
    assert not names.asked


def test_without_named_hosts_nothing_is_fetched():
    assert asyncio.run(fetch("http://media.test/", [], Names(media_test="1.1.1.1"))) is Refusal.HOST


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60) | st.text(max_size=40).map("http://media.test".__add__))
def test_any_other_url_is_refused_without_a_lookup(url):
    names = Names()
    assert asyncio.run(fetch(url, ["known.test"], names)) in {Refusal.URL, Refusal.HOST}
    assert not names.asked


def test_errors_do_not_contain_the_url(capsys):
    async def run():
        with upload() as received:
            await Fetcher(resolver=Names()).fetch("http://media.test/private", received, HOSTS)

    with pytest.raises(FetchRefused) as error:
        asyncio.run(run())
    traceback.print_exception(error.value)
    assert "private" not in str(error.value)
    assert "http://" not in capsys.readouterr().err.replace('"http://media.test/private"', "")


def test_a_name_without_an_address():
    assert asyncio.run(fetch("http://media.test/", ["media.test"], Names())) is Refusal.CONNECTION


def test_the_next_address_is_tried_where_one_refuses():
    async def run():
        async with origin(lambda _: respond(b"file")) as served:
            host = f"media.test:{served.port}"
            names = Names(media_test=["127.0.0.3", LOCAL])
            assert await fetch(f"http://{host}/", [f"{host}@127.0.0.0/8"], names) == (b"file", "")

    asyncio.run(run())


def test_a_host_that_does_not_answer():
    async def run():
        async with origin(lambda _: respond()) as served:
            port = served.port
        hosts = [f"media.test:{port}@127.0.0.1"]
        found = await fetch(f"http://media.test:{port}/", hosts, Names(media_test=LOCAL))
        assert found is Refusal.CONNECTION

    asyncio.run(run())


def redirects(answer):
    """Return what a fetch finds at a host that sends what `answer` returns, and its paths."""

    async def run():
        ports = []
        async with origin(lambda path: answer(path, ports[0])) as served:
            ports.append(served.port)
            host = f"media.test:{served.port}"
            names = Names(media_test=LOCAL, public_test=LOCAL, other_test=LOCAL)
            hosts = [f"{host}@127.0.0.1", f"public.test:{served.port}"]
            found = await fetch(f"http://{host}/", hosts, names)
            return found, [request.split(" ")[1] for request in served.requests]

    return asyncio.run(run())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_a_named_host_is_followed(status):
    found, paths = redirects(
        lambda path, _: respond(b"file") if path == "/b/c" else respond(b"", status, Location="b/c")
    )
    assert found == (b"file", "")
    assert paths == ["/", "/b/c"]


@pytest.mark.parametrize(
    ("location", "refusal"),
    [
        ("http://other.test:{port}/", Refusal.HOST),
        ("http://127.0.0.1:{port}/", Refusal.HOST),
        ("http://[::1]:{port}/", Refusal.HOST),
        ("http://169.254.169.254/", Refusal.HOST),
        ("http://media.test/", Refusal.HOST),
        ("//other.test:{port}/", Refusal.HOST),
        ("http://public.test:{port}/", Refusal.ADDRESS),
        ("http://u:p@media.test:{port}/", Refusal.URL),
        ("file:///etc/passwd", Refusal.URL),
        ("ftp://media.test/", Refusal.URL),
        ("http://[", Refusal.URL),
        ("http://media.test.:{port}/", Refusal.URL),
    ],
)
def test_each_redirect_is_checked(location, refusal):
    found, paths = redirects(lambda _, port: respond(b"", 302, Location=location.format(port=port)))
    assert found is refusal
    assert paths == ["/"]


@pytest.mark.parametrize("location", ["/", "/next", ""])
def test_endless_redirects(location):
    found, paths = redirects(lambda *_: respond(b"", 302, Location=location))
    assert found is Refusal.REDIRECTS
    assert len(paths) == 4


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 500, 503])
def test_other_responses(status):
    found, _ = redirects(lambda *_: respond(b"" if status in {204, 304} else b"x", status))
    assert found is Refusal.STATUS


def test_a_compressed_response_is_not_decompressed():
    bomb = zlib.compress(bytes(10 << 20))
    for encoding in ("gzip", "deflate", "br", "identity, gzip"):
        found, _ = redirects(lambda *_, each=encoding: respond(bomb, Content_Encoding=each))
        assert found is Refusal.ENCODING
    found, _ = redirects(lambda *_: respond(b"file", Content_Encoding="Identity"))
    assert found == (b"file", "")


def test_an_endless_body_is_cut_at_the_size_limit():
    async def endless():
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield bytes(1 << 16)

    async def run():
        memory = UploadMemory(MOST)
        async with origin(lambda _: endless()) as served:
            host = f"media.test:{served.port}"
            received = Upload(memory, MOST)
            found = await fetch(
                f"http://{host}/", [f"{host}@127.0.0.1"], Names(media_test=LOCAL), into=received
            )
            assert found == (b"", "")
            assert received.refused is Reason.TOO_LARGE
            assert received.size < MOST + (1 << 20)
            assert memory.used == 0
            await served.broken.wait()

    asyncio.run(run())


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\nfile"])
def test_a_slow_response_is_cut_at_the_time_limit(sent):
    async def slow():
        yield sent
        await asyncio.Event().wait()

    async def run():
        async with origin(lambda _: slow()) as served:
            host = f"media.test:{served.port}"
            found = await fetch(
                f"http://{host}/", [f"{host}@127.0.0.1"], Names(media_test=LOCAL), seconds=0.1
            )
            assert found is Refusal.TIMEOUT

    asyncio.run(run())


def test_a_slow_resolver_is_cut_at_the_time_limit():
    async def never(_):
        await asyncio.Event().wait()

    found = fetch("http://media.test/", ["media.test"], never, seconds=0.05)
    assert asyncio.run(found) is Refusal.TIMEOUT


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfile",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * (1 << 20) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"",
    ],
)
def test_a_malformed_response(sent):
    found, _ = redirects(lambda *_: sent)
    assert found is Refusal.CONNECTION


def test_the_certificate_must_have_the_name_of_the_url(tmp_path):
    async def run():
        server, client = certificate(tmp_path, "media.test")
        names = Names(media_test=LOCAL, other_test=LOCAL)
        asked = []
        server.sni_callback = lambda _, name, __: asked.append(name)
        async with origin(lambda _: respond(b"file"), tls=server) as served:
            hosts = [f"{name}:{served.port}@127.0.0.1" for name in ("media.test", "other.test")]
            url = f"https://media.test:{served.port}/"
            assert await fetch(url, hosts, names, tls=client) == (b"file", "")
            assert asked == ["media.test"]
            assert f"Host: media.test:{served.port}\r\n" in served.requests[0]
            other = f"https://other.test:{served.port}/"
            assert await fetch(other, hosts, names, tls=client) is Refusal.CONNECTION
            untrusting = ssl.create_default_context()
            assert await fetch(url, hosts, names, tls=untrusting) is Refusal.CONNECTION
            assert len(served.requests) == 1

    asyncio.run(run())


def test_a_redirect_from_https_to_http_is_refused(tmp_path):
    async def run():
        server, client = certificate(tmp_path, "media.test")
        async with origin(lambda _: respond(b"file")) as plain:
            location = f"http://media.test:{plain.port}/"
        async with origin(lambda _: respond(b"", 302, Location=location), tls=server) as served:
            hosts = [f"media.test:{port}@127.0.0.1" for port in (plain.port, served.port)]
            url = f"https://media.test:{served.port}/"
            assert await fetch(url, hosts, Names(media_test=LOCAL), tls=client) is Refusal.REDIRECTS
            assert not plain.requests

    asyncio.run(run())


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    found, _ = redirects(lambda *_: respond(b"file"))
    assert found == (b"file", "")
