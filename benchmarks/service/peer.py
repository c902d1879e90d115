"""A peer of the service: `threatexchange`'s index in a Flask app, like Hasher-Matcher-Actioner.

Reads a bank of packed hashes from the file named on the command line, prints its address, and
responds to `GET /m/raw_lookup?signal=HEX`, one hash per request, with the numbers of matching rows.
"""

import sys
from pathlib import Path

import numpy as np
from flask import Flask, request
from threatexchange.signal_type.pdq.pdq_index import PDQIndex
from werkzeug.serving import WSGIRequestHandler, make_server


def main() -> None:
    """Build the index, then serve until killed."""
    rows = np.fromfile(Path(sys.argv[1]), dtype=np.uint8).reshape(-1, 32)
    index = PDQIndex.build([(row.tobytes().hex(), number) for number, row in enumerate(rows)])
    app = Flask(__name__)

    @app.get("/m/raw_lookup")
    def raw_lookup() -> dict[str, list[int]]:
        return {"matches": [match.metadata for match in index.query(request.args["signal"])]}

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # keep-alive, as with a production server

        def log_request(self, *_: object) -> None:
            """Write no access log, as clearinghouse writes none."""

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    print(f"listening on http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
