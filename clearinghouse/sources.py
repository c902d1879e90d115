"""The files that the survivor's page is made of: a closed list, in the order of who needs whom."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Final

LANGUAGES: Final = ("en", "es", "pt", "fr", "ar", "ur", "hi")

# What opens files, in a worker without network.
WORKER: Final = (
    *("prints.js", "pdq.js", "formats.js", "scan.js", "jpeg.js", "png.js", "views.js"),
    *("trimming.js", "pixels.js", "canvas.js", "frames.js", "reel.js", "work.js", "worker.js"),
)
# What she sees.
PAGE: Final = (
    *("prints.js", "edition.js", "elements.js", "film.js", "hasher.js", "words.js", "service.js"),
    *("proof.js", "asking.js", "choosing.js", "sending.js", "holding.js", "checking.js", "app.js"),
)


def read(name: str) -> bytes:
    """Read one of the page's files."""
    return (files("clearinghouse") / "site" / name).read_bytes()


def served() -> Iterator[tuple[str, str, bytes]]:
    """Give each file that a server hands out: the address's path, the file's name, its content."""
    yield "/", "index.html", read("index.html")
    words = (f"words/{language}.json" for language in LANGUAGES)
    for name in ("page.css", *sorted({*WORKER, *PAGE}), *words):
        yield f"/page/{name}", name, read(name)
