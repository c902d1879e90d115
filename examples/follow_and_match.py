"""Keep a local bank up to date, and match uploads against it, crops and collages included.

A copy of a whole picture is reported as blocked. A match marked `review`, such as that of a part of
a picture, is only printed: a person has to look at it first.

The key is read from the environment as NCIIHASH_KEY and needs the scopes `feed` and `feedback`.

Run: python follow_and_match.py SERVER BANK UPLOAD…
"""

import os
import sys

from nciihash import Matcher, Verdict
from nciihash.bank import Bank
from nciihash.client import PlatformClient
from nciihash.sdk import follow


def main(server: str, bank_file: str, uploads: list[str]) -> None:
    with PlatformClient(server, os.environ["NCIIHASH_KEY"]) as client:
        # In production, run `follow` without `once` in one process. Others use a `BankReader`.
        with Bank.open(bank_file) as bank:
            progress = follow(client, bank, once=True)
        print(f"{progress.signals} signals in the bank")

        blocked: dict[str, Verdict] = {}
        with Bank.read(bank_file) as bank:
            matcher = Matcher(bank)
            for upload in uploads:
                for match in matcher.find(upload):
                    print(f"{upload}: {match.distance} bits from {match.id}, {match.band}")
                    if match.review:
                        print(f"  to be reviewed: {match.edit or 'the picture has little detail'}")
                    else:
                        blocked[match.id] = Verdict.BLOCKED
        reply = client.feedback(blocked)
        print(f"{reply.recorded} verdicts recorded")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
