"""The survivor's page: a closed list of files, each read once, and the policies they come with."""

import gzip
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response

LANGUAGES: Final = ("en", "es", "pt", "fr", "ar", "ur", "hi")

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
}
_FILES: Final = (
    *("page.css", "app.js", "asking.js", "canvas.js", "choosing.js", "edition.js", "elements.js"),
    *("formats.js", "hasher.js", "holding.js", "jpeg.js", "pdq.js", "png.js", "proof.js"),
    *("scan.js", "service.js", "trimming.js", "views.js", "words.js", "work.js", "worker.js"),
    *(f"words/{language}.json" for language in LANGUAGES),
)

_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; media-src blob:; "
    "worker-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types w"
)
# What opens files has no network: it may load its own modules and nothing else.
_WORKER_POLICY: Final = (
    "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

POLICIES: Final[Mapping[str, str]] = {"/": _PAGE_POLICY, "/page/worker.js": _WORKER_POLICY}


def create_router() -> APIRouter:
    """Read the page's files, and give the routes that serve them."""
    router = APIRouter(include_in_schema=False)
    folder = files("clearinghouse") / "site"
    _add(router, "/", "index.html", (folder / "index.html").read_bytes())
    for name in _FILES:
        _add(router, f"/page/{name}", name, (folder / name).read_bytes())
    return router


def _add(router: APIRouter, path: str, name: str, content: bytes) -> None:
    media_type = _TYPES[name.rpartition(".")[2]]
    # Nothing in these files is secret, so that their length as packed tells nobody anything.
    packed = gzip.compress(content, mtime=0)

    async def read(request: Request) -> Response:
        headers = {"Vary": "Accept-Encoding"}
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return Response(content, media_type=media_type, headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(packed, media_type=media_type, headers=headers)

    router.add_api_route(path, read, methods=["GET", "HEAD"])
