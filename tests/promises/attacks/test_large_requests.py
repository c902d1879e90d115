"""Attack: stop every submission and withdrawal with one large request."""

import re

import pytest

from support.service_process import ServiceProcess
from support.serving import credentials, item, opening, pdq

METRICS_KEY = "m" * 32
REQUEST_MAX = 1024  # hashes that a request may have


@pytest.fixture
def process(tmp_path):
    with ServiceProcess(tmp_path, CLEARINGHOUSE_METRICS_KEY=METRICS_KEY) as running:
        yield running


def video(count):
    return item(*(pdq() for _ in range(count)), media="video")


def lock_figures(process, method="POST", route="/v1/cases"):
    """Return how often such requests have held the write lock, and for how many seconds in all."""
    headers = {"Authorization": f"Bearer {METRICS_KEY}"}
    text = process.client.get("/metrics", headers=headers).text
    labels = re.escape(f'{{method="{method}",route="{route}"}}')
    name = rf"clearinghouse_write_lock_seconds_%s{labels} (\S+)"
    return [float(re.search(name % figure, text)[1]) for figure in ("count", "sum")]


def test_an_oversized_request_is_refused_without_the_lock(process, record_property):
    """Regression: of eight files with 2,048 signals, each was compared with all before, locked."""
    survivor = process.client.post("/v1/cases", json=opening(item(pdq()))).json()
    before, _ = lock_figures(process)
    sent = process.client.post("/v1/cases", json=opening(*(video(2048) for _ in range(8))))
    assert (sent.status_code, sent.json()["code"]) == (422, "invalid_request")
    assert lock_figures(process)[0] == before, "it never held the lock"
    secret = credentials(survivor["case"], survivor["passphrase"])
    assert process.client.delete("/v1/case", headers=secret).json()["withdrawn"] == 1
    record_property("got", "a refusal, and the lock for 0 s")


def test_the_largest_accepted_request_takes_the_lock_twice(process, record_property):
    process.client.post("/v1/cases", json=opening(item(pdq()))).raise_for_status()
    count, seconds = lock_figures(process)
    for _ in range(5):
        process.client.post("/v1/cases", json=opening(video(REQUEST_MAX))).raise_for_status()
    more, later = lock_figures(process)
    assert more - count == 10, "once to spend the proof, once to store"
    record_property("got", f"the lock for {(later - seconds) / 5 * 1000:.0f} ms a request")
    refused = process.client.post("/v1/cases", json=opening(video(REQUEST_MAX + 1)))
    assert refused.status_code == 422


def test_withdrawing_values_of_another_case(process, record_property):
    """A record that loses one of two signals is moved, so a twin case made withdrawal slower."""
    values = [pdq() for _ in range(REQUEST_MAX)]
    one, two = (
        process.client.post("/v1/cases", json=opening(item(*values))).raise_for_status().json()
        for _ in range(2)
    )
    secret = credentials(one["case"], one["passphrase"])
    reply = process.client.delete("/v1/case", headers=secret).raise_for_status().json()
    assert (reply["withdrawn"], reply["state"]) == (1, "withdrawn")
    count, seconds = lock_figures(process, "DELETE", "/v1/case")
    record_property("got", f"the lock for {seconds / count * 1000:.0f} ms, {count:.0f} times")
    secret = credentials(two["case"], two["passphrase"])
    status = process.client.get("/v1/case", headers=secret).raise_for_status().json()
    assert status["state"] == "open", "the twin is unchanged"
