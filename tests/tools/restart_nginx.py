"""Restart two workers of nginx in turn, under load, and count the requests that are lost.

    make restart-nginx

nginx has the configuration in examples/deploy, and the workers share a PostgreSQL database. Clients
on raw sockets keep their connections to nginx open, and send look-ups, reads of the feed and the
opening of cases (with an `Idempotency-Key`). A request is lost if its response is not 200 or 201,
or if its connection breaks. The exit code is 1 if any is lost. The long polls that wait when a
worker ends must return 200 as well.
"""

import argparse
import asyncio
import json
import secrets
import signal
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from support.browsers.steering import free_port
from support.nginx import NGINX, proxy
from support.postgres import Databases, server
from support.service_process import ServiceProcess
from support.serving import item, opening, pdq

_CLIENTS: Final = 8
_LONG_POLLS: Final = 2

Send = Callable[[str, str, bytes, str], Awaitable[int]]


@dataclass
class Load:
    """The requests sent so far, by what they ask and their status; 0 for a broken connection."""

    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    ended: bool = False

    @property
    def total(self) -> int:
        """The number of requests."""
        return self.seen.total()

    @property
    def lost(self) -> int:
        """The number of requests without a response 200 or 201."""
        return sum(n for (_, status), n in self.seen.items() if status not in {200, 201})


class Connection:
    """A keep-alive connection over TLS, reopened when it breaks or is closed."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self._port = port
        self._trust = trust
        self.body = b""  # of the last response
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, path: str, body: bytes, headers: str) -> int:
        """Send a request; return the status of its response, 0 if there is none."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(
                    "localhost", self._port, ssl=self._trust
                )
            reader, writer = self._streams
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            received = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = received.partition("content-length: ")[2].partition("\r\n")[0]
            self.body = await reader.readexactly(int(length))
            if "connection: close" in received:
                await self.close()
            return int(received.split(" ", 2)[1])
        except (OSError, asyncio.IncompleteReadError):
            await self.close()
            return 0

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def send_requests(load: Load, send: Send, key: str, *, total: int) -> None:
    """Send requests until there are enough and the restarts have ended."""
    json_type = "Content-Type: application/json\r\n"
    platform = f"Authorization: Bearer {key}\r\n"
    number = 0
    while load.total < total or not load.ended:
        number += 1
        if number % 25 == 0:
            body = json.dumps(opening(item(pdq()))).encode()
            once = f"Idempotency-Key: {secrets.token_hex(16)}\r\n"
            name, sent = "open a case", send("POST", "/v1/cases", body, json_type + once)
        elif number % 5 == 0:
            name, sent = "read the feed", send("GET", "/v1/feed?limit=10", b"", platform)
        else:
            body = json.dumps({"type": "pdq", "values": [pdq()]}).encode()
            name, sent = "match", send("POST", "/v1/match", body, platform + json_type)
        load.seen[name, await sent] += 1


async def wait_for_news(load: Load, connection: Connection, key: str, cursor: str) -> None:
    """Follow the feed by long polls, some of which wait when a worker ends."""
    platform = f"Authorization: Bearer {key}\r\n"
    while not load.ended:
        path = f"/v1/feed?wait=10&cursor={cursor}"
        status = await connection.send("GET", path, b"", platform)
        load.seen["long poll", status] += 1
        if status == 200:
            cursor = json.loads(connection.body)["cursor"]


def wait_until_ready(worker: ServiceProcess) -> None:
    """Wait until a worker has read the log."""
    while worker.client.get("/health/ready").is_error:
        time.sleep(0.05)


async def restart(workers: list[ServiceProcess], start: Callable[[int], ServiceProcess]) -> None:
    """Restart each worker in turn, and wait until it is ready."""
    for number, worker in enumerate(workers):
        await asyncio.to_thread(worker.end, signal.SIGTERM)
        workers[number] = await asyncio.to_thread(start, number)
        await asyncio.to_thread(wait_until_ready, workers[number])


async def run(
    workers: list[ServiceProcess],
    start: Callable[[int], ServiceProcess],
    connect: Callable[[], Connection],
    options: argparse.Namespace,
) -> Load:
    """Restart the workers under load, and return what was sent."""
    key = workers[0].platform("feed,match")
    page = workers[0].client.get("/v1/feed", headers={"Authorization": f"Bearer {key}"}).json()
    load, connections = Load(), [connect() for _ in range(_CLIENTS + _LONG_POLLS)]
    sending = [
        asyncio.create_task(send_requests(load, each.send, key, total=options.requests))
        for each in connections[_LONG_POLLS:]
    ] + [
        asyncio.create_task(wait_for_news(load, each, key, page["cursor"]))
        for each in connections[:_LONG_POLLS]
    ]
    for _ in range(options.rounds):
        await restart(workers, start)
    load.ended = True
    await asyncio.gather(*sending)
    for each in connections:
        await each.close()
    return load


def serve_and_run(folder: Path, database: str, options: argparse.Namespace) -> Load:
    """Start the workers and nginx, and run."""
    ports = [free_port(), free_port()]
    key = secrets.token_hex(32)

    def start(number: int) -> ServiceProcess:
        own = folder / f"worker{number}"
        own.mkdir(exist_ok=True)
        settings = {"CLEARINGHOUSE_KEY": key, "CLEARINGHOUSE_NOTES": str(own)}
        settings["CLEARINGHOUSE_DRAIN_SECONDS"] = str(options.drain)
        return ServiceProcess(own, database, forked=False, port=ports[number], **settings)

    workers = [start(0), start(1)]
    try:
        with proxy(folder, ports) as client:
            trust = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
            port = client.base_url.port
            return asyncio.run(run(workers, start, lambda: Connection(port, trust), options))
    finally:
        for worker in workers:
            worker.end(signal.SIGKILL)


def main() -> int:
    """Run the restarts; print what was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000, help="to send at least")
    parser.add_argument("--rounds", type=int, default=3, help="restarts of each worker")
    parser.add_argument("--drain", type=float, default=2, help="seconds that a worker drains")
    options = parser.parse_args()
    if NGINX is None:
        sys.exit("nginx is not installed.")
    with server() as running, tempfile.TemporaryDirectory() as folder:
        if running is None:
            sys.exit("PostgreSQL is not installed.")
        started = time.monotonic()
        with Databases(running.address, running).fresh() as database:
            load = serve_and_run(Path(folder), database, options)
    for (name, status), count in sorted(load.seen.items()):
        print(f"{count:7,} {name}: {status or 'connection broken'}")
    print(f"{2 * options.rounds} restarts in {time.monotonic() - started:.0f} s")
    print(f"{load.lost} of {load.total:,} requests lost")
    return 1 if load.lost else 0


if __name__ == "__main__":
    sys.exit(main())
