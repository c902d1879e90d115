"""Run the whole process on this machine: submit, follow, match edited copies, status, withdraw.

Nothing is simulated: the clearinghouse is a process with a database in a temporary folder, requests
go over HTTP on loopback, photos are files, hashing happens in the sandbox, the bank is on disk.
"""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final

from rich.table import Table
from rich.text import Text

from nciihash.bank.bank import Bank
from nciihash.cli import tables
from nciihash.cli.demo.edits import EDITS
from nciihash.cli.demo.local_service import LocalService
from nciihash.cli.demo.photos import DemoHashes, Found, PlatformMatches, Score, hash_photos
from nciihash.cli.terminal import Terminal
from nciihash.client.platform import PlatformClient
from nciihash.client.survivor import Client
from nciihash.errors import ServiceUnreachable
from nciihash.sdk.follow_loop import follow
from nciihash.sdk.lookup import look_up
from nciihash.sdk.matcher import Matcher
from nciihash.signals import Band, Item, Level, Match, Verdict
from nciihash.wire import Reason

_BANK_PLATFORM: Final = "Platform A"  # follows the feed and matches against its own bank
_QUERY_PLATFORM: Final = "Platform B"  # has no bank and queries the clearinghouse
_CATCH_UP_SECONDS: Final = 10.0


