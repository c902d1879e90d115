"""Figures for Prometheus: how many requests, how long they took, how far the index has got.

Nothing about anybody: a request is counted under its address's pattern, its method and its status;
what is at no address of ours is counted as one. Figures about cases are the operator's own counts
(`clearinghouse stats`). Each application has a registry of its own.
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
# finer at the bottom: whoever writes keeps all others waiting, and 50 ms is what we allow ourselves
_LOCK_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE"})
_ELSEWHERE: Final = "none"  # what is no address of ours
_BACKGROUND: Final = "background"  # what no request asked for

# the request that this thread or task works for
_request: ContextVar[Scope | None] = ContextVar("request", default=None)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "clearinghouse_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "clearinghouse_request_seconds",
            "From a request's headers to the end of its answer; a feed that waits counts too.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._lock = Histogram(
            "clearinghouse_write_lock_seconds",
            "How long each write transaction kept other writers waiting, commit included.",
            ("method", "route"),
            buckets=_LOCK_SECONDS,
            registry=self.registry,
        )
        self._log = self._gauge("log_entries", "The last place in the log.")
        self._lag = self._gauge("index_lag_entries", "Places of the log that the index lacks.")
        self._age = self._gauge("index_age_seconds", "Since the index was last up to date.")
        self._ready = self._gauge("index_ready", "Whether the index answers for the whole log.")
        self._waiting = self._gauge("reviews_open", "Questions that wait for the operator.")
        self._failing = self._gauge("upkeep_failing", "Parts of the upkeep that fail; see the log.")
        self._runs = Gauge(
            "clearinghouse_argon2_runs",
            "Passphrases checked and verifiers made by this worker since it started.",
            ("what",),
            registry=self.registry,
        )
        self._alerts = Gauge(
            "clearinghouse_platform_alerts",
            "Platforms that do not come, do not confirm, or whose last key ends soon.",
            ("concern",),
            registry=self.registry,
        )
        self._figures = Gauge(
            "clearinghouse_figures",
            "What `clearinghouse stats` counts.",
            ("what",),
            registry=self.registry,
        )

    def _gauge(self, name: str, says: str) -> Gauge:
        return Gauge(f"clearinghouse_{name}", says, registry=self.registry)

    def wrote(self, seconds: float) -> None:
        """Note how long a write transaction held the lock, under the request that it was for."""
        scope = _request.get()
        method, route = ("", _BACKGROUND) if scope is None else _named(scope)
        self._lock.labels(method, route).observe(seconds)

    def read(self, service: Service) -> bytes:
        """Write all of it down for Prometheus, as it stands now."""
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
        self._runs.labels("check").set(service.checks.checked)
        self._runs.labels("opening").set(service.checks.made)
        for concern in Concern:
            self._alerts.labels(concern).set(concerns[concern])
        for name, count in figures.items():
            self._figures.labels(name).set(count)
        return generate_latest(self.registry)


class MetricsMiddleware:
    """Count each request and the seconds that it took.

    Args:
        app: what serves the requests.
        metrics: where they are counted.
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
        begun = time.monotonic()
        token = _request.set(scope)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            _request.reset(token)
            method, route = _named(scope)
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - begun)


def _named(scope: Scope) -> tuple[str, str]:
    """Return a request's method and the pattern of its route; its path may hold anything."""
    route = getattr(scope.get("route"), "path", _ELSEWHERE)
    return (scope["method"] if scope["method"] in _METHODS else "other"), route
