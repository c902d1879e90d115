"""Generate load for a gate over raw sockets, in a process of its own.

Latencies are measured by the client, from the moment when a request should have been sent: under an
open load a request that had to wait for a connection counts its wait.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

CHUNK: Final = 1 << 17
TIMEOUT: Final = 60.0

# Sends one upload over a connection and returns whether it was checked: refusals by a full queue
# are not.
Send = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[bool]]


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Send an upload to the gate's own HTTP dialect."""
    writer.write(
        b"POST /check HTTP/1.1\r\nHost: gate\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Length: %d\r\n\r\n" % len(data)
    )
    writer.write(data)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    await reader.readexactly(int(fields[b"content-length"]))
    return head.split(b" ", 2)[1] == b"200"


async def clamd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Send an upload as clamd's clients do, in a session."""
    writer.write(b"zINSTREAM\0")
    for start in range(0, len(data), CHUNK):
        chunk = data[start : start + CHUNK]
        writer.write(len(chunk).to_bytes(4, "big") + chunk)
    writer.write(bytes(4))
    await writer.drain()
    return not (await reader.readuntil(b"\0")).endswith(b"ERROR\0")


PROTOCOLS: Final[dict[str, Send]] = {"http": http, "clamd": clamd}
_KEEPS_OPEN: Final = frozenset({"http"})


@dataclass
class Latencies:
    """What a run measured.

    Attributes:
        checked: seconds of each upload that was checked.
        refused: seconds of each upload that was refused because the gate was busy.
        seconds: from the first request to the last response.
    """

    checked: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Client:
    """Connections to a gate, opened as they are needed.

    Args:
        protocol: a key of `PROTOCOLS`.
        address: host and port.
        files: what to upload, in turns.
    """

    def __init__(self, protocol: str, address: tuple[str, int], files: Sequence[bytes]) -> None:
        self._send = PROTOCOLS[protocol]
        self._keeps_open = protocol in _KEEPS_OPEN
        self._address = address
        self._files = files
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._next = 0

    async def upload(self, due: float, latencies: Latencies) -> None:
        """Send one upload that was due at a time of `time.perf_counter`."""
        data = self._files[self._next % len(self._files)]
        self._next += 1
        connection = self._idle.pop() if self._idle else await self._connect()
        checked = await asyncio.wait_for(self._send(*connection, data), TIMEOUT)
        took = time.perf_counter() - due
        (latencies.checked if checked else latencies.refused).append(took)
        if self._keeps_open:
            self._idle.append(connection)
        else:
            connection[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._address, limit=1 << 20)

    async def closed(self, count: int, concurrency: int) -> Latencies:
        """Upload `count` files; each of `concurrency` clients sends when it has its answer."""
        latencies = Latencies()
        start = time.perf_counter()
        left = count

        async def work() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.upload(time.perf_counter(), latencies)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        latencies.seconds = time.perf_counter() - start
        return latencies

    async def open(self, rate: float, seconds: float) -> Latencies:
        """Upload at random times, `rate` a second on average, whether or not answers arrive."""
        latencies = Latencies()
        rng = random.Random(1)
        start = time.perf_counter()
        due = start
        running = set()
        while due < start + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self.upload(due, latencies))
            running.add(task)
            task.add_done_callback(running.discard)
            due += rng.expovariate(rate)
        await asyncio.gather(*running)
        latencies.seconds = time.perf_counter() - start
        return latencies
