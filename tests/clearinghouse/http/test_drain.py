"""The drain after SIGTERM: requests are served, and the readiness check fails."""

import queue
import signal
import socket
import threading
import time

import pytest
import uvicorn

from clearinghouse.http.uvicorn_server import Server
from support.service_process import ServiceProcess, bearer
from support.serving import pdq

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def service(tmp_path):
    """A service that drains for longer than any test."""
    with ServiceProcess(tmp_path, CLEARINGHOUSE_DRAIN_SECONDS="600") as process:
        yield process
        process.end(signal.SIGKILL)


def is_accepted(address):
    try:
        with socket.create_connection(address) as connection:
            connection.sendall(REQUEST)
            return bool(connection.recv(100))
    except ConnectionError:
        return False


def begin_drain(service):
    service.process.send_signal(signal.SIGTERM)
    while service.client.get("/health/ready").status_code == 200:
        time.sleep(0.01)


def test_a_draining_service_serves_requests_and_is_not_ready(service):
    key = bearer(service.platform())
    query = {"type": "pdq", "values": [pdq()]}
    before = service.client.post("/v1/match", json=query, headers=key)
    assert "connection" not in before.headers
    begin_drain(service)
    reply = service.client.get("/health/ready")
    assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
    for _ in range(3):  # each on a new connection, since the one before it was closed
        reply = service.client.post("/v1/match", json=query, headers=key)
        assert (reply.status_code, reply.headers["connection"]) == (200, "close")
    assert service.client.get("/health/live").status_code == 200


def test_a_second_signal_ends_the_drain(service):
    begin_drain(service)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(timeout=60) == -signal.SIGTERM
    assert "Traceback" not in service.log.read_text()


def test_a_connection_accepted_last_is_served():
    """Its request arrives only after the service has stopped accepting connections."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    addresses = queue.Queue()
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None)
    server = Server(config, ready=addresses.put, drain_seconds=0.01, last_request=60)
    thread = threading.Thread(target=server.run)
    thread.start()
    address = ("127.0.0.1", int(addresses.get(timeout=60).rpartition(":")[2]))
    with socket.create_connection(address) as last:
        server.handle_exit(signal.SIGTERM, None)
        while is_accepted(address):
            pass
        last.sendall(REQUEST)
        assert last.recv(100).startswith(b"HTTP/1.1 204")
    thread.join()
