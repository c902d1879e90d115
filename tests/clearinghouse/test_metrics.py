"""Metrics for Prometheus, without anything about a person."""

import re
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from support.serving import Clock, RunningService, credentials, item, pdq, problem

KEY = "a key for metrics"


@pytest.fixture
def service(settings):
    clock = Clock()
    app = create_app(replace(settings, metrics_key=KEY), clock=clock)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield RunningService(app, client, clock, settings)


def read(service):
    reply = service.client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    samples = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            samples[sample.name, *sorted(sample.labels.values())] = sample.value
    return samples, reply.text


def test_requests_are_counted_by_route_pattern(service):
    value = pdq()
    case = service.open(item(value))
    case.withdraw(1)
    peer = service.platform("Secret Platform")
    peer.match(value)
    service.client.get("/v1/case", headers=credentials(case.number, "wrong words"))
    service.client.get(f"/nowhere/{case.number}")
    service.client.request("BREW", "/v1/cases")
    samples, text = read(service)
    total = "clearinghouse_requests_total"
    assert samples[total, "/v1/cases", "201", "POST"] == 1
    assert samples[total, "/v1/case/items/{item}", "200", "DELETE"] == 1
    assert samples[total, "/v1/case", "401", "GET"] == 1
    assert samples[total, "404", "GET", "none"] == 1
    assert samples["clearinghouse_request_seconds_count", "/v1/match"] == 1
    assert samples["clearinghouse_log_entries",] == 2
    assert samples["clearinghouse_index_lag_entries",] == 0
    assert samples["clearinghouse_index_ready",] == 1
    assert samples["clearinghouse_figures", "signals"] == 0
    assert samples["clearinghouse_platform_alerts", "silent"] == 0
    for secret in (value, case.number, case.passphrase.split()[0], peer.key, "Secret", "BREW"):
        assert secret not in text
    assert re.findall(r"nowhere|testclient|127\.0", text) == []
    service.clock.advance(days=3)
    assert read(service)[0]["clearinghouse_platform_alerts", "silent"] == 1


def test_the_key_is_required(service):
    get = service.client.get
    problem(get("/metrics"), 401, "credentials_wrong")
    problem(get("/metrics", headers={"Authorization": "Bearer x"}), 401, "credentials_wrong")
    problem(get("/metrics", headers={"Authorization": KEY}), 401, "credentials_wrong")
    assert "/metrics" not in get("/openapi.json").json()["paths"]


def test_without_a_configured_key_the_path_does_not_exist(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        problem(client.get("/metrics"), 404, "not_found")


def test_a_stalled_index_shows(service):
    service.parts.waiters.closed = True
    service.parts.waiters.poke()
    service.open()
    service.parts.live.caught_up_at -= 100
    samples, _ = read(service)
    assert samples["clearinghouse_index_age_seconds",] >= 99
