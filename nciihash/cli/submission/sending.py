"""Send the hashes of a new case, and say what is known of it when that fails."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from nciihash.cli.clients import computing
from nciihash.cli.submission.questions import NOTHING_OPENED
from nciihash.cli.terminal import Terminal
from nciihash.errors import PartlySent, ServiceError, ServiceRefused
from nciihash.signals import Item
from nciihash.wire import CaseOpened, Reason

if TYPE_CHECKING:
    from nciihash.client.survivor import Client

_MAYBE: Final = """\
It is not known whether the case was opened before the connection failed. If it was, its hashes \
are matched for up to 24 months, and nobody has its passphrase. No picture was sent either way. \
To have a case that you can look after, run this command again later."""


def send(
    terminal: Terminal, client: "Client", items: Sequence[Item], reason: Reason, *, ask: bool
) -> CaseOpened:
    """Open a case, and say so if it is not known whether it was opened.

    Items that do not fit into one request are added to the case in further requests. If one of
    these fails, a message says so, and what the case holds so far is returned.

    Args:
        terminal: where to print messages.
        client: of the clearinghouse.
        items: the files' hashes.
        reason: why the case is opened.
        ask: on failure, offer to repeat the same request with the same idempotency key.

    Raises:
        ServiceError: the case was not opened, or that is not known; the message has said which.
    """
    receipts: list[CaseOpened] = []
    try:
        with ExitStack() as bar:
            advances: list[Callable[[int], None]] = []

            def sent(opened: CaseOpened) -> None:
                added = len(opened.items) - (len(receipts[-1].items) if receipts else 0)
                receipts.append(opened)
                if not advances and added < len(items):
                    advances.append(bar.enter_context(terminal.progress("Sending", len(items))))
                if advances:
                    advances[0](added)

            return _open(terminal, client, items, reason, sent, ask=ask)
    except (PartlySent, KeyboardInterrupt) as error:
        if not receipts:
            raise
        # the case is open, so its number has to be shown
        cause = str(error.__cause__ or "").rstrip(".") or "interrupted"
        terminal.say(
            f"Only the first {len(receipts[-1].items)} of {len(items)} files are known to be in "
            f"the case ({cause}), and the last of them may be incomplete. Submit the others again "
            "in a case of their own.",
            style="bold",
        )
        return receipts[-1]


def _open(
    terminal: Terminal,
    client: "Client",
    items: Sequence[Item],
    reason: Reason,
    sent: Callable[[CaseOpened], None],
    *,
    ask: bool,
) -> CaseOpened:
    from nciihash.client.sans_io import new_idempotency_key

    key = new_idempotency_key()
    uncertain = False  # whether one of the requests may have opened the case
    is_open = False

    def opened(case: CaseOpened) -> None:
        nonlocal is_open
        is_open = True
        sent(case)

    try:
        while True:
            try:
                with computing(terminal) as on_work:
                    return client.open_case(
                        items,
                        reason=reason,
                        adult=True,
                        depicted=True,
                        idempotency_key=key,
                        on_work=on_work,
                        on_sent=opened,
                    )
            except PartlySent:
                raise
            except ServiceError as error:
                uncertain = error.uncertain or (uncertain and not _settles(error))
                if not (uncertain and ask):
                    raise
                terminal.say(str(error))
                if not terminal.agree("Try again? It cannot open a second case."):
                    raise
    except BaseException as error:
        if is_open:
            raise
        if isinstance(error, KeyboardInterrupt):
            terminal.say("")
            uncertain = uncertain or client.unanswered
        if uncertain:
            terminal.say(_MAYBE, style="bold")
        else:
            terminal.say(NOTHING_OPENED)
        raise


def _settles(error: ServiceError) -> bool:
    """Whether this refusal shows that no earlier request with the same key was carried out."""
    return (
        isinstance(error, ServiceRefused)
        and 400 <= error.status < 500
        and error.status not in {428, 429}
    )
