"""WebKitGTK, controlled through WebDriver. Its engine is that of all browsers on iPhones."""

import os
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from support.browsers.steering import free_port, running, wait_for

DRIVER = shutil.which("WebKitWebDriver")
SCREEN = shutil.which("Xvfb")
BROWSERS = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of element references in WebDriver


def installed():
    """Whether WebKitGTK, its driver and Xvfb are installed."""
    return bool(DRIVER and SCREEN and BROWSERS)


@contextmanager
def _screen():
    """Start a virtual screen and yield its name."""
    read, write = os.pipe()
    with ExitStack() as stack:
        output = stack.enter_context(os.fdopen(read))
        try:
            screen = running(SCREEN, "-displayfd", str(write), pass_fds=[write])
            stack.enter_context(screen)
        finally:
            os.close(write)
        yield f":{output.readline().strip()}"


@contextmanager
def started(folder):
    """Start WebKitGTK with a folder as its home."""
    port = free_port()
    with ExitStack() as stack:
        own = {"DISPLAY": stack.enter_context(_screen()), "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        driver = running(DRIVER, f"--port={port}", env=os.environ | own, stdout=subprocess.DEVNULL)
        stack.enter_context(driver)
        http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120))
        wait_for(port)
        browser = {"binary": str(BROWSERS[-1]), "args": ["--automation"]}
        capabilities = {"alwaysMatch": {"webkitgtk:browserOptions": browser}}
        session = _request(http, "POST", "/session", capabilities=capabilities)["sessionId"]
        try:
            yield Client(http, f"/session/{session}")
        finally:
            http.delete(f"/session/{session}")


def _request(http, method, path, **body):
    response = http.request(method, path, json=body if method == "POST" else None)
    value = response.json()["value"]
    if response.is_error:
        raise AssertionError(f"{value['error']}: {value['message']}")
    return value


def _is_element(value):
    return isinstance(value, dict) and ELEMENT in value


class Client:
    """A WebDriver client with the methods of Marionette that `Person` uses."""

    def __init__(self, http, session):
        self.http = http
        self.session = session

    def ask(self, method, path, **body):
        return _request(self.http, method, self.session + path, **body)

    def navigate(self, url):
        self.ask("POST", "/url", url=url)

    def execute_script(self, script, arguments=()):
        given = [{ELEMENT: a.name} if isinstance(a, Element) else a for a in arguments]
        found = self.ask("POST", "/execute/sync", script=script, args=given)
        return Element(self, found[ELEMENT]) if _is_element(found) else found

    def find_elements(self, using, value):
        found = self.ask("POST", "/elements", using=using, value=value)
        return [Element(self, each[ELEMENT]) for each in found]

    def find_element(self, using, value):
        return Element(self, self.ask("POST", "/element", using=using, value=value)[ELEMENT])


class Element:
    """An element of the page."""

    def __init__(self, client, name):
        self.client = client
        self.name = name

    @property
    def text(self):
        return self.client.ask("GET", f"/element/{self.name}/text")

    def is_enabled(self):
        return self.client.ask("GET", f"/element/{self.name}/enabled")

    def click(self):
        # the driver does not always scroll to elements below the screen
        self.client.execute_script("arguments[0].scrollIntoView({block: 'center'})", [self])
        self.client.ask("POST", f"/element/{self.name}/click")

    def send_keys(self, keys):
        self.client.ask("POST", f"/element/{self.name}/value", text=keys)
