"""The server under an application: it tells where it listens, and lets long polls go at its end."""

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn


class Server(uvicorn.Server):
    """Tell where it listens, and let long polls go when it is told to end.

    Args:
        config: how to serve.
        ready: called with the address, without a slash at its end, once it is answered there.
        release: lets those go who wait for an answer.
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
        """Start, then say where."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End: no new connections, waiters answered at once, the rest within the grace."""
        self._release()
        super().handle_exit(sig, frame)
