"""Importing the hashes of another clearinghouse, over real HTTP."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from clearinghouse.errors import SettingInvalid
from clearinghouse.platforms import federation, keys
from clearinghouse.platforms.federation import FollowFailed, Round, Source, follow
from support.service_process import ENVIRONMENT, PROGRAM, ServiceProcess, bearer, command
from support.serving import ALL, credentials, item, opening, pdq
from support.stopncii import fetch_all, submit, values


class ScriptedServer:
    """An HTTP server that sends the pages that a test has queued."""

    def __init__(self):
        outer = self
        self.pages, self.requests = [], []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                status, body = outer.pages.pop(0) if outer.pages else (404, b"")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def queue(self, *records, token=None, status=200, **changes):
        page = {
            "count": len(records),
            "nextPageToken": token,
            "nextSetTimestamp": 20,
            "hasMoreRecords": token is not None,
            "hashRecords": list(records),
        } | changes
        self.pages.append((status, json.dumps(page).encode()))

    def end(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def other():
    running = ScriptedServer()
    yield running
    running.end()


def record(value, type="ImagePDQ", status="Active"):
    return {
        "lastModtimestamp": 12,
        "signalType": type,
        "hashValue": value,
        "hashStatus": status,
        "caseNumbers": [],
        "CSPFeedbacks": [{"source": "x", "feedbackValue": "SomethingNew"}],
    }


def run_round(service, other, key="key", pauses=None):
    return follow(
        service.parts.store,
        service.settings,
        "Friends",
        Source.of(other.url, key),
        clock=service.clock,
        pause=(pauses if pauses is not None else []).append,
    )


def test_listed_hashes_are_imported_and_unlisted_ones_withdrawn(service, other):
    peer = service.platform()
    one, two, video = pdq(), pdq(), "ab" * 16
    other.queue(record(one), record("ab" * 16, "VideoMD5"), token="p2")
    other.queue(
        record(two),
        record("x", "Text"),
        record("0" * 63),
        record(pdq(), status="Withdrawn"),
        record(pdq(), status="Deleted"),
    )
    assert run_round(service, other, "fetch,sub") == Round(
        held=3, passed_over=4, added=3, removed=0
    )
    assert sorted(values(fetch_all(peer))) == sorted([one, two, video])
    first, second = other.requests
    assert "startTimestamp=10" in first[0]
    assert "firstHand=true" in first[0]
    assert "nextPageToken=p2" in second[0]
    sent = {name.lower(): value for name, value in first[1].items()}
    assert (sent["x-functions-key"], sent["ocp-apim-subscription-key"]) == ("fetch", "sub")
    assert [len(hits) for hits in peer.match(one, two)] == [1, 1]

    other.queue(record(two), record(one, status="Withdrawn"))
    assert run_round(service, other) == Round(held=1, passed_over=1, added=0, removed=2)
    assert values(fetch_all(peer)) == [two]
    assert peer.match(one) == [[]]
    assert [e["op"] for e in peer.feed()["entries"]].count("remove") == 2
    other.queue(record(two))
    assert run_round(service, other) == Round(held=1, passed_over=0, added=0, removed=0)
    other.queue()
    assert run_round(service, other).removed == 1
    assert fetch_all(peer) == []


def test_a_failed_round_changes_nothing(service, other):
    peer, value = service.platform(), pdq()
    other.queue(record(value))
    run_round(service, other)
    before = fetch_all(peer)

    def cut():
        other.pages.append((200, b'{"count":1,"hashRec'))

    pauses = []
    for fail in (
        cut,
        lambda: other.queue(record(pdq()), count=2),
        lambda: other.queue(hasMoreRecords=True),
        lambda: other.pages.append((403, b"{}")),
        lambda: other.pages.extend([(503, b"")] * 4),
        lambda: other.pages.append((200, b"<html>")),
        lambda: other.pages.append((302, b"")),
    ):
        other.queue(record(pdq()), token="p2")
        fail()
        with pytest.raises(FollowFailed, match="othing was changed"):
            run_round(service, other, pauses=pauses)
        assert fetch_all(peer) == before
        assert other.pages == []
    assert len(pauses) == 3, "a transient error is retried"
    other.queue(record(value), token="p2")
    other.queue(token="p2")
    with pytest.raises(FollowFailed, match="no new token"):
        run_round(service, other)
    other.pages.append((503, b""))
    other.queue(record(value))
    assert run_round(service, other).held == 1


def test_a_page_that_is_too_long_is_not_read(service, other, monkeypatch):
    monkeypatch.setattr(federation, "REPLY_MAX", 1000)
    other.pages.append((200, b" " * 1001))
    with pytest.raises(FollowFailed, match="a page of more than"):
        run_round(service, other)


def test_imports_are_limited_and_skip_survivors_values(service, other):
    value = pdq()
    case, peer = service.open(item(value)), service.platform()
    other.queue(record(value))
    assert run_round(service, other).added == 0
    case.withdraw()
    assert peer.match(value) == [[]]
    limited = replace(service.settings, contributions_max=2)
    other.queue(*(record(pdq()) for _ in range(3)))
    with pytest.raises(FollowFailed, match="CLEARINGHOUSE_CONTRIBUTIONS_MAX"):
        follow(
            service.parts.store, limited, "Friends", Source.of(other.url, "k"), clock=service.clock
        )
    assert fetch_all(peer) == []


def test_the_operator_withdraws_all_hashes_of_a_platform(service, other):
    peer = service.platform("Friends")
    submit(peer, pdq())
    service.open()
    other.queue(*(record(pdq()) for _ in range(3)))
    run_round(service, other)
    assert len(fetch_all(peer)) == 5
    words = ("platform", "withdraw", "Friends", "--json")
    key = str(service.settings.key_file)
    done = command(*words, database=service.settings.database, CLEARINGHOUSE_KEY_FILE=key)
    assert json.loads(done.stdout) == {"platform": "Friends", "withdrawn": 4}
    assert len(fetch_all(peer)) == 1


def test_a_platform_without_a_key_can_get_one(service, other):
    other.queue(record(pdq()))
    run_round(service, other)
    store, now = service.parts.store, service.clock()
    with pytest.raises(keys.PlatformUnknown, match="has no key"):
        keys.rotate_key(store, "Friends", now)
    assert keys.list_keys(store, now) == []
    key = keys.add_platform(store, "Friends", ALL, now)
    assert keys.authenticate(store, key, now).name == "Friends"
    with pytest.raises(keys.PlatformExists):
        keys.add_platform(store, "Friends", ALL, now)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://example.org/v1", "k"),
        ("ftp://example.org/v1", "k"),
        ("https://", "k"),
        ("https://user:word@example.org/v1", "k"),
        ("https://example.org/v1?x=1", "k"),
        ("https://example.org:port/v1", "k"),
        ("https://example.org/v1", ""),
        ("https://example.org/v1", "a,b,c"),
        ("https://example.org/v1", "a\nb"),
        ("https://example.org/v1", "a,"),
    ],
)
def test_malformed_addresses_and_keys_are_refused(url, key):
    with pytest.raises(SettingInvalid):
        Source.of(url, key)


def test_keys_are_not_shown():
    assert "secret" not in repr(Source.of("https://example.org/v1/", "secret,secret2"))
    assert Source.of("https://example.org/v1/", "k").url == "https://example.org/v1"


class Pair:
    """Two clearinghouses, each with a key for the other."""

    def __init__(self, folder, empty_file):
        self.sides = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            shutil.copy(empty_file, folder / name / "db.sqlite3")
            self.sides.append(ServiceProcess(folder / name))
        self.keys = [side.platform(name="The other") for side in self.sides]
        self.own = [bearer(side.platform(name="Platform")) for side in self.sides]

    def follow(self, side, code=0, key=None):
        """Import the hashes of the other side into one side."""
        url = f"{self.sides[1 - side].address}/stopncii/v1"
        done = command(
            *("follow-stopncii", "--url", url, "--name", "The other", "--json"),
            database=self.sides[side].database,
            code=code,
            CLEARINGHOUSE_FOLLOW_KEY=self.keys[1 - side] if key is None else key,
        )
        return json.loads(done.stdout) if code == 0 else done.stderr

    def matched(self, side, value):
        """Match a value as a platform, once the index has what the command line wrote."""
        process, headers = self.sides[side], self.own[side]
        cursor = process.client.get("/v1/feed", params={"limit": 10_000}, headers=headers).json()
        # a time limit, not a number of requests: the index polls a few times per second
        end = time.monotonic() + 60
        while True:
            reply = process.client.post(
                "/v1/match", json={"type": "pdq", "values": [value]}, headers=headers
            ).raise_for_status()
            if reply.json()["as_of"] == cursor["cursor"]:
                return bool(reply.json()["matches"][0])
            assert time.monotonic() < end, "the index does not catch up"
            time.sleep(0.02)

    def open(self, side, value):
        case = self.sides[side].client.post("/v1/cases", json=opening(item(value))).json()
        return credentials(case["case"], case["passphrase"])

    def withdraw(self, side, case):
        assert self.sides[side].client.delete("/v1/case", headers=case).is_success


@pytest.fixture
def pair(tmp_path, empty_file):
    running = Pair(tmp_path, empty_file)
    yield running
    for side in running.sides:
        side.end(signal.SIGKILL)


def test_two_clearinghouses_share_and_withdraw(pair):
    ours, theirs = pdq(), pdq()
    case, other = pair.open(0, ours), pair.open(1, theirs)
    assert pair.follow(1) == {"held": 1, "passed_over": 0, "added": 1, "removed": 0}
    assert pair.follow(0) == {"held": 1, "passed_over": 0, "added": 1, "removed": 0}
    assert [pair.matched(side, v) for side in (0, 1) for v in (ours, theirs)] == [True] * 4
    # imported hashes are not sent back to where they came from
    pair.withdraw(0, case)
    assert not pair.matched(0, ours)
    assert pair.matched(1, ours), "until its next round"
    assert pair.follow(0)["added"] == 0
    assert not pair.matched(0, ours)
    assert pair.follow(1) == {"held": 0, "passed_over": 0, "added": 0, "removed": 1}
    assert not pair.matched(1, ours)
    pair.withdraw(1, other)
    assert pair.follow(0)["removed"] == 1
    assert not pair.matched(0, theirs)
    assert "status 401" in pair.follow(0, code=2, key="nciik_wrong")
    assert "CLEARINGHOUSE_FOLLOW_KEY" in pair.follow(0, code=2, key="")


def test_the_command_repeats_until_it_is_terminated(pair):
    pair.open(1, pdq())
    url = f"{pair.sides[1].address}/stopncii/v1"
    words = ("follow-stopncii", "--url", url, "--name", "The other", "--every", "1")
    running = subprocess.Popen(
        [*PROGRAM, *words, "--database", pair.sides[0].database, "--json"],
        env=os.environ | ENVIRONMENT | {"CLEARINGHOUSE_FOLLOW_KEY": pair.keys[1]},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert json.loads(running.stdout.readline())["added"] == 1
        assert json.loads(running.stdout.readline())["added"] == 0
    finally:
        running.terminate()
        running.wait(timeout=60)
        running.stdout.close()
