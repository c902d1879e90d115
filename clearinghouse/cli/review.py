"""Commands to decide questions about files, and to maintain the allowlist."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from clearinghouse.abuse import review as reviewing
from clearinghouse.cli.shared import AsJson, Database, now, open_store, show
from clearinghouse.platforms.keys import find
from clearinghouse.times import moment
from nciihash.errors import InvalidSignal
from nciihash.signals import Signal, SignalType

review = typer.Typer(
    no_args_is_help=True,
    help="Files that wait for your decision. No picture, hash or case number is shown.",
)
lawful = typer.Typer(no_args_is_help=True, help="The allowlist: hashes of known lawful pictures.")
review.add_typer(lawful, name="lawful")

Number = Annotated[int, typer.Argument(help="Number of the question in `review list`.")]
Hashes = Annotated[
    Path,
    typer.Argument(help="A text file with one PDQ or MD5 hash per line, in hexadecimal."),
]
_EXPLANATIONS = {
    "quarantined": "similar to a lawful picture; no platform receives it until you decide",
    "lawful": "similar to a picture that was later added to the allowlist",
    "hits": "matched by many platforms within a day: the picture may be spreading",
    "verdicts": "platforms agree not to block it; hashes on hold are purged after 7 days",
    "overturned": "a platform blocked it, and found later that it should not have",
    "resubmitted": "submitted while an equal hash is on hold; it is released after 7 days",
    "oracle": "one key sends many queries close to this file: it may be probing for its hash",
}


@review.command("list")
def list_questions(database: Database = None, as_json: AsJson = False) -> None:
    """List the questions that wait for your decision, oldest first."""
    with open_store(database) as store:
        questions = reviewing.questions(store)

    def table() -> Table:
        result = Table("Number", "Since", "Question", "Count", "Platforms", "Matches", "Verdicts")
        for row in questions:
            text = f"{row.kind}: {_EXPLANATIONS[row.kind]}"
            if row.platform is not None:
                text += f" ({row.platform}, key {row.key})"
            if row.said_by:
                text += f" ({', '.join(row.said_by)}; {row.held} hash(es) on hold)"
            verdicts = ", ".join(f"{count} {name}" for name, count in sorted(row.verdicts.items()))
            counts = (str(n) for n in (row.count, row.platforms, row.matches))
            day = f"{moment(row.since):%Y-%m-%d}"
            result.add_row(str(row.number), day, text, *counts, verdicts or "-")
        return result

    rows = [asdict(row) | {"since": moment(row.since).isoformat()} for row in questions]
    show(as_json, rows, table)


@review.command()
def keep(number: Number, database: Database = None, as_json: AsJson = False) -> None:
    """Keep the file and close the question. Hashes on hold are released to platforms."""
    with open_store(database) as store:
        reviewing.keep(store, number, now=now())
    show(as_json, {"number": number, "state": "kept"}, lambda: "The file is kept.")


@review.command("put-back")
def keep_all(
    platform: Annotated[str, typer.Argument(help="Name of the platform.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Keep every file with an open question raised by this platform's verdicts.

    Hashes that the verdicts put on hold are released to platforms again. Use this after a key of
    the platform was misused; revoke the key first, with `platform revoke`.
    """
    with open_store(database) as store:
        count = reviewing.put_back(store, find(store, platform), now=now())
    show(as_json, {"kept": count}, lambda: f"{count} file(s) are kept.")


@review.command()
def remove(number: Number, database: Database = None, as_json: AsJson = False) -> None:
    """Remove the file: it is no longer matched, and every platform is asked to delete its hashes.

    Its holder sees that you removed it, and can turn to a helpline.
    """
    with open_store(database) as store:
        reviewing.remove(store, number, now=now())
    show(as_json, {"number": number, "state": "removed"}, lambda: "The file is removed.")


@lawful.command("add")
def add_lawful(file: Hashes, database: Database = None, as_json: AsJson = False) -> None:
    """Add hashes to the allowlist. Similar pictures submitted from now on wait for your decision.

    For each live file that is similar, a question is opened; the file is still matched until you
    decide.
    """
    hashes = _read_hashes(file)
    with open_store(database) as store:
        new, similar = reviewing.list_lawful(store, hashes, now=now())
    show(
        as_json,
        {"listed": new, "questions": similar},
        lambda: f"{new} hash(es) added. {similar} live file(s) to decide on: see `review list`.",
    )


@lawful.command("remove")
def remove_lawful(file: Hashes, database: Database = None, as_json: AsJson = False) -> None:
    """Remove hashes from the allowlist. Your earlier decisions stay."""
    hashes = _read_hashes(file)
    with open_store(database) as store:
        count = reviewing.unlist_lawful(store, hashes, now=now())
    show(as_json, {"unlisted": count}, lambda: f"{count} hash(es) removed from the allowlist.")


def _read_hashes(file: Path) -> list[Signal]:
    """Read the hashes of a text file, with comments after "#".

    64 digits are a PDQ hash, 32 an MD5 hash.

    Raises:
        BadParameter: a line is neither.
    """
    hashes = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not (digits := line.partition("#")[0].strip()):
            continue
        kind = SignalType.MD5 if len(digits) == 32 else SignalType.PDQ
        try:
            hashes.append(Signal.from_hex(kind, digits.lower()))
        except InvalidSignal:
            raise typer.BadParameter(
                f"Line {number} is neither a PDQ hash (64 hexadecimal digits) nor an MD5 hash (32 "
                "digits). Nothing was changed."
            ) from None
    return hashes
