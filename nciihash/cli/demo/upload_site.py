"""A small site for uploads that knows nothing of hashes, for the demonstration of the gate.

    python -m nciihash.cli.demo.upload_site --folder uploads --clamd HOST:PORT

Like many sites it can ask a virus scanner about each upload, in clamd's protocol. It prints its
address when it listens: by default a free port of this machine alone.
"""

import argparse
import asyncio
import secrets
import socket
from html import escape
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

_CHUNK: Final = 1 << 16
_NAME: Final = 16  # random bytes of a stored file's name
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Upload site</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem;
       margin: 3rem auto; padding: 0 1rem }}
button {{ font: inherit; padding: .5rem 1.2rem }}
.message {{ border-left: .3rem solid {color}; padding: .5rem 1rem }}
</style>
<h1>Share a picture</h1>
<p class="message">{message}</p>
<form method="post" action="/upload" enctype="multipart/form-data">
<p><label>Picture <input type="file" name="file" required></label></p>
<p><button>Upload</button></p>
</form>
"""


def site(folder: Path, clamd: tuple[str, int] | None) -> Starlette:
    """Return the site.

    Args:
        folder: for the uploads.
        clamd: the host and port of a virus scanner that is asked about each upload; None for none.
    """

    async def form(_: Request) -> Response:
        return _page("Anybody can see what you share.", "#888")

    async def upload(request: Request) -> Response:
        async with request.form(max_files=1) as fields:
            file = fields.get("file")
            if not isinstance(file, UploadFile):
                return _page("Choose a picture first.", "#b00020", 400)
            data = await file.read()
        if clamd is not None:
            answer = await _scan(clamd, data)
            if not answer.endswith("OK"):
                return _page(f"This file was refused: {answer}", "#b00020", 422)
        name = secrets.token_hex(_NAME)
        (folder / name).write_bytes(data)
        return _page(f'Stored. <a href="/files/{name}">See it</a>.', "#0a7d33", 201)

    async def stored(request: Request) -> Response:
        path = folder / Path(request.path_params["name"]).name
        return FileResponse(path) if path.is_file() else _page("Not found.", "#b00020", 404)

    return Starlette(
        routes=[
            Route("/", form),
            Route("/upload", upload, methods=["POST"]),
            Route("/files/{name}", stored),
        ]
    )


def _page(message: str, color: str, status: int = 200) -> HTMLResponse:
    if status >= 400:
        message = escape(message)
    return HTMLResponse(_PAGE.format(message=message, color=color), status)


async def _scan(address: tuple[str, int], data: bytes) -> str:
    """Return what the virus scanner answers about a file."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"zINSTREAM\0")
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            writer.write(len(chunk).to_bytes(4, "big") + chunk)
            await writer.drain()
        writer.write(bytes(4))
        await writer.drain()
        return (await reader.readuntil(b"\0"))[:-1].decode()
    finally:
        writer.close()


async def _serve(folder: Path, clamd: tuple[str, int] | None, listen: tuple[str, int]) -> None:
    listener = socket.create_server(listen)
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(site(folder, clamd), log_level="error", access_log=False)
    print(f"upload site: listening on http://{host}:{port}", flush=True)  # noqa: T201
    await uvicorn.Server(config).serve([listener])


def main() -> None:
    """Serve until the process is terminated."""
    parser = argparse.ArgumentParser(description="A small site for uploads.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--clamd", help="HOST:PORT of a virus scanner")
    parser.add_argument("--listen", default="127.0.0.1:0", help="HOST:PORT of this site")
    options = parser.parse_args()
    clamd = None if options.clamd is None else _address(options.clamd)
    options.folder.mkdir(exist_ok=True)
    asyncio.run(_serve(options.folder, clamd, _address(options.listen)))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()
