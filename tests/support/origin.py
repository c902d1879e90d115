"""A real HTTP server that answers as a test says, byte by byte, and a resolver of names to it."""

import asyncio
import contextlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


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

    async def serve(self, reader, writer):
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
        yield served


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
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(pem)
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=made.public_bytes(pem).decode())
