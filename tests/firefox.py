"""Firefox under test: started with a profile of its own, and steered by Marionette."""

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

from walking import catalogue

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES = {
    "datareporting.policy.dataSubmissionEnabled": "false",
    "browser.shell.checkDefaultBrowser": "false",
    "intl.accept_languages": '"en"',
    "browser.aboutwelcome.enabled": "false",
}
WORDS = catalogue("en")


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


class Person:
    """Somebody who uses the page in Firefox."""

    def __init__(self, client, url):
        self.client = client
        client.navigate(url + "/")
        self.at("start.title")

    def find(self, what, seconds=90):
        """Wait for the first shown element whose whole text is the given one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for element in self.client.find_elements("css selector", "h1, button, p"):
                try:
                    if element.text == what and element.is_enabled():
                        return element
                except Exception as error:
                    if "stale" not in str(error).lower():
                        raise
            time.sleep(0.1)
        raise AssertionError(f"{what!r} is not shown")

    def at(self, key):
        self.find(WORDS[key])

    def press(self, key):
        self.find(WORDS[key]).click()

    def to_files(self):
        for key in ("start.go", "adult.yes", "depicted.yes", "having.yes", "reason.shared"):
            self.press(key)
        self.at("choose.title")

    def choose(self, path):
        picker = self.client.find_element("css selector", "#files")
        # the page's own button opens it; Marionette types into shown elements alone
        self.client.execute_script("arguments[0].hidden = false", [picker])
        picker.send_keys(str(path))

    def prints(self):
        """Give the fingerprints that the page is about to send: for each file's number, all."""
        self.press("continue")
        self.at("review.title")
        shown = self.client.execute_script(
            "return [...document.querySelectorAll('details details')].map((file) => ["
            "file.querySelector('summary').textContent.match(/\\d+/)[0],"
            "[...file.querySelectorAll('li > b, li > code')].map((part) => part.textContent)])"
        )
        return {int(n): list(zip(parts[::2], parts[1::2], strict=True)) for n, parts in shown}
