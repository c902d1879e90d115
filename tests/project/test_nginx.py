"""The configuration of nginx in examples/deploy, in a real nginx in front of a real service."""

import re
import shutil
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.browsers.steering import free_port
from support.service_process import ServiceProcess, bearer

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIG = Path(__file__).parents[2] / "examples" / "deploy" / "nginx.conf"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@contextmanager
def proxy(folder, service_port):
    """Run nginx on free ports with the configuration; yield its address and a trusting client."""
    port = free_port()
    pem, key = folder / "fullchain.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", pem),
        ],
        check=True,
        capture_output=True,
    )
    server = CONFIG.read_text().split("\nserver {\n    listen 80;")[0]
    server = server.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;")
    server = server.replace("    listen [::]:443 ssl http2;\n", "")
    server = server.replace("/etc/ssl/clearinghouse", str(folder))
    server = server.replace("/var/log/nginx/clearinghouse.log", str(folder / "error.log"))
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{service_port}")
    paths = "\n".join(
        f"{name}_temp_path {folder / name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; master_process off; pid {folder / 'pid'}; error_log {folder / 'error.log'};\n"
        f"events {{}}\nhttp {{\n{paths}\n{server}\n}}\n"
    )
    process = subprocess.Popen([NGINX, "-p", folder, "-c", main], stderr=subprocess.PIPE)
    try:
        with httpx.Client(
            base_url=f"https://localhost:{port}",
            verify=ssl.create_default_context(cafile=str(pem)),
            trust_env=False,
        ) as client:
            for _ in range(200):
                try:
                    client.get("/health/live")
                    break
                except httpx.ConnectError:
                    assert process.poll() is None, process.stderr.read()
                    time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


def test_bodies_stay_in_memory_and_errors_are_problem_documents(tmp_path):
    (tmp_path / "service").mkdir()
    with ServiceProcess(tmp_path / "service") as service:
        key = service.platform("match,feed")
        with proxy(tmp_path, service.address.rpartition(":")[2]) as client:
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
