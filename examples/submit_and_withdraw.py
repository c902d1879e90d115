"""Open a case with the hashes of pictures, read its status, and withdraw it.

A real program must first ask the survivor whether she was 18 or older, whether she is in the
pictures, and for what reason she submits them. The pictures never leave the device: `open_case`
sends hashes.

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
        # Show her `opened.passphrase`, too: she needs it below, and no other response contains it.

        status = client.status(opened.case, opened.passphrase)
        for item in status.items:
            names = [platform.platform for platform in item.platforms]
            print(f"File {item.item}: participating platforms: {', '.join(names) or 'none'}")

        result = client.withdraw(opened.case, opened.passphrase)
        print(
            f"{result.withdrawn} files withdrawn, {result.remaining} remaining: "
            f"the case is {result.state}"
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
