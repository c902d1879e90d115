"""Keep PieFed's list of blocked images equal to a gate's bank: additions and removals.

    python fill_piefed_list.py BANK DATABASE [--every SECONDS]

BANK is the file `bank` in the gate's data folder; it must have whole hashes, so the gate must not
be `veiled`. DATABASE is the address of PieFed's PostgreSQL database, such as
postgresql://piefed:PASSWORD@localhost/piefed. Without --every, the list is filled once.

PieFed reads the table `blocked_image` at each upload, so a change counts at once. This program
changes only its own rows, whose notes begin with "nciihash". Do not edit those.

PieFed compares whole images, within 14 bits. So an edited copy, such as a crop, a collage or a
mirror image, is not found this way unless its hash was submitted. The other protocols of the gate
find those: see piefed.md.
"""

import argparse
import sys
import time

import psycopg

from nciihash.bank import Bank
from nciihash.errors import NciihashError
from nciihash.signals import SignalType

MARK = "nciihash "  # before the id of a signal, in the notes of the rows


def wanted_rows(bank: Bank) -> dict[str, str]:
    """Return the hashes of a bank as 256 binary digits, by the note of their row."""
    rows = {}
    for entry in bank:
        if entry.signal.type is SignalType.PDQ:
            number = int.from_bytes(entry.signal.value, "big")
            rows[MARK + entry.id] = f"{number:0256b}"
    return rows


def fill(connection: psycopg.Connection, wanted: dict[str, str]) -> tuple[int, int]:
    """Add and remove rows in one transaction, and return how many."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE blocked_image IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("SELECT note FROM blocked_image WHERE note LIKE %s", (MARK + "%",))
        present = {note for (note,) in cursor}
        added = [(bits, note, "") for note, bits in wanted.items() if note not in present]
        removed = sorted(present - wanted.keys())
        cursor.executemany(
            "INSERT INTO blocked_image (hash, note, file_name) VALUES (%s::bit(256), %s, %s)", added
        )
        cursor.execute("DELETE FROM blocked_image WHERE note = ANY(%s)", (removed,))
    return len(added), len(removed)


def run(bank_file: str, database: str) -> None:
    """Fill the list once."""
    with Bank.read(bank_file) as bank, psycopg.connect(database) as connection:
        if bank.cursor is None:
            print("The gate has not received its bank yet; the list is left as it is.")
            return
        if any(entry.signal.type.veils for entry in bank):
            raise SystemExit("The bank has no whole hashes. Set `veiled = false` in gate.toml.")
        added, removed = fill(connection, wanted_rows(bank))
    print(f"{added} added, {removed} removed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bank")
    parser.add_argument("database")
    parser.add_argument("--every", type=float, metavar="SECONDS")
    arguments = parser.parse_args()
    while True:
        try:
            run(arguments.bank, arguments.database)
        except (NciihashError, OSError, psycopg.Error) as error:
            # an error of PostgreSQL may quote a row
            print(f"The list was not filled: {type(error).__name__}.", file=sys.stderr)
            if arguments.every is None:
                raise SystemExit(1) from None
        if arguments.every is None:
            return
        time.sleep(arguments.every)


if __name__ == "__main__":
    main()
