"""Serves the page's scripts and pictures to a browser, which posts the hashes of the pictures."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.paths import SITE

SCRIPT = b"""
import { THOROUGH, STANDARD } from "/page/worker/altered_views.js";
import { drawn } from "/page/worker/canvas.js";
import { hashPixels } from "/page/worker/pixels.js";

const sets = { standard: STANDARD, thorough: THOROUGH };
for (const [number, which] of (await (await fetch("/sets")).json()).entries()) {
  let signals = null;
  try {
    const blob = await (await fetch(`/files/${number}`)).blob();
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    signals = hashPixels(drawn(bitmap, bitmap), () => true, sets[which]).signals;
  } catch (error) {
    signals = String(error);
  }
  await fetch(`/found/${number}`, { method: "POST", body: JSON.stringify(signals) });
}
"""
PAGE = b"<!doctype html><script type=module src=/script.js></script>"


class Pictures:
    """Files for a browser to hash with a set of altered views, and what it makes of them."""

    def __init__(self, files, which):
        self.files = files
        self.which = which
        self.found = {}
        self.progress = threading.Condition()

    def wait(self, seconds=120):
        """Return the results in the order of the files; each may take so many seconds."""
        with self.progress:
            while len(self.found) < len(self.files):
                count = len(self.found)
                assert self.progress.wait_for(lambda seen=count: len(self.found) > seen, seconds)
        return [self.found[number] for number in range(len(self.files))]

    def reply(self, path):
        """Return the type and the bytes of a path."""
        if path == "/":
            return "text/html", PAGE
        if path == "/script.js":
            return "text/javascript", SCRIPT
        if path == "/sets":
            return "application/json", json.dumps([self.which] * len(self.files)).encode()
        if path.startswith("/files/"):
            return "application/octet-stream", self.files[int(path.removeprefix("/files/"))]
        return "text/javascript", (SITE / path.removeprefix("/page/")).read_bytes()

    def store(self, path, body):
        """Store the result for a file."""
        with self.progress:
            self.found[int(path.removeprefix("/found/"))] = json.loads(body)
            self.progress.notify_all()


@contextmanager
def offered(files, which):
    """Serve pictures; yields the address to open, and the `Pictures`."""
    pictures = Pictures(files, which)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kind, body = pictures.reply(self.path)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            pictures.store(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", pictures
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
