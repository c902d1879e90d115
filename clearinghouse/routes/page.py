"""The survivor's page: a closed list of files, each read once, and the policies they come with."""

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
# What opens files has no network: it may load its own modules and nothing else.
_WORKER_POLICY: Final = (
    "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

POLICIES: Final[Mapping[str, str]] = {"/": _PAGE_POLICY, "/page/worker/worker.js": _WORKER_POLICY}


def create_router() -> APIRouter:
    """Read the page's files, and give the routes that serve them and their digests."""
    router = APIRouter(include_in_schema=False)
    for path, name, content in manifest.served():
        add_file(router, path, name, content)
    add_file(router, "/digests.json", "digests.json", digests())
    return router


def add_file(router: APIRouter, path: str, name: str, content: bytes) -> None:
    """Serve a file, whose kind its name's ending tells, packed to whom that suits."""
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
