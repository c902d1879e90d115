"""Process the files that another program moves into a folder.

Each file in INBOX is moved to INBOX/shown, or to INBOX/held if it matches the bank or cannot be
hashed. Verdicts are queued in INBOX/.verdicts until the clearinghouse has them. The inbox itself is
the list of pending work: a worker that is killed continues with the same file, and adding a verdict
twice has no further effect. The other program must move complete files in, by renaming them.

The key is read from the environment as NCIIHASH_KEY and needs the scopes `feed` and `feedback`.

Run: python work_through_inbox.py SERVER BANK INBOX [--once]
"""

import os
import sys
import time
from pathlib import Path

from nciihash import Follower, PlatformClient, Verdict, VerdictQueue, VerdictSender
from nciihash.errors import FileRefused
from nciihash.sandbox import Sandbox
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
        Sandbox() as sandbox,
        Follower(server, key, bank) as follower,
        VerdictSender(server, key, verdicts),
    ):
        while not follower.ready(1) and not stop.asked:
            print(follower.health().error or "Waiting until the bank is complete.")
        while not stop.asked:
            files = sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
            for file in files:
                to = held if suspicious(file, sandbox, follower, verdicts) else shown
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


def suspicious(file: Path, sandbox: Sandbox, follower: Follower, verdicts: VerdictQueue) -> bool:
    try:
        signals = [hashed.signal for hashed in sandbox.hash_file(file).hashes]
    except FileRefused as error:
        print(f"{file.name}: {error}")
        return True
    ids = {match.id for matches in follower.query(signals) for match in matches}
    if ids:
        verdicts.add(dict.fromkeys(ids, Verdict.BLOCKED))
    return bool(ids)


if __name__ == "__main__":
    main(*sys.argv[1:4], once="--once" in sys.argv[4:])
