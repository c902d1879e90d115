"""Runs a gate as a process: `python gate_program.py CONFIG [pictures]`.

With `pictures` it looks uploads up among the test pictures of docs/gate, without a clearinghouse.
"""

import os
import sys
from pathlib import Path

from nciihash.errors import NciihashError
from nciihash.gate.bank import StaticBank
from nciihash.gate.config import load
from nciihash.gate.rehearsal import picture_items
from nciihash.gate.serve import serve


def main(path, bank=None):
    def ready(_, listeners):
        for listener in listeners:
            for dialect in listener.dialects:
                sys.stdout.write(f"{dialect.value} {listener.url}\n")
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    try:
        serve(
            lambda: load(Path(path), os.environ),
            ready=ready,
            bank=StaticBank(picture_items()) if bank else None,
        )
    except NciihashError as error:
        sys.exit(f"gate: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
