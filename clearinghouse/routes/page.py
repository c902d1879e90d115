"""The survivor's page: a fixed list of files, read once at start, and their policies."""

import gzip
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Request, Response

from clearinghouse.page import manifest
from clearinghouse.page.single_file import digests

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
}

_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; media-src blob:; "
    "worker-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types w"
)
# The worker decodes files, so it gets no network: it may only load its own modules.
_WORKER_POLICY: Final = (
    "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

POLICIES: Final[Mapping[str, str]] = {"/": _PAGE_POLICY, "/page/worker/worker.js": _WORKER_POLICY}


def create_router() -> APIRouter:
    """Read the page's files, and return the routes that serve them and their digests."""
    router = APIRouter(include_in_schema=False)
    for path, name, content in manifest.served():
        add_file(router, path, name, content)
    add_file(router, "/digests.json", "digests.json", digests())
    return router


def add_file(router: APIRouter, path: str, name: str, content: bytes) -> None:
    """Add a route that serves a file, compressed for clients that accept gzip.

    Args:
        router: where to add the route.
        path: of the URL.
        name: of the file; its suffix determines the media type.
        content: of the file.
    """
    media_type = _TYPES[name.rpartition(".")[2]]
    # Compression is safe here: the files contain no secret that their length could reveal.
    compressed = gzip.compress(content, mtime=0)

    async def read(request: Request) -> Response:
        headers = {"Vary": "Accept-Encoding"}
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return Response(content, media_type=media_type, headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(compressed, media_type=media_type, headers=headers)

    router.add_api_route(path, read, methods=["GET", "HEAD"])
