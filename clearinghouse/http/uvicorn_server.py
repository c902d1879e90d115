"""A uvicorn server that reports its address and ends long polls at shutdown."""

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn


class Server(uvicorn.Server):
    """A server that reports its address at start and ends long polls at shutdown.

    Args:
        config: of uvicorn.
        ready: called with the base URL, without a trailing slash, once requests are accepted.
        release: called at shutdown; makes pending long polls respond.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        ready: Callable[[str], None],
        release: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._release = release
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report the address."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down: end long polls, accept no connections, finish requests in the grace period."""
        self._release()
        super().handle_exit(sig, frame)
