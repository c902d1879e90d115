"""Open a case with the hashes of pictures, look at it, and take it back.

A program that does this for somebody asks her first: was she 18 or older, is she in the pictures,
and why. The pictures never leave the device; `open_case` sends hashes.

Run: python submit_and_withdraw.py SERVER PICTURE…
"""

import sys

from nciihash.client import Client
from nciihash.sandbox import Sandbox
from nciihash.wire import Reason


def main(server: str, paths: list[str]) -> None:
    with Sandbox() as sandbox:
        items = [sandbox.hash_file(path) for path in paths]
    items = [item for item in items if not any(hashed.plain for hashed in item.hashes)]

    with Client(server) as client:
        opened = client.open_case(items, reason=Reason.PRECAUTION, adult=True, depicted=True)
        print(
            f"Case {opened.case}: {len(opened.items)} files, open until {opened.expires:%Y-%m-%d}"
        )
        # `opened.passphrase` is in this answer and nowhere else: she needs it for what follows

        status = client.status(opened.case, opened.passphrase)
        for item in status.items:
            names = [platform.platform for platform in item.platforms]
            print(f"File {item.item} is matched; taking part: {', '.join(names) or 'nobody yet'}")

        done = client.withdraw(opened.case, opened.passphrase)
        print(f"{done.withdrawn} files withdrawn, {done.remaining} left: the case is {done.state}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
