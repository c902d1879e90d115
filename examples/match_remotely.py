"""Match uploads at the clearinghouse, without a local bank.

An upload is looked up by its own hash and by that of the picture within its frame; a video, by all
of its frames. Crops and collages are found only in a bank of whole hashes.

The key is read from the environment as NCIIHASH_KEY and needs the scope `match`. The clearinghouse
returns the band of a match, `strong` or `likely`, and never its distance.

Run: python match_remotely.py SERVER UPLOAD…
"""

import os
import sys

from nciihash import Level, hash_upload
from nciihash.client import PlatformClient
from nciihash.sdk import LookupResult, look_up


def main(server: str, uploads: list[str]) -> None:
    items = [hash_upload(upload, level=Level.FAST) for upload in uploads]
    with PlatformClient(server, os.environ["NCIIHASH_KEY"]) as client:
        for upload, result in zip(uploads, look_up(items, client.match), strict=True):
            print(f"{upload}: {describe(result)}")


def describe(result: LookupResult) -> str:
    matches = [
        f"{hit.band} ({hit.id}){', to be reviewed' * bool(result.needs_review(hit))}"
        for _, hit in result.found
    ]
    return "; ".join(matches) or "no match"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
