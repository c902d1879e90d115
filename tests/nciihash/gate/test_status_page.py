from dataclasses import replace

import pytest

from nciihash.gate.dialects.status_page import CONTENT_SECURITY_POLICY, render
from nciihash.gate.metrics import GateState, LaneState, Metrics
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.signals import Media
from support.browsers.axe import Axe
from support.browsers.chromium import find_browser, launched
from support.gate_thread import dialect_config, gate_config

NOW = 1_000_000.0
GOOD = GateState(
    signals=1_204_331,
    as_of=NOW - 14,
    current=True,
    stale=False,
    veiled=False,
    error=None,
    lanes={Media.IMAGE: LaneState(4, 2, 0), Media.VIDEO: LaneState()},
    upload_memory=38 << 20,
    verdicts_waiting=0,
    floods=0,
)
BAD = replace(
    GOOD,
    as_of=NOW - 5400,
    current=False,
    stale=True,
    error="The clearinghouse <b>does not</b> answer.",
    lanes={Media.IMAGE: LaneState(64, 2, 3), Media.VIDEO: LaneState()},
    upload_memory=250 << 20,
    verdicts_waiting=4210,
    floods=2,
)
BLOCK = Outcome(Decision.BLOCK, Reason.MATCH, stop=True, media=Media.IMAGE)
CLEAR = Outcome(Decision.CLEAR, Reason.NO_MATCH, media=Media.IMAGE)


@pytest.fixture
def config(tmp_path):
    dialects = {Dialect.HTTP: dialect_config(), Dialect.ICAP: dialect_config(dry_run=True)}
    return gate_config(tmp_path, dialects)


@pytest.fixture
def metrics():
    metrics = Metrics(clock=lambda: NOW)
    for _ in range(1200):
        metrics.observe(Dialect.HTTP, CLEAR)
    metrics.observe(Dialect.HTTP, BLOCK)
    metrics.observe(Dialect.ICAP, replace(CLEAR, dry_run=True), intended=BLOCK)
    return metrics


def test_shows_that_all_is_well(metrics, config):
    page = render(GOOD, metrics, config, now=NOW)
    assert '<p class="state good">Uploads are checked</p>' in page
    for text in ("1,204,331", "14 seconds ago", "whole hashes", "current", "38 MiB of 256 MiB"):
        assert text in page
    assert '<th scope="row">http</th><td class="block">1</td>' in page
    assert '<td class="clear">1,200</td>' in page
    assert (
        '<th scope="row">icap <small>would have been</small></th><td class="block">1</td>' in page
    )
    assert "icap is a dry run" in page


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"as_of": None, "stale": True}, "the bank is not complete yet"),
        ({"as_of": NOW - 5400, "stale": True}, "the bank is too old"),
        ({"as_of": NOW - 5400, "stale": True}, "90 minutes ago"),
        ({"error": "No answer."}, "and the feed cannot be followed at the moment"),
        ({"error": "No answer."}, "No answer."),
        ({"floods": 1}, "Many unlike pictures match 1 entry of the bank"),
        ({"floods": 2}, "Many unlike pictures match 2 entries of the bank"),
        ({"verdicts_waiting": 4210}, "4,210 verdicts not sent yet"),
        ({"upload_memory": 250 << 20}, "The memory for uploads is nearly full."),
        ({"lanes": {Media.VIDEO: LaneState(64)}}, "The queue of videos is full"),
        ({"veiled": True}, "veiled"),
        ({"current": False}, "catching up"),
    ],
)
def test_says_what_needs_attention(metrics, config, changes, sentence):
    assert sentence not in render(GOOD, metrics, config, now=NOW)
    assert sentence in render(replace(GOOD, **changes), metrics, config, now=NOW)


def test_says_when_nothing_is_stopped(metrics, config):
    dry = replace(config, dialects={Dialect.ICAP: config.dialects[Dialect.ICAP]})
    assert "none is stopped: this is a dry run" in render(GOOD, metrics, dry, now=NOW)


def test_counts_decisions_without_a_reference(metrics, config):
    metrics.reference_not_stored()
    assert "No reference for 1 decision:" in render(GOOD, metrics, config, now=NOW)


def test_updates_itself_only_where_that_was_asked_for(metrics, config):
    assert 'http-equiv="refresh"' not in render(GOOD, metrics, config, now=NOW)
    page = render(GOOD, metrics, config, now=NOW, refresh=True)
    assert '<meta http-equiv="refresh" content="10">' in page
    assert '<a href="?">Stop.</a>' in page


def test_errors_are_text(metrics, config):
    assert "The clearinghouse &lt;b&gt;does not&lt;/b&gt;" in render(BAD, metrics, config, now=NOW)


@pytest.fixture(scope="module")
def browser():
    if find_browser() is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright, launched(playwright) as browser:
        yield browser


@pytest.mark.parametrize("state", [GOOD, BAD])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1000])
def test_is_readable_for_everybody(browser, metrics, config, state, scheme, width):
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 700}}
    context = browser.new_context(**options)
    page = context.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    # as it is served, so that the policy applies to the page's own style
    page.route(
        "http://gate.example/",
        lambda route: route.fulfill(
            body=render(state, metrics, config, now=NOW),
            content_type="text/html; charset=utf-8",
            headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
        ),
    )
    page.goto("http://gate.example/")
    assert page.evaluate("getComputedStyle(document.body).marginTop") == "0px"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert refused == []
    violations, passed = Axe(page).look()
    assert violations == []
    assert passed > 10
    context.close()
