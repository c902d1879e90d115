"""Walk the whole way on this machine: submit, follow, match edited copies, look, withdraw.

Everything is real: a clearinghouse in a process of its own with a database in a temporary folder,
HTTP on loopback, photos as files, hashing in the sandbox, a bank on disk.
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
from nciihash.cli.demo.photos import DemoHashes, PlatformMatches, Score, hang
from nciihash.cli.terminal import Terminal
from nciihash.client.platform import PlatformClient
from nciihash.client.survivor import Client
from nciihash.errors import ServiceUnreachable
from nciihash.sdk.follow_loop import follow
from nciihash.signals import Band, Verdict
from nciihash.wire import Reason

_KEEPS: Final = "Platform A"  # follows the feed and matches against a bank of its own
_ASKS: Final = "Platform B"  # keeps nothing and asks the clearinghouse
_CATCH_UP_SECONDS: Final = 10.0


def run(terminal: Terminal, photos: Sequence[Path]) -> bool:
    """Run the demo and print its figures, the last line of output being `Score.line`.

    Args:
        terminal: where to speak.
        photos: the files to submit; scikit-image's photos if there are none.

    Returns:
        Whether half the copies or more were found, no stranger was, and nothing after withdrawal.

    Raises:
        ExtraMissing: the service, or the photos, are not installed.
        NciihashError: something on the way failed.
    """
    with (
        _ending_on_sigterm(),
        TemporaryDirectory(prefix="nciihash-demo-") as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        service = stack.enter_context(LocalService(folder))
        gallery = hang(terminal, photos, folder)  # while the service starts
        terminal.show(f"A clearinghouse serves at {service.address}, for {_KEEPS} and {_ASKS}.")
        keeper_key = service.add_platform(_KEEPS, "feed,match,feedback")
        asker_key = service.add_platform(_ASKS, "match,feedback")
        score = _walk(
            terminal,
            gallery,
            stack.enter_context(Client(service.address)),
            stack.enter_context(PlatformClient(service.address, keeper_key)),
            stack.enter_context(PlatformClient(service.address, asker_key)),
            folder / "bank",
        )
    terminal.show(score.line)
    return score.good


def _walk(
    terminal: Terminal,
    gallery: DemoHashes,
    survivor: Client,
    keeper: PlatformClient,
    asker: PlatformClient,
    bank: Path,
) -> Score:
    opened = survivor.open_case(gallery.photos, reason=Reason.PRECAUTION, adult=True, depicted=True)
    credentials = opened.case, opened.passphrase
    hashes = sum(len(photo.hashes) for photo in gallery.photos)
    terminal.show(
        f"Case {opened.case} is open with {hashes} hashes of {len(gallery.photos)} photos and of "
        "altered copies, such as crops and mirror images. No picture was sent."
    )

    kept = _keep(terminal, gallery, keeper, bank)
    asked = _asked(gallery, asker)
    terminal.show(f"\n{_ASKS} asked the clearinghouse, which tells how near and no distances.\n")
    terminal.show(_edits_table(gallery, kept, asked))
    terminal.show(
        f"\n{len(gallery.strangers)} photos that were not submitted were looked for as well. False "
        f"matches: {kept.false} at {_KEEPS}, {asked.false} at {_ASKS}."
    )

    for platform, findings in ((keeper, kept), (asker, asked)):
        platform.feedback(dict.fromkeys(findings.ids, Verdict.BLOCKED))
    terminal.show(
        "\nBoth blocked the copies and said so, which is counted from the next day on. The person "
        "in the photos now sees:\n"
    )
    terminal.show(tables.status_table(survivor.status(*credentials)))

    survivor.withdraw(*credentials)
    terminal.show("\nShe takes everything back.\n")
    kept_after = _keep(terminal, gallery, keeper, bank)
    asked_after = PlatformMatches.of(gallery, asker.match)
    terminal.show("\nWhat she sees now:\n")
    terminal.show(tables.status_table(survivor.status(*credentials)))
    terminal.show("")
    pairs = [(p, e) for p in range(len(gallery.photos)) for e in range(len(EDITS))]
    return Score(
        copies=len(pairs),
        found=sum(bool(kept.nearest(*at) and asked.nearest(*at)) for at in pairs),
        false=max(kept.false, asked.false),
        after=kept_after.total + asked_after.total,
    )


def _keep(
    terminal: Terminal, gallery: DemoHashes, keeper: PlatformClient, path: Path
) -> PlatformMatches:
    """Let the one platform follow into its bank, and look for everything there."""
    with Bank.open(path) as bank:
        end = follow(keeper, bank, once=True)
    terminal.show(
        f"{_KEEPS} followed the feed: {end.added} added, {end.removed} removed, {end.signals} in "
        "its bank, on its disk and acknowledged."
    )
    with Bank.read(path) as bank:
        return PlatformMatches.of(gallery, bank.query)


def _asked(gallery: DemoHashes, asker: PlatformClient) -> PlatformMatches:
    """Let the other platform ask, again until the service's index has the whole case.

    Raises:
        ServiceUnreachable: that takes too long.
    """
    end = time.monotonic() + _CATCH_UP_SECONDS
    while True:
        findings = PlatformMatches.of(gallery, asker.match)
        if all(findings.photos):
            return findings
        if time.monotonic() > end:
            raise ServiceUnreachable("The clearinghouse does not find what was submitted to it.")
        time.sleep(0.1)


def _edits_table(gallery: DemoHashes, kept: PlatformMatches, asked: PlatformMatches) -> Table:
    """Lay out at which distance each edit of each photo was found, and what was missed.

    Distances are known here, where the photos are; the clearinghouse tells none.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Edit")
    for name in gallery.names:
        table.add_column(Text(tables.shown(name)[:12]), justify="right")
    table.add_column(_ASKS, justify="right")
    for edit, made in enumerate(EDITS):
        cells = []
        bands = []
        for photo in range(len(gallery.photos)):
            distance = gallery.distance(photo, edit)
            found = kept.nearest(photo, edit)
            cells.append(f"{distance}" if found else f"[dim]missed ({distance})[/dim]")
            if hit := asked.nearest(photo, edit):
                bands.append(hit.band)
        words = [f"{bands.count(band)} {band.value}" for band in Band if band in bands]
        table.add_row(made.name, *cells, ", ".join(words) or "[dim]none[/dim]")
    return table


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that the child ends and the temporary folder goes."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
