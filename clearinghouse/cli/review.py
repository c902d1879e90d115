"""The commands with which the operator decides what is kept."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from clearinghouse.abuse import review as reviewing
from clearinghouse.cli.shared import AsJson, Database, now, opened, show
from clearinghouse.platforms.keys import find
from clearinghouse.times import moment
from nciihash.errors import InvalidSignal
from nciihash.signals import Signal, SignalType

review = typer.Typer(
    no_args_is_help=True,
    help="What waits for your decision. Nothing here shows a picture, a hash or a case number.",
)
lawful = typer.Typer(no_args_is_help=True, help="Hashes of pictures that are known to be lawful.")
review.add_typer(lawful, name="lawful")

Number = Annotated[int, typer.Argument(help="As `review list` shows it.")]
Hashes = Annotated[
    Path,
    typer.Argument(help="A text file with a hash on each line, in hexadecimal digits."),
]
_MEANS = {
    "quarantined": "like a lawful picture; goes to no platform until you decide",
    "lawful": "like a picture that was listed as lawful later",
    "hits": "met by many platforms within a day: it may be the very abuse",
    "verdicts": "two platforms do not block it; what is held back is purged after 7 days",
    "resubmitted": "platforms did not block the same hash; it goes out after 7 days",
    "oracle": "the queries of one key gather around this file",
}


@review.command("list")
def list_questions(database: Database = None, as_json: AsJson = False) -> None:
    """List what waits for you, oldest first."""
    with opened(database) as store:
        found = reviewing.questions(store)

    def table() -> Table:
        shown = Table("Number", "Since", "What", "How many", "Platforms", "Matches", "Verdicts")
        for row in found:
            what = f"{row.kind}: {_MEANS[row.kind]}"
            if row.platform is not None:
                what += f" ({row.platform}, key {row.key})"
            if row.said_by:
                what += f" ({', '.join(row.said_by)}; {row.held} hash(es) held back)"
            said = ", ".join(f"{count} {word}" for word, count in sorted(row.verdicts.items()))
            counts = (str(n) for n in (row.count, row.platforms, row.matches))
            day = f"{moment(row.since):%Y-%m-%d}"
            shown.add_row(str(row.number), day, what, *counts, said or "-")
        return shown

    rows = [asdict(row) | {"since": moment(row.since).isoformat()} for row in found]
    show(as_json, rows, table)


@review.command()
def keep(number: Number, database: Database = None, as_json: AsJson = False) -> None:
    """Keep the file and close the question. What was held back goes out to platforms."""
    with opened(database) as store:
        reviewing.keep(store, number, now=now())
    show(as_json, {"number": number, "state": "kept"}, lambda: "The file is kept.")


@review.command("put-back")
def put_back(
    platform: Annotated[str, typer.Argument(help="Its name.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Keep every file about which this platform's verdicts ask, and put back what they took out.

    For a platform whose key was misused: first revoke the key with `platform revoke`.
    """
    with opened(database) as store:
        count = reviewing.put_back(store, find(store, platform), now=now())
    show(as_json, {"kept": count}, lambda: f"{count} file(s) are kept.")


@review.command()
def remove(number: Number, database: Database = None, as_json: AsJson = False) -> None:
    """Take the file out: nothing matches it any more, and every platform is told to delete it.

    Its holder sees that it was you, and can turn to a helpline.
    """
    with opened(database) as store:
        reviewing.remove(store, number, now=now())
    show(as_json, {"number": number, "state": "removed"}, lambda: "The file is taken out.")


@lawful.command("add")
def add_lawful(file: Hashes, database: Database = None, as_json: AsJson = False) -> None:
    """List pictures as lawful: what is submitted and is like one of them is held back.

    Live files that are like one of them are put before you, and go on being matched meanwhile.
    """
    hashes = _read(file)
    with opened(database) as store:
        new, near = reviewing.list_lawful(store, hashes, now=now())
    show(
        as_json,
        {"listed": new, "questions": near},
        lambda: f"{new} hash(es) listed. {near} live file(s) to look at: `review list`.",
    )


@lawful.command("remove")
def remove_lawful(file: Hashes, database: Database = None, as_json: AsJson = False) -> None:
    """Take pictures off the list. What you decided stays decided."""
    hashes = _read(file)
    with opened(database) as store:
        gone = reviewing.unlist_lawful(store, hashes, now=now())
    show(as_json, {"unlisted": gone}, lambda: f"{gone} hash(es) taken off the list.")


def _read(file: Path) -> list[Signal]:
    """Read hashes, whose types follow from their lengths: 64 digits are PDQ, 32 are MD5."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not (word := line.partition("#")[0].strip()):
            continue
        kind = SignalType.MD5 if len(word) == 32 else SignalType.PDQ
        try:
            found.append(Signal.from_hex(kind, word.lower()))
        except InvalidSignal:
            raise typer.BadParameter(
                f"Line {number} is no PDQ hash (64 digits) and no MD5 (32). Nothing was changed."
            ) from None
    return found


# --- advocates -------------------------------------------------------------------------------
