"""A real HTTP server that answers as a test says, byte by byte, and a resolver of names to it."""

import asyncio
import contextlib
import ipaddress
import ssl

from support.certificates import self_signed


def respond(body=b"", status=200, **headers):
    """Return the bytes of a response."""
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Origin:
    """What the server received.

    Attributes:
        port: where it listens.
        requests: the head of each request, as text.
        broken: connections that the client ended before the response was complete.
    """

    def __init__(self, answer):
        self.answer = answer
        self.port = 0
        self.requests = []
        self.broken = asyncio.Event()
        self._serving = set()

    async def end(self):
        """End the connections that are open."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def serve(self, reader, writer):
        self._serving.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            answer = self.answer(head.split(" ")[1])
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                async for chunk in answer:
                    writer.write(chunk)
                    await writer.drain()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            self.broken.set()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def origin(answer, *, address="127.0.0.1", tls=None):
    """Serve what `answer` returns for a path: bytes, or an async iterator of them."""
    served = Origin(answer)
    server = await asyncio.start_server(served.serve, address, 0, ssl=tls)
    async with server:
        served.port = server.sockets[0].getsockname()[1]
        try:
            yield served
        finally:
            await served.end()


class Names:
    """A resolver that answers each lookup of a name with the next of its addresses."""

    def __init__(self, **answers):
        self.asked = []
        self._answers = {
            name.replace("_", "."): iter(
                each if isinstance(each, list) and isinstance(each[0], list) else [each] * 100
            )
            for name, each in answers.items()
        }

    async def __call__(self, name):
        self.asked.append(name)
        if name not in self._answers:
            raise OSError("no such name")
        found = next(self._answers[name])
        return [
            ipaddress.ip_address(each) for each in (found if isinstance(found, list) else [found])
        ]


def certificate(folder, name):
    """Return the TLS contexts of a server with this name and of a client that trusts it."""
    path = self_signed(folder / f"{name}.pem", name)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=path)
