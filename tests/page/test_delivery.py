"""How the service delivers the page: headers, sizes and digests."""

import gzip
import hashlib
import json
import subprocess
import sys

import httpx

from clearinghouse.page import manifest
from support.paths import SITE

SIZE_MAX = 162_500  # bytes of all files of the page except catalogues
SENT_MAX = 64_000  # bytes of the same, compressed


def test_the_page_and_its_worker_have_their_policies(browser, serving):
    context = browser.new_context()
    page_policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; media-src blob:; "
        "worker-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types w"
    )
    for path, policy in (("/", page_policy), ("/page/worker/worker.js", None)):
        reply = context.request.get(serving.address + path)
        headers = reply.headers
        assert reply.status == 200
        if policy:
            assert headers["content-security-policy"] == policy
        else:
            assert "connect-src" not in headers["content-security-policy"]
            assert headers["content-security-policy"].startswith(
                "default-src 'none'; script-src 'self';"
            )
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "set-cookie" not in headers
    with httpx.Client(base_url=serving.address) as client:
        for path in ("/", "/page/app.js", "/page/words/ar.json"):
            plain = client.get(path, headers={"Accept-Encoding": "identity"})
            packed = client.get(path, headers={"Accept-Encoding": "br, gzip"})
            assert "content-encoding" not in plain.headers
            assert packed.headers["content-encoding"] == "gzip"
            assert packed.content == plain.content
            assert int(packed.headers["content-length"]) < len(plain.content) * 0.6
            assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    for path in ("/page/index.html", "/page/../app.py", "/page/words/de.json", "/page/"):
        assert context.request.get(serving.address + path).status == 404
    context.close()


def test_the_page_is_small_and_needs_nothing_else():
    parts = [p for p in SITE.rglob("*") if p.is_file() and p.suffix != ".json"]
    assert {p.suffix for p in parts} == {".html", ".css", ".js"}
    assert sum(p.stat().st_size for p in parts) <= SIZE_MAX
    assert sum(len(gzip.compress(p.read_bytes(), mtime=0)) for p in parts) <= SENT_MAX
    assert {name for _, name, _ in manifest.served()} == {
        p.relative_to(SITE).as_posix() for p in SITE.rglob("*") if p.is_file()
    }


def test_the_digests_can_be_reproduced_from_the_sources(serving, tmp_path):
    with httpx.Client(base_url=serving.address) as client:
        published = client.get("/digests.json").json()
        for path, digest in published["paths"].items():
            assert hashlib.sha256(client.get(path).content).hexdigest() == digest
    assert "/page/worker/worker.js" in published["paths"]
    single, listed = tmp_path / "page.html", tmp_path / "digests.json"
    command = [sys.executable, "-m", "clearinghouse.page.single_file", str(single), str(listed)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(listed.read_bytes()) == published
    assert hashlib.sha256(single.read_bytes()).hexdigest() == published["single_file"]
    assert process.stdout == f"{published['single_file']}  {single}\n"
