"""The survivor's page: its fingerprints compared with Python's, its cost, and its requests.

    PYTHONPATH=tests python -m benchmarks.page.run [--photos FOLDER …] [--out FILE] [--only PART …]

or `make bench-page`. Needs Chromium and Firefox, and uses WebKitGTK if it is installed. Without
--photos only scikit-image's photos are used. The parts are `bits` (compared with Python, in each
browser), `hiding` (Firefox with a canvas that returns altered pixels), `cost` (time and memory of
large photos and long videos), `requests` (of a whole case), `axe` and `sizes`.
"""

import argparse
import gzip
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from benchmarks.common import folders
from clearinghouse.page.single_file import build
from nciihash.errors import FileRefused
from nciihash.hashing.hasher import hash_image
from support.browsers import firefox, webkit
from support.browsers.axe import Axe
from support.browsers.chosen_files import clip, pictures
from support.browsers.chromium import launched
from support.browsers.person import Person
from support.browsers.visitor import NOTES, Visitor
from support.hashes import bits_apart
from support.paths import SITE
from support.service_process import ServiceProcess
from support.videos import make_video, moving_frames

BATCH: Final = 150  # files; a case holds 200
KINDS: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"})
HIDING: Final = {"privacy.resistFingerprinting": "true"}  # a canvas returns altered pixels
SIZES: Final = {"12 MP": (4000, 3000), "48 MP": (8000, 6000)}


def photos(given: list[Path]) -> list[Path]:
    """List the folders' photos and scikit-image's of the types that every browser can open."""
    from skimage.data import data_dir

    files = folders.files_in(*given, Path(data_dir))
    return [path.absolute() for path in files if path.suffix.lower() in KINDS]


def by_python(paths: list[Path]) -> dict[Path, tuple[str, int] | None]:
    """Hash with Python: (hash, quality) by path, or None for a refused or too plain file."""
    found: dict[Path, tuple[str, int] | None] = {}
    for path in paths:
        try:
            hashed = hash_image(path)
        except FileRefused:
            found[path] = None
        else:
            fit = not hashed.plain and hashed.quality is not None
            found[path] = (hashed.signal.hex, hashed.quality or 0) if fit else None
    return found


def compare(
    by_python: dict[Path, tuple[str, int] | None], by_browser: dict[Path, str]
) -> dict[str, Any]:
    """Count the bits in which fingerprints differ, and the files that only one side hashed."""
    bits = [
        bits_apart(value, expected[0])
        for path, value in by_browser.items()
        if (expected := by_python[path]) is not None
    ]
    return {
        "files": len(by_python),
        "compared": len(bits),
        "equal %": round(100 * sum(b == 0 for b in bits) / max(1, len(bits)), 1),
        "within 2 bits %": round(100 * sum(b <= 2 for b in bits) / max(1, len(bits)), 1),
        "most bits": max(bits, default=0),
        "only in Python": sum(
            value is not None and path not in by_browser for path, value in by_python.items()
        ),
        "only in the browser": sum(by_python[path] is None for path in by_browser),
    }


def in_chromium(browser: Browser, url: str, paths: list[Path]) -> dict[Path, str]:
    """Fingerprint photos in Chromium, through the page; return the fingerprint of each original."""
    found: dict[Path, str] = {}
    for start in range(0, len(paths), BATCH):
        page = browser.new_page()
        page.set_default_timeout(600_000)
        visitor = Visitor(page, url)
        visitor.arrive()
        visitor.answer_questions()
        part = paths[start : start + BATCH]
        visitor.choose(part)
        visitor.press("continue")
        visitor.at("review.title")
        shown = page.evaluate(
            "() => [...document.querySelectorAll('details details')].map((one) => ["
            "one.querySelector('summary').textContent.match(/\\d+/)[0],"
            "one.querySelector('li > b').textContent, one.querySelector('li > code').textContent])"
        )
        found |= {part[int(n) - 1]: value for n, name, value in shown if name == "original"}
        page.close()
    return found


def in_webdriver_browser(
    start: Callable[[Path], AbstractContextManager[Any]], folder: Path, url: str, paths: list[Path]
) -> dict[Path, str]:
    """Do the same in a browser that is started with its own profile and driven by WebDriver."""
    found: dict[Path, str] = {}
    for first in range(0, len(paths), BATCH):
        with tempfile.TemporaryDirectory(dir=folder) as profile, start(Path(profile)) as client:
            person = Person(client, url)
            person.to_files()
            part = paths[first : first + BATCH]
            for path in part:
                person.choose(path)
            _until_enabled(person)
            prints = person.prints()
            found |= {
                part[n - 1]: values[0][1]
                for n, values in prints.items()
                if values[0][0] == "original"
            }
    return found


def _until_enabled(person: Person) -> None:
    while person.client.execute_script("return document.querySelector('main .main').disabled"):
        time.sleep(0.2)


