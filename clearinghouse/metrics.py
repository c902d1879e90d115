"""Metrics for Prometheus: requests, their duration, the write lock, and the state of the index.

They contain nothing about a person: a request is counted by method, route pattern and status, and
all unknown paths as one route. Figures about cases are those of `clearinghouse stats`. Each
application has a registry of its own.
"""

import time
from collections import Counter as Counted
from contextvars import ContextVar
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearinghouse.platforms.health import Concern, alerts
from clearinghouse.service import Service

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 35.0)
# finer at the bottom: a write blocks all others, and its budget is 50 ms
_LOCK_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE"})
_NO_ROUTE: Final = "none"  # for unknown paths
_BACKGROUND: Final = "background"  # for writes that no request caused

# the request being served by this thread or task
_request: ContextVar[Scope | None] = ContextVar("request", default=None)


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "clearinghouse_requests",
            "Requests handled.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "clearinghouse_request_seconds",
            "Time from the headers of a request to the end of its response, long polling included.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._lock = Histogram(
            "clearinghouse_write_lock_seconds",
            "Time that each write transaction held the write lock, commit included.",
            ("method", "route"),
            buckets=_LOCK_SECONDS,
            registry=self.registry,
        )
        self._log = self._gauge("log_entries", "The last position in the log.")
        self._lag = self._gauge(
            "index_lag_entries", "Log entries that the index does not have yet."
        )
        self._age = self._gauge("index_age_seconds", "Time since the index was last up to date.")
        self._ready = self._gauge("index_ready", "Whether the index covers the whole log.")
        self._waiting = self._gauge(
            "reviews_open", "Questions that wait for the operator's decision."
        )
        self._failing = self._gauge(
            "upkeep_failing", "Maintenance tasks that fail; the service's log has the errors."
        )
        self._refused = Gauge(
            "clearinghouse_purge_refused",
            "Whether the hourly purge waits for the operator's word; the service's log says why.",
            ("what",),
            registry=self.registry,
        )
        self._unsaved = self._gauge(
            "budgets_unsaved", "Whether budgets of lookups are counted in memory, without a lease."
        )
        self._runs = Gauge(
            "clearinghouse_argon2_runs",
            "Passphrases checked and verifiers created by this worker since it started.",
            ("what",),
            registry=self.registry,
        )
        self._alerts = Gauge(
            "clearinghouse_platform_alerts",
            "Platforms that are silent, do not acknowledge, or whose last key expires soon.",
            ("concern",),
            registry=self.registry,
        )
        self._figures = Gauge(
            "clearinghouse_figures",
            "The figures of `clearinghouse stats`.",
            ("what",),
            registry=self.registry,
        )

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(f"clearinghouse_{name}", description, registry=self.registry)

    def record_write(self, seconds: float) -> None:
        """Record how long a write transaction held the lock, for the current request."""
        scope = _request.get()
        method, route = ("", _BACKGROUND) if scope is None else _labels(scope)
        self._lock.labels(method, route).observe(seconds)

    def read(self, service: Service) -> bytes:
        """Return the current metrics in the Prometheus text format."""
        with service.store.read() as tx:
            head, figures = tx.log.head(), tx.figures.totals()
            questions = len(tx.reviews.list_open())
            concerns = Counted(alert.concern for alert in alerts(tx, now=service.clock()))
        live = service.live
        self._log.set(head)
        self._lag.set(max(head - live.seq, 0))
        self._age.set(max(time.monotonic() - live.caught_up_at, 0.0))
        self._ready.set(live.caught_up)
        self._waiting.set(questions)
        self._failing.set(len(service.failing))
        for what in ("clock", "expiry"):
            self._refused.labels(what).set(what in service.refused)
        self._unsaved.set(service.budgets.failing)
        self._runs.labels("check").set(service.checks.checked)
        self._runs.labels("opening").set(service.checks.made)
        for concern in Concern:
            self._alerts.labels(concern).set(concerns[concern])
        for name, count in figures.items():
            self._figures.labels(name).set(count)
        return generate_latest(self.registry)


class MetricsMiddleware:
    """Middleware that counts each request and measures its duration.

    Args:
        app: the application.
        metrics: where to count.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        start = time.monotonic()
        token = _request.set(scope)

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            _request.reset(token)
            method, route = _labels(scope)
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - start)


def _labels(scope: Scope) -> tuple[str, str]:
    """Return the method and route pattern of a request; never its path, which may be anything."""
    route = getattr(scope.get("route"), "path", _NO_ROUTE)
    return (scope["method"] if scope["method"] in _METHODS else "other"), route
