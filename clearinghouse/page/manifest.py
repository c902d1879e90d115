"""The files of the survivor's page: a closed list, each file after those that it imports."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Final

LANGUAGES: Final = ("en", "es", "pt", "fr", "ar", "ur", "hi")

# The worker, which opens files and has no network.
WORKER: Final = (
    "worker/fingerprints.js",
    "worker/pdq.js",
    "worker/formats.js",
    "worker/jpeg_scan.js",
    "worker/jpeg.js",
    "worker/png.js",
    "worker/gif.js",
    "worker/block_means.js",
    "worker/altered_views.js",
    "worker/trimming.js",
    "worker/pixels.js",
    "worker/canvas.js",
    "worker/video_structure.js",
    "worker/frame_pixels.js",
    "worker/frame_selection.js",
    "worker/animation.js",
    "worker/proof_of_work.js",
    "worker/worker.js",
)
# The page itself.
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
    """Return the content of one of the page's files."""
    return (files("clearinghouse.page") / "site" / name).read_bytes()


def served() -> Iterator[tuple[str, str, bytes]]:
    """Yield each file that a server sends: the path of its URL, the file's name, its content."""
    yield "/", "index.html", read("index.html")
    words = (f"words/{language}.json" for language in LANGUAGES)
    for name in ("page.css", *sorted({*WORKER, *PAGE}), *words):
        yield f"/page/{name}", name, read(name)
