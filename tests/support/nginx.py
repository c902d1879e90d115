"""nginx with the configuration in examples/deploy."""

import shutil
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.browsers.steering import free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIG = Path(__file__).parents[2] / "examples" / "deploy" / "nginx.conf"


@contextmanager
def proxy(folder, ports):
    """Run nginx on a free port with the configuration; yield a client that trusts it.

    Args:
        folder: for its files; its certificate is `fullchain.pem` there.
        ports: of the two workers.
    """
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
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{ports[0]}")
    server = server.replace("127.0.0.1:8001", f"127.0.0.1:{ports[1]}")
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
