"""A real Matrix home server, Synapse, with the gate's module, in processes of its own.

Synapse is installed apart from this project: NCIIHASH_SYNAPSE names its Python. Where it is not
set, these tests are skipped.
"""

import contextlib
import hashlib
import hmac
import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from support.paths import ROOT

VARIABLE = "NCIIHASH_SYNAPSE"
_MODULE = ROOT / "nciihash" / "gate" / "synapse.py"
_SECRET = "registration"


def synapse():
    """Return the Python that has Synapse; None if there is none."""
    return os.environ.get(VARIABLE) or None


def free_port():
    """Return a port of the loopback interface that no one uses."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@dataclass
class HomeServer:
    """A running home server, with one user.

    Attributes:
        address: of its API.
        log: what it logged.
        token: of the user.
    """

    address: str
    log: Path
    token: str = field(default="", repr=False)

    def register(self):
        """Register the user."""
        path = f"{self.address}/_synapse/admin/v1/register"
        nonce = httpx.get(path).raise_for_status().json()["nonce"]
        words = [nonce, "ada", "password", "notadmin"]
        mac = hmac.new(_SECRET.encode(), "\0".join(words).encode(), hashlib.sha1).hexdigest()
        user = {"nonce": nonce, "username": "ada", "password": "password", "mac": mac}
        found = httpx.post(path, json=user).raise_for_status().json()
        self.token = found["access_token"]

    def upload(self, data, media_type="image/jpeg"):
        """Upload a file and return the response."""
        return httpx.post(
            f"{self.address}/_matrix/media/v3/upload",
            content=data,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": media_type},
            timeout=60,
        )

    def stored(self):
        """Return the paths of the files in its media store, without thumbnails."""
        folder = self.log.parent / "media" / "local_content"
        return [path for path in folder.rglob("*") if path.is_file()]


@contextlib.contextmanager
def home_server(python, folder, settings):
    """Run a home server whose module has these settings, and yield it with a user.

    Args:
        python: the Python that has Synapse.
        folder: for its files.
        settings: of the module.
    """
    (folder / "modules").mkdir()
    (folder / "modules" / "nciihash_gate.py").write_bytes(_MODULE.read_bytes())
    config = folder / "homeserver.yaml"
    port = free_port()
    # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "server_name": "home.test",
                "pid_file": str(folder / "pid"),
                "listeners": [
                    {
                        "port": port,
                        "bind_addresses": ["127.0.0.1"],
                        "type": "http",
                        "resources": [{"names": ["client"]}],
                    }
                ],
                "database": {"name": "sqlite3", "args": {"database": str(folder / "home.db")}},
                "media_store_path": str(folder / "media"),
                "signing_key_path": str(folder / "signing.key"),
                "registration_shared_secret": _SECRET,
                "macaroon_secret_key": "macaroon",
                "form_secret": "form",
                "report_stats": False,
                "trusted_key_servers": [],
                "modules": [{"module": "nciihash_gate.GateSpamChecker", "config": settings}],
            }
        )
    )
    environment = os.environ | {"PYTHONPATH": str(folder / "modules")}
    command = [python, "-m", "synapse.app.homeserver", "--config-path", config]
    subprocess.run(
        [*command, "--generate-keys"], env=environment, cwd=folder, check=True, capture_output=True
    )
    log = folder / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output) as run,
    ):
        try:
            server = HomeServer(f"http://127.0.0.1:{port}", log)
            _wait(server, run)
            server.register()
            yield server
        finally:
            run.terminate()


def _wait(server, process):
    """Wait until a home server answers."""
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.address}/health").is_success:
                return
        time.sleep(0.1)
    raise AssertionError(server.log.read_text())
