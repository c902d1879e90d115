"""Stopping every submission and every withdrawal with one large request."""

import re

import pytest

from support.service_process import ServiceProcess
from support.serving import credentials, item, opening, pdq

METRICS_KEY = "m" * 32
OF_TODAY = 1024  # hashes that one request may hold


@pytest.fixture
def process(tmp_path):
    with ServiceProcess(tmp_path, CLEARINGHOUSE_METRICS_KEY=METRICS_KEY) as running:
        yield running


def film(count):
    return item(*(pdq() for _ in range(count)), media="video")


def held(process, method="POST", route="/v1/cases"):
    """Read how often, and how long in all, such requests have kept other writers waiting."""
    headers = {"Authorization": f"Bearer {METRICS_KEY}"}
    text = process.client.get("/metrics", headers=headers).text
    labels = re.escape(f'{{method="{method}",route="{route}"}}')
    name = rf"clearinghouse_write_lock_seconds_%s{labels} (\S+)"
    return [float(re.search(name % what, text)[1]) for what in ("count", "sum")]


def test_a_request_that_kept_all_others_waiting_for_a_minute_is_refused(process, record_property):
    """Eight files of 2,048 signals, each compared with all before it while holding the lock."""
    survivor = process.client.post("/v1/cases", json=opening(item(pdq()))).json()
    before, _ = held(process)
    sent = process.client.post("/v1/cases", json=opening(*(film(2048) for _ in range(8))))
    assert (sent.status_code, sent.json()["code"]) == (422, "invalid_request")
    assert held(process)[0] == before, "it never had the lock"
    secret = credentials(survivor["case"], survivor["passphrase"])
    assert process.client.delete("/v1/case", headers=secret).json()["withdrawn"] == 1
    record_property("got", "a refusal, and the lock for 0 s")


def test_the_largest_request_that_is_taken_has_the_lock_twice(process, record_property):
    process.client.post("/v1/cases", json=opening(item(pdq()))).raise_for_status()
    count, seconds = held(process)
    for _ in range(5):
        process.client.post("/v1/cases", json=opening(film(OF_TODAY))).raise_for_status()
    more, later = held(process)
    assert more - count == 10, "once to pay, once to be filed"
    record_property("got", f"the lock for {(later - seconds) / 5 * 1000:.0f} ms a request")
    refused = process.client.post("/v1/cases", json=opening(film(OF_TODAY + 1)))
    assert refused.status_code == 422


def test_withdrawing_what_another_case_holds_too(process, record_property):
    """A record that loses one of two signals is moved, so a twin case made every step dearer."""
    values = [pdq() for _ in range(OF_TODAY)]
    one, two = (
        process.client.post("/v1/cases", json=opening(item(*values))).raise_for_status().json()
        for _ in range(2)
    )
    secret = credentials(one["case"], one["passphrase"])
    reply = process.client.delete("/v1/case", headers=secret).raise_for_status().json()
    assert (reply["withdrawn"], reply["state"]) == (1, "withdrawn")
    count, seconds = held(process, "DELETE", "/v1/case")
    record_property("got", f"the lock for {seconds / count * 1000:.0f} ms, {count:.0f} times")
    secret = credentials(two["case"], two["passphrase"])
    status = process.client.get("/v1/case", headers=secret).raise_for_status().json()
    assert status["state"] == "open", "the twin stays as it was"
