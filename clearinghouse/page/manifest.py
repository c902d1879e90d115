"""The files that the survivor's page is made of: a closed list, in the order of who needs whom."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Final

LANGUAGES: Final = ("en", "es", "pt", "fr", "ar", "ur", "hi")

# What opens files, in a worker without network.
WORKER: Final = (
    "worker/fingerprints.js",
    "worker/pdq.js",
    "worker/formats.js",
    "worker/jpeg_scan.js",
    "worker/jpeg.js",
    "worker/png.js",
    "worker/gif.js",
    "worker/altered_views.js",
    "worker/trimming.js",
    "worker/pixels.js",
    "worker/canvas.js",
    "worker/film_structure.js",
    "worker/frame_pixels.js",
    "worker/frame_selection.js",
    "worker/animation.js",
    "worker/proof_of_work.js",
    "worker/worker.js",
)
# What she sees.
PAGE: Final = (
    "worker/fingerprints.js",
    "build_flags.js",
    "dom.js",
    "video_player.js",
    "worker_client.js",
    "i18n.js",
    "api.js",
    "work_client.js",
    "screens/questions.js",
    "screens/choose_files.js",
    "screens/send.js",
    "screens/case.js",
    "screens/check_copy.js",
    "app.js",
)


def read(name: str) -> bytes:
    """Read one of the page's files."""
    return (files("clearinghouse.page") / "site" / name).read_bytes()


def served() -> Iterator[tuple[str, str, bytes]]:
    """Give each file that a server hands out: the address's path, the file's name, its content."""
    yield "/", "index.html", read("index.html")
    words = (f"words/{language}.json" for language in LANGUAGES)
    for name in ("page.css", *sorted({*WORKER, *PAGE}), *words):
        yield f"/page/{name}", name, read(name)
