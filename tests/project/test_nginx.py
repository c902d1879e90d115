"""The configuration of nginx in examples/deploy, in a real nginx in front of a real service."""

import re
import secrets
import socket
import threading
from contextlib import contextmanager

import pytest

from support.browsers.steering import free_port
from support.nginx import NGINX, proxy
from support.service_process import ServiceProcess, bearer
from support.serving import item, opening, pdq

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@contextmanager
def breaking_worker():
    """Accept connections, and break each when its request has arrived; yield port and requests."""
    requests = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    requests.append(connection.recv(2**20).partition(b" HTTP")[0])

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], requests
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_request_goes_to_the_other_worker_where_that_is_safe(tmp_path):
    (tmp_path / "service").mkdir()
    with (
        ServiceProcess(tmp_path / "service") as service,
        breaking_worker() as (broken, requests),
        proxy(tmp_path, (broken, service.address.rpartition(":")[2])) as client,
    ):
        key = bearer(service.platform())
        query = {"type": "pdq", "values": [pdq()]}
        for _ in range(4):  # in turns to both workers
            assert client.post("/v1/match", json=query, headers=key).status_code == 200
        for _ in range(4):
            assert client.get("/v1/feed", headers=key).status_code == 200
        for _ in range(4):
            headers = {"Idempotency-Key": secrets.token_hex(16)}
            reply = client.post("/v1/cases", json=opening(item(pdq())), headers=headers)
            assert reply.status_code == 201
        assert {b"POST /v1/match", b"GET /v1/feed", b"POST /v1/cases"} <= set(requests)
        once = [client.post("/v1/cases", json=opening(item(pdq()))).status_code for _ in range(4)]
        assert sorted(once) == [201, 201, 503, 503], "a worker may have opened these cases"


def test_bodies_stay_in_memory_and_errors_are_problem_documents(tmp_path):
    (tmp_path / "service").mkdir()
    with ServiceProcess(tmp_path / "service") as service:
        key = service.platform("match,feed")
        with proxy(tmp_path, (service.address.rpartition(":")[2], free_port())) as client:
            queries = b"\0" * 32 * 40_000  # 1.3 MB
            reply = client.post(
                "/v1/match",
                content=queries,
                headers=bearer(key) | {"Content-Type": "application/octet-stream"},
            )
            assert reply.status_code in {200, 413, 422}
            assert reply.headers["content-type"].startswith("application/")
            log = (tmp_path / "error.log").read_text()
            assert "temporary file" not in log
            large = client.post("/v1/match", content=bytes(3 << 20), headers=bearer(key))
            assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
            page = client.get("/docs").text
            assert not re.search(r"(src|href|url)[=:] ?[\"']https?:", page)
            assert client.get("/docs/swagger-ui.js").status_code == 200
            assert client.get("/openapi.json").status_code == 200
            service.end()
            away = client.get("/v1/feed", headers=bearer(key))
            assert (away.status_code, away.json()["code"]) == (503, "not_ready")
            assert away.headers["retry-after"] == "5"
