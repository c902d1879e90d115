"""A person who uses the page in a browser controlled through WebDriver or Marionette."""

import time

from PIL import Image
from skimage import data as photos

from nciihash.hashing.hasher import hash_bytes
from support.browsers.chosen_files import encoded
from support.browsers.visitor import catalogue
from support.hashes import bits_apart

WORDS = catalogue("en")
# textContent, because Firefox omits direction marks from innerText
FIND = """
const shown = (e) => e.getClientRects().length && getComputedStyle(e).visibility === "visible";
const whats = arguments[0];
return [...document.querySelectorAll("h1, button, p")].find(
  (e) => !e.disabled && whats.includes(e.textContent.trim()) && shown(e)) ?? null;
"""


def stills(folder):
    """Write photos to files and return their paths, those that need no canvas first."""
    photo = Image.fromarray(photos.astronaut())
    made = []
    for name, file_format, options in (
        ("a.jpg", "JPEG", {"quality": 90}),
        ("b.png", "PNG", {}),
        ("c.webp", "WEBP", {"lossless": True}),
    ):
        path = folder / name
        path.write_bytes(encoded(photo.rotate(90 * len(made)), file_format, **options))
        made.append(path)
    return made


def moments_apart(found, path):
    """Return, for each frame of a video, the distance of the page's hash from Python's, in bits."""
    prints = hash_bytes(path.read_bytes(), variants="standard").hashes
    wanted = [hashed.signal.hex for hashed in prints if hashed.variant.value == "original"]
    seen = [value for variant, value in found if variant == "original"]
    return [bits_apart(a, b) for a, b in zip(seen, wanted, strict=True)]


class Person:
    """A person who uses the page, in Firefox (`firefox`) or WebKit (`webkit`)."""

    def __init__(self, client, url):
        self.client = client
        client.navigate(url + "/")
        self.at("start.title")

    def find(self, *whats, seconds=90):
        """Wait for the first visible element whose complete text is one of some texts."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # a single request: one per element would slow down the page
            element = self.client.execute_script(FIND, [list(whats)])
            if element is not None:
                return element
            time.sleep(0.05)
        shown = self.client.execute_script("return document.querySelector('main').innerText")
        raise AssertionError(f"{whats!r} is not shown, but: {shown}")

    def at(self, key):
        self.find(WORDS[key])

    def press(self, key, seconds=30):
        """Press a button; retry if it is redrawn or moved at that moment."""
        end = time.monotonic() + seconds
        while True:
            button = self.find(WORDS[key])
            try:
                return button.click()
            except Exception as error:
                transient = any(word in str(error).lower() for word in ("stale", "interactable"))
                if not transient or time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def to_files(self):
        for key in ("start.go", "adult.yes", "depicted.yes", "having.yes", "reason.shared"):
            self.press(key)
        self.at("choose.title")

    def choose(self, path):
        picker = self.client.find_element("css selector", "#files")
        # the page's button opens it; Marionette types only into visible elements
        self.client.execute_script("arguments[0].hidden = false", [picker])
        picker.send_keys(str(path))

    def prints(self):
        """Return the hashes that the page is about to send, as (variant, value), by file number."""
        self.press("continue")
        self.at("review.title")
        shown = self.client.execute_script(
            "return [...document.querySelectorAll('details details')].map((file) => ["
            "file.querySelector('summary').textContent.match(/\\d+/)[0],"
            "[...file.querySelectorAll('li > b, li > code')].map((part) => part.textContent)])"
        )
        return {int(n): list(zip(parts[::2], parts[1::2], strict=True)) for n, parts in shown}
