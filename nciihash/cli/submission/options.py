"""The options of `submit`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from nciihash.signals import SUBMITTED, SignalType, VariantSet
from nciihash.wire import Reason


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """What to submit, and how.

    Attributes:
        server: address of the clearinghouse.
        files: pictures and videos to hash.
        saved: a file of hashes that were computed before.
        reason: why the case is opened; None to ask.
        yes: make the declarations and send without asking.
        signals: types of hash to compute.
        variants: which altered copies to hash as well.
        show_hashes: show the hashes before they are sent.
        receipt: a new file for the case number and the passphrase.
        advocate: open the case for somebody else.
        resume: with `advocate`, the reference of the case to add the files to.
        sandboxed: open files in the sandbox.
    """

    server: str
    files: Sequence[Path] = ()
    saved: Path | None = None
    reason: Reason | None = None
    yes: bool = False
    signals: tuple[SignalType, ...] = (SignalType.PDQ,)
    variants: VariantSet = SUBMITTED
    show_hashes: bool = False
    receipt: Path | None = None
    advocate: bool = False
    resume: str | None = None
    sandboxed: bool = True

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            typer.BadParameter: with what to change.
        """
        if self.yes and self.reason is None and self.resume is None:
            raise typer.BadParameter("With --yes, state the reason with --reason as well.")
        if self.advocate and self.receipt:
            raise typer.BadParameter(
                "A case opened for somebody else has no receipt until they claim it. Omit "
                "--receipt."
            )
        if self.resume and not self.advocate:
            raise typer.BadParameter("--resume needs --advocate.")
        if not self.files and not self.saved:
            raise typer.BadParameter("Name the pictures, or a file of saved hashes with --from.")
