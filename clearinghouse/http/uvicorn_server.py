"""A uvicorn server that reports its address, and drains before it shuts down.

During the drain it accepts and serves requests as before, closes each connection after the response
(`Connection: close`), and its readiness check fails. A load balancer so stops using it before it
refuses connections.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn

# Seconds in which the connections that were accepted last can send their first request.
LAST_REQUEST: Final = 0.5


class Server(uvicorn.Server):
    """A server that reports its address at start, and drains and ends long polls at shutdown.

    Args:
        config: of uvicorn.
        ready: called with the base URL, without a trailing slash, once requests are accepted.
        drain: called when the drain begins; makes the readiness check fail.
        drain_seconds: how long the drain lasts after SIGTERM; 0 for none. A second signal ends it,
            and SIGINT begins none.
        release: called at shutdown; makes pending long polls respond.
        last_request: seconds in which the connections that were accepted last can send a request.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        ready: Callable[[str], None],
        drain: Callable[[], None] = lambda: None,
        drain_seconds: float = 0.0,
        release: Callable[[], None] = lambda: None,
        last_request: float = LAST_REQUEST,
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._drain = drain
        self._drain_seconds = drain_seconds
        self._drain_end: float | None = None  # in seconds of `time.monotonic`
        self._release = release
        self._last_request = last_request

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report the address."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the drain; without one, or at the second signal, shut down.

        That is: end long polls, accept no connections, finish requests in the grace period.
        """
        if sig == signal.SIGTERM and self._drain_seconds and self._drain_end is None:
            self._captured_signals.append(sig)
            self._drain_end = time.monotonic() + self._drain_seconds
            self._close_after_responses()
            self._drain()
            return
        self._release()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to shut down, which is so at the end of the drain too."""
        if self._drain_end is not None and time.monotonic() >= self._drain_end:
            self._release()
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down; after a drain, without losing a request of a connection that was accepted."""
        if self._drain_end is not None:
            for _ in range(2):  # in which the event loop accepts the connections that wait
                await asyncio.sleep(0)
            for server in self.servers:
                server.close()
            end = time.monotonic() + self._last_request
            while time.monotonic() < end and self._is_request_expected():  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def _is_request_expected(self) -> bool:
        # `cycle` is the last request of a connection
        return any(getattr(each, "cycle", self) is None for each in self.server_state.connections)

    def _close_after_responses(self) -> None:
        """Add `Connection: close` to the default headers of responses."""
        close = (b"connection", b"close")
        self.config.encoded_headers = [*self.config.encoded_headers, close]
        self.server_state.default_headers = [*self.server_state.default_headers, close]