def large(width: int, height: int) -> bytes:
    """Return a JPEG of this size: an enlarged photo with camera-like noise."""
    from skimage import data

    image = Image.fromarray(data.astronaut()).resize((width, height), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(1).normal(0, 4, (height, width, 1)).astype(np.float32)
    pixels = np.clip(np.asarray(image, np.float32) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


@contextmanager
def memory() -> Iterator[Callable[[], int]]:
    """Sample the memory of all descendants; yield a function that returns its growth in MB."""
    ended = threading.Event()
    samples = [_descendants_memory()]

    def sample() -> None:
        while not ended.wait(0.05):
            samples.append(_descendants_memory())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: (max(samples) - samples[0]) >> 20
    finally:
        ended.set()
        thread.join()


def _descendants_memory() -> int:
    parents: dict[int, int] = {}
    private: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            shared = (path / "statm").read_text().split()
        except OSError:
            continue  # the process has ended
        parents[int(path.name)] = int(fields[1])
        # without shared pages, which would be counted once per process
        private[int(path.name)] = (int(shared[1]) - int(shared[2])) * os.sysconf("SC_PAGE_SIZE")
    tree = {os.getpid()}
    while children := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= children
    return sum(private[pid] for pid in tree - {os.getpid()} if pid in private)


def repeat(scenes: list[np.ndarray], times: int) -> list[np.ndarray]:
    """Repeat each scene for a number of frames."""
    return [scene for scene in scenes for _ in range(times)]


def cost(browser: Browser, url: str, folder: Path) -> dict[str, Any]:
    """Time large photos and long videos, one after another, on a page that is already loaded."""
    videos = {
        "an hour, 320x240": make_video(repeat(moving_frames(180, still=1), 20), rate=1),
        "a minute, 1080p": make_video(repeat(moving_frames(40, 1920, 1080, still=1), 45), rate=30),
    }
    files = {name: large(*size) for name, size in SIZES.items()} | videos
    found: dict[str, Any] = {}
    for name, data in files.items():
        path = folder / name.replace(" ", "-")
        path.write_bytes(data)
        page = browser.new_page()
        page.set_default_timeout(1_800_000)
        visitor = Visitor(page, url)
        visitor.arrive()
        visitor.answer_questions()
        visitor.choose(pictures()[:1])  # the worker has started and is warm
        page.set_input_files("#files", [])
        with memory() as grown:
            start = time.perf_counter()
            page.set_input_files("#files", path)
            page.locator("#file-2").wait_for()
            page.locator("#file-2 .hint").wait_for(state="detached")
            seconds = time.perf_counter() - start
            found[name] = {
                "seconds": round(seconds, 2),
                "MB": grown(),
                "shown": page.locator("#file-2 p").nth(1).inner_text(),
            }
        page.close()
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def requests(browser: Browser, url: str) -> list[str]:
    """List the network requests of a whole case, from loading the page to the receipt."""
    page = browser.new_page()
    page.add_init_script(NOTES)
    visitor = Visitor(page, url)
    visitor.arrive()
    visitor.open_case([*pictures(), clip()])
    sent = [f"{r.method} {r.url.replace(url, '')}" for r in visitor.requests]
    notes = visitor.notes()
    page.close()
    return [*sent, *notes]


def axe(browser: Browser, url: str) -> dict[str, dict[str, int]]:
    """Count axe's findings on all screens, in two languages and both themes."""
    found = {}
    for language in ("en", "ar"):
        for theme in ("light", "dark"):
            context = browser.new_context(
                locale=language, color_scheme=theme, viewport={"width": 320, "height": 640}
            )
            page = context.new_page()
            page.add_init_script(NOTES)
            visitor = Visitor(page, url, language)
            checker = Axe(page)
            counts = [checker.look() for _ in visitor.every_screen()]
            found[f"{language}, {theme}"] = {
                "screens": len(counts),
                "findings": sum(len(problems) for problems, _ in counts),
                "rules kept": sum(passes for _, passes in counts),
            }
            context.close()
    return found


def sizes() -> dict[str, int]:
    """Return the sizes in bytes of the page's sources and of the single file, plain and gzipped."""
    parts = [p.read_bytes() for p in SITE.rglob("*") if p.is_file() and p.suffix != ".json"]
    single = build().html.encode()
    return {
        "sources": sum(map(len, parts)),
        "sources, packed": sum(len(gzip.compress(p, mtime=0)) for p in parts),
        "single file, all languages": len(single),
        "single file, packed": len(gzip.compress(single, mtime=0)),
    }


PARTS: Final = ("bits", "hiding", "cost", "requests", "axe", "sizes")


def main() -> None:
    """Run the parts and print their results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    paths = photos(options.photos)
    expected = by_python(paths) if {"bits", "hiding"} & set(options.only) else {}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        serving = ServiceProcess(folder, forked=False)
        serving.platform(name="Example Social")
        url = serving.address
        try:
            with launched(playwright) as browser:
                runs: dict[str, Callable[[], Any]] = {
                    "bits": lambda: {
                        "Chromium": compare(expected, in_chromium(browser, url, paths)),
                        "Firefox": compare(
                            expected, in_webdriver_browser(firefox.started, folder, url, paths)
                        ),
                        "WebKit": compare(
                            expected, in_webdriver_browser(webkit.started, folder, url, paths)
                        )
                        if webkit.installed()
                        else "not installed",
                    },
                    "hiding": lambda: compare(
                        expected,
                        in_webdriver_browser(
                            partial(firefox.started, **HIDING), folder, url, paths
                        ),
                    ),
                    "cost": lambda: cost(browser, url, folder),
                    "requests": lambda: requests(browser, url),
                    "axe": lambda: axe(browser, url),
                    "sizes": sizes,
                }
                for part in options.only:
                    found[part] = runs[part]()
                    print(json.dumps({part: found[part]}, indent=1, ensure_ascii=False), flush=True)
        finally:
            serving.end()
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
