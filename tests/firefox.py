"""Firefox under test: started with a profile of its own, and steered by Marionette."""

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES = {
    "datareporting.policy.dataSubmissionEnabled": "false",
    "browser.shell.checkDefaultBrowser": "false",
    "intl.accept_languages": '"en"',
    "browser.aboutwelcome.enabled": "false",
}


def _wait_for(port, seconds=60):
    """Wait until Firefox listens."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, "Firefox did not start"
            time.sleep(0.2)


@contextmanager
def started(folder, **preferences):
    """Start Firefox with given preferences; needs `marionette_driver`."""
    from marionette_driver import marionette

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile = folder / "profile"
    profile.mkdir()
    wanted = PREFERENCES | {"marionette.port": port} | preferences
    lines = [f'user_pref("{name}", {value});' for name, value in wanted.items()]
    (profile / "user.js").write_text("\n".join(lines))
    process = subprocess.Popen(
        [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", profile],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        client = marionette.Marionette(host="127.0.0.1", port=port, socket_timeout=60)
        _wait_for(port)
        client.start_session()
        client.process = process
        yield client
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
