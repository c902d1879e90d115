"""Process the files that another program moves into a folder.

Each file in INBOX is moved to INBOX/shown, or to INBOX/held if it or a part of it matches the bank,
or if it cannot be hashed. A person has to look at those held files whose matches are marked
`review`. The other verdicts are queued in INBOX/.verdicts until the clearinghouse has them. The
inbox itself is the list of pending work: a worker that is killed continues with the same file, and
adding a verdict twice has no further effect. The other program must move complete files in, by
renaming them.

The key is read from the environment as NCIIHASH_KEY and needs the scopes `feed` and `feedback`.

Run: python work_through_inbox.py SERVER BANK INBOX [--once]
"""

import os
import sys
import time
from pathlib import Path

from nciihash import Follower, Matcher, PlatformClient, Verdict, VerdictQueue, VerdictSender
from nciihash.errors import FileRefused
from nciihash.sdk import Stop


def main(server: str, bank: str, inbox: str, *, once: bool = False) -> None:
    key, folder = os.environ["NCIIHASH_KEY"], Path(inbox)
    shown, held = folder / "shown", folder / "held"
    shown.mkdir(exist_ok=True)
    held.mkdir(exist_ok=True)
    stop = Stop()
    with (
        stop.on_signals(),  # after SIGTERM or Ctrl-C, finish the current file
        VerdictQueue(folder / ".verdicts") as verdicts,
        Follower(server, key, bank) as follower,
        VerdictSender(server, key, verdicts),
    ):
        while not follower.ready(1) and not stop.asked:
            print(follower.health().error or "Waiting until the bank is complete.")
        matcher = Matcher(follower)
        while not stop.asked:
            files = sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
            for file in files:
                to = held if suspicious(file, matcher, verdicts) else shown
                file.rename(to / file.name)
                print(f"{file.name}: {to.name}")
                if stop.asked:
                    break
            if once:
                with PlatformClient(server, key) as client:
                    verdicts.send(client)
                break
            if not files:
                time.sleep(0.2)


def suspicious(file: Path, matcher: Matcher, verdicts: VerdictQueue) -> bool:
    try:
        matches = matcher.find(file)
    except FileRefused as error:
        print(f"{file.name}: {error}")
        return True
    if blocked := [match.id for match in matches if not match.review]:
        verdicts.add(dict.fromkeys(blocked, Verdict.BLOCKED))
    for match in matches:
        if match.review:
            print(f"{file.name}: to be reviewed: {match.edit or 'it has little detail'}")
    return bool(matches)


if __name__ == "__main__":
    main(*sys.argv[1:4], once="--once" in sys.argv[4:])
