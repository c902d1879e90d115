"""Print the PDQ hashes of a bank in hexadecimal digits, one per line.

Run: python held.py BANK
"""

import sys

from nciihash.bank import Bank
from nciihash.signals import SignalType


def main(bank_file: str) -> None:
    with Bank.read(bank_file) as bank:
        for entry in bank:
            if entry.signal.type is SignalType.PDQ:
                print(entry.signal.hex)


if __name__ == "__main__":
    main(sys.argv[1])
