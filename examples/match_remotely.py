"""Match uploads at the clearinghouse, without a local bank.

The key is read from the environment as NCIIHASH_KEY and needs the scope `match`. The clearinghouse
returns the band of a match, `strong` or `likely`, and never its distance.

Run: python match_remotely.py SERVER UPLOAD…
"""

import os
import sys

from nciihash.client import PlatformClient
from nciihash.sandbox import Sandbox


def main(server: str, uploads: list[str]) -> None:
    with Sandbox() as sandbox:
        signals = [sandbox.hash_file(upload).hashes[0].signal for upload in uploads]
    with PlatformClient(server, os.environ["NCIIHASH_KEY"]) as client:
        for upload, hits in zip(uploads, client.match(signals), strict=True):
            matches = ", ".join(f"{hit.band} ({hit.id})" for hit in hits)
            print(f"{upload}: {matches or 'no match'}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