def run(terminal: Terminal, photos: Sequence[Path]) -> bool:
    """Run the demo and print its results; the last line of output is `Score.line`.

    Args:
        terminal: where to print the results.
        photos: the files to submit; the photos of scikit-image if there are none.

    Returns:
        Whether the results are as they should be: `Score.good`.

    Raises:
        ExtraMissing: the service or the photos are not installed.
        NciihashError: one of the steps failed.
    """
    with (
        _exit_on_sigterm(),
        TemporaryDirectory(prefix="nciihash-demo-") as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        service = stack.enter_context(LocalService(folder))
        hashes = hash_photos(terminal, photos, folder)  # while the service starts
        terminal.show(
            f"A clearinghouse listens at {service.address}, for {_BANK_PLATFORM} and "
            f"{_QUERY_PLATFORM}."
        )
        bank_key = service.add_platform(_BANK_PLATFORM, "feed,match,feedback")
        query_key = service.add_platform(_QUERY_PLATFORM, "match,feedback")
        score = _run_steps(
            terminal,
            hashes,
            stack.enter_context(Client(service.address)),
            stack.enter_context(PlatformClient(service.address, bank_key)),
            stack.enter_context(PlatformClient(service.address, query_key)),
            folder / "bank",
        )
    terminal.show(score.line)
    return score.good


def _run_steps(
    terminal: Terminal,
    hashes: DemoHashes,
    survivor: Client,
    bank_platform: PlatformClient,
    query_platform: PlatformClient,
    bank: Path,
) -> Score:
    opened = survivor.open_case(hashes.photos, reason=Reason.PRECAUTION, adult=True, depicted=True)
    credentials = opened.case, opened.passphrase
    count = sum(len(photo.hashes) for photo in hashes.photos)
    terminal.show(
        f"Case {opened.case} is open with {count} hashes of {len(hashes.photos)} photos and of "
        "altered copies, such as crops and mirror images. No picture was sent."
    )

    by_bank = _match_in_bank(terminal, hashes, bank_platform, bank)
    by_query = _query_service(hashes, query_platform)
    terminal.show(
        f"\n{_QUERY_PLATFORM} queried the clearinghouse, which returns bands instead of distances "
        "and is asked about whole pictures only.\n"
    )
    terminal.show(_edits_table(hashes, by_bank, by_query))
    pairs = [(photo, edit) for photo in range(len(hashes.photos)) for edit in range(len(EDITS))]
    found, found_by_query = (
        sum(matches.nearest(*pair) is not None for pair in pairs) for matches in (by_bank, by_query)
    )
    terminal.show(
        f"\n{_BANK_PLATFORM} found {found} of {len(pairs)} copies, {_QUERY_PLATFORM} "
        f'{found_by_query}. The numbers are bits that differ. After "part", a part of the copy was '
        "moved to where it fits best; a person has to look at such a match."
    )
    terminal.show(
        f"\n{len(hashes.unrelated)} photos that were not submitted were matched as well. False "
        f"matches: {by_bank.false} at {_BANK_PLATFORM}, {by_query.false} at {_QUERY_PLATFORM}."
    )

    for platform, matches in ((bank_platform, by_bank), (query_platform, by_query)):
        platform.feedback(dict.fromkeys(matches.ids, Verdict.BLOCKED))
    terminal.show(
        "\nBoth platforms blocked the copies and reported it; the reports are counted from the "
        "next day on. The person in the photos now sees this status:\n"
    )
    terminal.show(tables.status_table(survivor.status(*credentials)))

    survivor.withdraw(*credentials)
    terminal.show("\nThe person withdraws everything.\n")
    by_bank_after = _match_in_bank(terminal, hashes, bank_platform, bank)
    by_query_after = _query(hashes, query_platform)
    terminal.show("\nThe status after the withdrawal:\n")
    terminal.show(tables.status_table(survivor.status(*credentials)))
    terminal.show("")
    return Score(
        copies=len(pairs),
        found=found,
        false=max(by_bank.false, by_query.false),
        after=by_bank_after.total + by_query_after.total,
    )


def _match_in_bank(
    terminal: Terminal, hashes: DemoHashes, client: PlatformClient, path: Path
) -> PlatformMatches:
    """Follow the feed into a bank, and match everything against it."""
    with Bank.open(path) as bank:
        end = follow(client, bank, once=True)
    terminal.show(
        f"{_BANK_PLATFORM} followed the feed: {end.added} added, {end.removed} removed, "
        f"{end.signals} in its bank, on disk and acknowledged."
    )
    with Bank.read(path) as bank:
        return PlatformMatches.of(hashes, Matcher(bank, level=Level.THOROUGH).find_all)


def _query(hashes: DemoHashes, client: PlatformClient) -> PlatformMatches:
    """Match everything by queries."""

    def find(items: Sequence[Item]) -> list[Found]:
        return [[hit for _, hit in result.found] for result in look_up(items, client.match)]

    return PlatformMatches.of(hashes, find)


def _query_service(hashes: DemoHashes, client: PlatformClient) -> PlatformMatches:
    """Match everything by queries, repeated until the service's index holds the whole case.

    Raises:
        ServiceUnreachable: the index takes too long.
    """
    end = time.monotonic() + _CATCH_UP_SECONDS
    while True:
        matches = _query(hashes, client)
        if all(matches.photos):
            return matches
        if time.monotonic() > end:
            raise ServiceUnreachable("The clearinghouse does not find what was submitted to it.")
        time.sleep(0.1)


def _edits_table(hashes: DemoHashes, by_bank: PlatformMatches, by_query: PlatformMatches) -> Table:
    """Return a table with the distance at which each edit of each photo was found or missed.

    A cell "part 5" is a match of a window, 5 bits after aligning. The other distances are computed
    here, where the photos are; the clearinghouse returns none.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Edit")
    for name in hashes.names:
        table.add_column(Text(tables.shown(name)[:12]), justify="right")
    table.add_column(_QUERY_PLATFORM, justify="right")
    for number, edit in enumerate(EDITS):
        cells = []
        bands = []
        for photo in range(len(hashes.photos)):
            distance = hashes.distance(photo, number)
            match by_bank.nearest(photo, number):
                case Match(aligned=int(aligned)):
                    cells.append(f"part {aligned}")
                case None:
                    cells.append(f"[dim]missed ({distance})[/dim]")
                case _:
                    cells.append(f"{distance}")
            if hit := by_query.nearest(photo, number):
                bands.append(hit.band)
        counts = [f"{bands.count(band)} {band.value}" for band in Band if band in bands]
        table.add_row(edit.name, *cells, ", ".join(counts) or "[dim]none[/dim]")
    return table


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Exit on SIGTERM by an exception, so that the child and the temporary folder are removed."""

    def handle(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
