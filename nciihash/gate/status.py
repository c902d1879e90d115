"""Health checks, metrics, and the status page of a gate."""

import time
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nciihash.gate.dialects.requests import guarded, json_response, problem
from nciihash.gate.dialects.status_page import CONTENT_SECURITY_POLICY, render
from nciihash.gate.gate import Gate
from nciihash.gate.metrics import CONTENT_TYPE
from nciihash.gate.outcome import Dialect


def status_routes(gate: Gate) -> list[BaseRoute]:
    """Return the routes of the health checks, `/metrics` and the status page, `/`.

    `/metrics` and the status page require the token of the HTTP dialect. The health checks reveal
    nothing, and load balancers have no token.
    """

    async def live(_: Request) -> Response:
        return json_response({"status": "live"})

    async def ready(_: Request) -> Response:
        state = gate.state()
        if not state.stale:
            return json_response({"status": "ready"})
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "not_ready",
            "The gate does not check uploads",
            "Wait until the bank has everything in the feed. The status page says what prevents it."
            if state.as_of is None
            else "The bank is too old. The status page says why the feed cannot be followed.",
        )

    async def metrics(_: Request) -> Response:
        content = gate.metrics.read(gate.state())
        return Response(
            content, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
        )

    async def page(request: Request) -> Response:
        refresh = "refresh" in request.query_params
        return Response(
            render(gate.state(), gate.metrics, gate.config, now=time.time(), refresh=refresh),
            media_type="text/html",
            headers={
                "Cache-Control": "no-store",
                "Content-Security-Policy": CONTENT_SECURITY_POLICY,
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
            },
        )

    return [
        Route("/", guarded(gate, Dialect.HTTP, page)),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", guarded(gate, Dialect.HTTP, metrics)),
    ]
