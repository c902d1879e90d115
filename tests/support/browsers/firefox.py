"""Firefox, started with a new profile and controlled through Marionette."""

import shutil
import subprocess
from contextlib import contextmanager

from support.browsers.steering import free_port, running, wait_for

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES = {
    "datareporting.policy.dataSubmissionEnabled": "false",
    "browser.shell.checkDefaultBrowser": "false",
    "intl.accept_languages": '"en"',
    "browser.aboutwelcome.enabled": "false",
}


@contextmanager
def started(folder, **preferences):
    """Start Firefox with some preferences; needs `marionette_driver`."""
    from marionette_driver import marionette

    port = free_port()
    profile = folder / "profile"
    profile.mkdir()
    wanted = PREFERENCES | {"marionette.port": port} | preferences
    lines = [f'user_pref("{name}", {value});' for name, value in wanted.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", profile]
    with running(*command, stdout=subprocess.DEVNULL) as process:
        client = marionette.Marionette(host="127.0.0.1", port=port, socket_timeout=60)
        wait_for(port)
        client.start_session()
        client.process = process
        yield client
