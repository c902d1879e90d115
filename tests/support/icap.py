"""A gate that speaks ICAP in a thread of its own, and a client of it for single requests."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nciihash.gate.config import UploadLimits
from nciihash.gate.dialects.icap import IcapService
from nciihash.gate.dialects.icap.messages import LAST_CHUNK, chunk
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Policy
from nciihash.gate.transport.connections import StreamLimits
from nciihash.gate.transport.stream_server import StreamServer
from nciihash.signals import Item
from support.gating import dialect_config, gate_config, open_gate

POST = b"POST /upload HTTP/1.1\r\nHost: site.example\r\n%b\r\n"
GET = b"GET /picture HTTP/1.1\r\nHost: site.example\r\nAccept: text/html\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n%b\r\n"


class IcapGate:
    """A running gate.

    Attributes:
        gate: in the other thread.
        server: its ICAP server.
    """

    def __init__(self) -> None:
        self.gate: Gate
        self.server: StreamServer
        self._servers: list[StreamServer] = []
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    @contextmanager
    def configured(
        self, *, limits: UploadLimits | None = None, level=None, **policy
    ) -> Iterator[None]:
        """Change the policy of the dialect and the limits, for a while."""
        old = self.gate.config
        settings = dialect_config(policy=Policy(**({"review_as": Action.BLOCK} | policy)))
        if level is not None:
            settings = replace(settings, level=level)
        self.gate.config = replace(
            old, dialects={Dialect.ICAP: settings}, limits=limits or old.limits
        )
        try:
            yield
        finally:
            self.gate.config = old

    async def run(
        self, folder: Path, items: Mapping[str, Item], limits: StreamLimits, ready: threading.Event
    ) -> None:
        """Run the gate until `stop`."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        config = gate_config(folder, {Dialect.ICAP: dialect_config()})
        async with open_gate(folder, items, config) as self.gate:
            self.server = await self._serve(limits)
            ready.set()
            await self._stop.wait()
            for server in self._servers:
                server.close()
            for server in self._servers:
                await server.wait_closed()

    def wait_until_idle(self) -> None:
        """Return when no upload takes memory; a request is answered just before its is released."""
        while self.gate.memory.used:
            time.sleep(0.001)

    def serve(self, limits: StreamLimits) -> StreamServer:
        """Start another server with limits of its own."""
        return asyncio.run_coroutine_threadsafe(self._serve(limits), self._loop).result()

    async def _serve(self, limits: StreamLimits) -> StreamServer:
        listen = self.gate.config.dialects[Dialect.ICAP].listen
        server = StreamServer(listen, IcapService(self.gate).handle, limits)
        await server.start()
        self._servers.append(server)
        return server

    def stop(self) -> None:
        """End `run`."""
        self._loop.call_soon_threadsafe(self._stop.set)


@contextmanager
def icap_gate(
    folder: Path, items: Mapping[str, Item], limits: StreamLimits | None = None
) -> Iterator[IcapGate]:
    """Run a gate in a thread."""
    running, ready = IcapGate(), threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(running.run(folder, items, limits or StreamLimits(), ready))
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        ready.wait()
        if failed:
            raise failed[0]
        yield running
    finally:
        if not failed:
            running.stop()
        thread.join()


class IcapClient:
    """A connection to an ICAP server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> "IcapClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def finish(self) -> None:
        """Send no more."""
        self._socket.shutdown(socket.SHUT_WR)

    @property
    def ended(self) -> bool:
        """Whether the server closed the connection."""
        try:
            return not self._file.read(1)
        except ConnectionError:
            return True

    def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer; return its status and fields."""
        status = int(self._file.readline().split()[1])
        fields = {}
        while (line := self._file.readline()) not in {b"\r\n", b""}:
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip()
        return status, fields

    def answer(self) -> tuple[int, dict[str, str], bytes, bytes]:
        """Read an answer; return its status, its fields, and the HTTP head and body in it."""
        status, fields = self.head()
        *_, last = fields.get("encapsulated", "null-body=0").split(",")
        name, _, size = last.strip().partition("=")
        head = self._file.read(int(size))
        body = bytearray()
        while name != "null-body":
            length = int(self._file.readline(), 16)
            body += self._file.read(length)
            assert self._file.read(2) == b"\r\n"
            if not length:
                break
        return status, fields, head, bytes(body)


def request(
    method: str,
    body: bytes | None,
    *,
    http: str = "",
    fields: str = "Allow: 204\r\n",
    preview: int | None = None,
    service: str = "nciihash",
    size: int = 1 << 20,
) -> bytes:
    """Return a request about an upload (REQMOD) or a download (RESPMOD).

    Args:
        body: of the HTTP message; None for none.
        http: its header fields.
        fields: of the ICAP head.
        preview: how many bytes are sent as a preview; then the rest is not part of the request.
        service: the path.
        size: of a chunk.
    """
    first = (POST if method == "REQMOD" else OK) % http.encode()
    heads = [("req-hdr", first)]
    if method == "RESPMOD":
        heads = [("req-hdr", GET), ("res-hdr", first)]
    sections, offset = [], 0
    for name, head in heads:
        sections.append(f"{name}={offset}")
        offset += len(head)
    kind = "req" if method == "REQMOD" else "res"
    sections.append(f"null-body={offset}" if body is None else f"{kind}-body={offset}")
    if preview is not None:
        fields += f"Preview: {preview}\r\n"
    start = (
        f"{method} icap://127.0.0.1/{service} ICAP/1.0\r\nHost: 127.0.0.1\r\n{fields}"
        f"Encapsulated: {', '.join(sections)}\r\n\r\n"
    )
    data = start.encode() + b"".join(head for _, head in heads)
    if body is None:
        return data
    sent = body if preview is None else body[:preview]
    whole = preview is not None and len(body) <= preview
    end = b"0; ieof\r\n\r\n" if whole else LAST_CHUNK
    return data + chunks(sent, size) + end


def chunks(data: bytes, size: int = 1 << 20) -> bytes:
    """Return bytes as chunks, without the last one."""
    return b"".join(chunk(data[start : start + size]) for start in range(0, len(data), size))
