"""The survivor's page in Firefox, where private windows alter what a canvas gives back."""

import shutil
import socket
import subprocess
import time

import pytest
from PIL import Image
from skimage import data as photos
from walking import Serving, bits_apart, catalogue, encoded

from nciihash.hasher import hash_image

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES = {
    "datareporting.policy.dataSubmissionEnabled": "false",
    "browser.shell.checkDefaultBrowser": "false",
    "intl.accept_languages": '"en"',
    "browser.aboutwelcome.enabled": "false",
}
WORDS = catalogue("en")

pytestmark = pytest.mark.skipif(
    FIREFOX is None, reason="no Firefox is installed (apt-get install firefox-esr)"
)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    process = Serving(tmp_path_factory.mktemp("service"))
    yield process
    process.end()


def wait_for(port, seconds=60):
    """Wait until Firefox listens."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, "Firefox did not start"
            time.sleep(0.2)


@pytest.fixture
def firefox(tmp_path):
    """Start Firefox with given preferences, to be steered by Marionette."""
    driver = pytest.importorskip("marionette_driver.marionette", reason="no marionette_driver")
    started = []

    def start(**preferences):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        profile = tmp_path / "profile"
        profile.mkdir()
        wanted = PREFERENCES | {"marionette.port": port} | preferences
        lines = [f'user_pref("{name}", {value});' for name, value in wanted.items()]
        (profile / "user.js").write_text("\n".join(lines))
        process = subprocess.Popen(
            [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", profile],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        client = driver.Marionette(host="127.0.0.1", port=port, socket_timeout=60)
        wait_for(port)
        client.start_session()
        return client

    yield start
    for process in started:
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
        return pytest.fail(f"{what!r} is not shown")

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
        """Give the fingerprints that the page is about to send."""
        self.press("continue")
        self.at("review.title")
        self.client.find_elements("css selector", "summary")[0].click()
        return [
            code.text
            for code in self.client.find_elements("css selector", "ol li > code:first-child")
        ]


def files(folder):
    """Give photos as files: those that need no canvas first."""
    photo = Image.fromarray(photos.astronaut())
    made = []
    for name, format, options in (
        ("a.jpg", "JPEG", {"quality": 90}),
        ("b.png", "PNG", {}),
        ("c.webp", "WEBP", {"lossless": True}),
    ):
        image = photo.rotate(90 * len(made))
        path = folder / name
        path.write_bytes(encoded(image, format, **options))
        made.append(path)
    return made


def test_firefox_makes_the_same_fingerprints_and_opens_a_case(firefox, serving, tmp_path):
    person = Person(firefox(), serving.url)
    person.to_files()
    chosen = files(tmp_path)
    for path in chosen:
        person.choose(path)
    person.find(f"Fingerprints ready: \u2068{3}\u2069 of \u2068{3}\u2069")
    found = person.prints()
    expected = [hash_image(path.read_bytes()).signal.hex for path in chosen]
    assert [bits_apart(a, b) for a, b in zip(found, expected, strict=True)] == [0, 0, 0]
    before = serving.cases()
    person.press("review.send")
    person.at("receipt.title")
    assert serving.cases() == before + 1


def test_no_fingerprint_is_wrong_where_firefox_alters_the_canvas(firefox, serving, tmp_path):
    person = Person(firefox(**{"privacy.resistFingerprinting": "true"}), serving.url)
    person.to_files()
    chosen = files(tmp_path)
    for path in chosen:
        person.choose(path)
    person.find(WORDS["refused.blocked"])
    found = person.prints()
    expected = [hash_image(path.read_bytes()).signal.hex for path in chosen[:2]]
    assert all(bits_apart(a, b) <= 2 for a, b in zip(found, expected, strict=True))
