"""What is asked, shown, sent and handed over when a case is opened."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import typer

from nciihash.cli import tables
from nciihash.cli.computing import computing
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import FileRefused, PartlySent, ServiceError, ServiceRefused, TooPlain
from nciihash.sandbox.pool import hash_files
from nciihash.signals import QUALITY_MIN, Item, Media, SignalType, Variant, VariantSet
from nciihash.wire import CaseOpened, Reason

if TYPE_CHECKING:
    from nciihash.client.survivor import Client

_REASONS: Final = (
    (Reason.THREATENED, "somebody threatens to share them"),
    (Reason.SHARED, "somebody has shared them"),
    (Reason.PRECAUTION, "nothing has happened yet; I want to be safe"),
    (Reason.SYNTHETIC, "they are made up, for example by a computer, and show me"),
)

_NOT_ADULT: Final = """\
This service is for pictures of people who were 18 or older. For younger people there is help of \
their own, free and private, and you need not show anybody the pictures:
  Take It Down, by NCMEC, anywhere:          https://takeitdown.ncmec.org
  Report Remove, by IWF and Childline, UK:   https://www.childline.org.uk/remove
Please do not copy the pictures or send them to anybody, not even to help. Nothing was opened or \
sent here."""

_NOT_DEPICTED: Final = """\
Only the person in the pictures can open a case here. If it is somebody you want to help, sit \
beside them while they do it; the choice is theirs. Nothing was opened or sent."""

_WHAT_IT_IS: Final = """\
The pictures stay on this device. A fingerprint cannot bring a picture back, but it is not \
nothing: researchers have made blurry guesses from such fingerprints, and somebody who has the \
picture could check whether it is listed. Fingerprints may miss edited copies, private messages, \
and sites that do not take part. You can withdraw at any time."""

_EXACT: Final = """\
{types} was asked for as well. It identifies this very file: whoever has an identical copy can \
tell that it was submitted."""

_VIDEO_MD5: Final = """\
Some platforms know videos by md5 alone, which finds identical copies and no others. The option \
--signal md5 reaches those as well."""

_MAYBE: Final = """\
It is not known whether the case was opened before the connection failed. If it was, the hashes in \
it are matched for up to 24 months, and nobody has its passphrase. No picture was sent either \
way. To have a case that you can look after, run this command again later."""

NOTHING_OPENED: Final = "No case was opened."
NOTHING_SENT: Final = f"Nothing was sent. {NOTHING_OPENED}"

_TOO_PLAIN: Final = """\
This picture is too plain: its fingerprint would match strangers' pictures, so it is not sent."""

_TOO_REGULAR: Final = """\
The pattern of this picture is too regular for a dependable fingerprint, so it is not sent. Use \
another version of the picture."""


@contextmanager
def nothing_sent_yet(terminal: Terminal) -> Iterator[None]:
    """Say that nothing was sent to whoever breaks the block off."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.say(f"\n{NOTHING_SENT}")
        raise


def declare(terminal: Terminal) -> None:
    """Ask for the two declarations, before any file is opened.

    Raises:
        typer.Exit: one of them cannot be made; she has been told where help is.
    """
    if not terminal.agree("Were you 18 or older when these pictures were taken?"):
        refuse_minors(terminal)
    if not terminal.agree("Are you the person in them?"):
        terminal.say(_NOT_DEPICTED)
        raise typer.Exit(ExitCode.SOME_FAILED)


def refuse_minors(terminal: Terminal) -> NoReturn:
    """Name the services for pictures of people under 18, and end.

    Raises:
        typer.Exit: always.
    """
    terminal.say(_NOT_ADULT)
    raise typer.Exit(ExitCode.SOME_FAILED)


def why(terminal: Terminal) -> Reason:
    """Ask for the reason, in plain words."""
    terminal.say("What happened?")
    for number, (_, words) in enumerate(_REASONS, 1):
        terminal.say(f"  {number}  {words}")
    while True:
        answer = terminal.ask("The number:")
        if answer in {str(n) for n in range(1, len(_REASONS) + 1)}:
            return _REASONS[int(answer) - 1][0]
        terminal.say(f"Please answer with a number from 1 to {len(_REASONS)}.")


def prepare(
    terminal: Terminal,
    files: Sequence[Path],
    signals: Sequence[SignalType],
    variants: VariantSet,
    *,
    sandboxed: bool,
) -> tuple[list[tuple[Path, Item]], int]:
    """Hash the files; give those that can be sent, and the number of the others.

    Where a picture is plain but what its frame holds is not, the hashes of that are sent alone.
    """
    prepared: list[tuple[Path, Item]] = []
    with terminal.progress("Hashing", len(files)) as advance:
        hashed_files = hash_files(
            files, signals=signals, variants=variants.value, sandboxed=sandboxed
        )
        for path, outcome in hashed_files:
            if isinstance(outcome, FileRefused):
                terminal.refuse(path, outcome)
                advance(1)
                continue
            if item := _fit(terminal, path, outcome):
                terminal.note_frames(path, outcome)
                prepared.append((path, item))
            advance(1)
    return prepared, len(files) - len(prepared)


def with_hers(reason: Reason) -> str:
    """Say what goes with the hashes of somebody's own pictures."""
    return (
        f'With them go your answer, "{dict(_REASONS)[reason]}", and that you are in the pictures '
        "and were 18 or older."
    )


def with_others(reason: Reason | None) -> str:
    """Say what goes with the hashes of pictures of somebody else, for a new case."""
    if reason is None:
        return "With them goes the reference of the case."
    return (
        f'With them go the reason, "{dict(_REASONS)[reason]}", and your word that the person in '
        "the pictures was 18 or older and agreed."
    )


def choose(
    terminal: Terminal, path: Path, items: Sequence[Item]
) -> tuple[list[tuple[Path, Item]], int]:
    """Give those of saved items that can be sent, named by their place, and count the others."""
    named = [(Path(f"{path}, number {number}"), item) for number, item in enumerate(items, 1)]
    fit = [(name, kept) for name, item in named if (kept := _fit(terminal, name, item))]
    return fit, len(items) - len(fit)


def _fit(terminal: Terminal, path: Path, item: Item) -> Item | None:
    """Keep the hashes that may be sent; where none is left, say why."""
    if (refusal := too_plain(item)) is not None:
        terminal.refuse(path, refusal)
        return None
    return replace(item, hashes=tuple(hashed for hashed in item.hashes if not hashed.plain))


def too_plain(item: Item) -> TooPlain | None:
    """Say why no PDQ hash of a file is fit to be submitted; None if one is."""
    if any(hashed.signal.type is SignalType.PDQ and not hashed.plain for hashed in item.hashes):
        return None
    regular = all(hashed.quality is None or hashed.quality >= QUALITY_MIN for hashed in item.hashes)
    return TooPlain(_TOO_REGULAR if regular else _TOO_PLAIN)


def explain(
    terminal: Terminal, prepared: Sequence[tuple[Path, Item]], goes_with: str, *, show_hashes: bool
) -> None:
    """Say in words what would be sent, and show the hashes if that was asked for."""
    kinds = {item.media for _, item in prepared}
    what = {
        frozenset({Media.IMAGE}): "that it is a picture",
        frozenset({Media.VIDEO}): "that it is a video",
    }.get(frozenset(kinds), "whether it is a picture or a video")
    frames = (
        " of up to four of its frames a second where it is a video," if Media.VIDEO in kinds else ""
    )
    altered = any(h.variant is not Variant.ORIGINAL for _, item in prepared for h in item.hashes)
    more = (
        " as well as those of altered copies that were made here, such as crops and mirror images, "
        "each with the kind of alteration,"
        if altered
        else ","
    )
    terminal.say(
        f"To be sent, for {len(prepared)} {'file' if len(prepared) == 1 else 'files'}: {what}, "
        "its fingerprint (letters and digits made from the layout of light and dark)"
        f"{frames}{more} and how clear that is from 0 to 100. {goes_with} Not sent: the pictures, "
        "their names, their dates and places, and any person's name. As with any website, the "
        "clearinghouse sees your network address while you are connected; it does not keep it."
    )
    terminal.say(_WHAT_IT_IS)
    types = {hashed.signal.type for _, item in prepared for hashed in item.hashes}
    if Media.VIDEO in kinds and SignalType.MD5 not in types:
        terminal.say(_VIDEO_MD5)
    if exact := sorted(type.value for type in types if type.exact):
        terminal.say("Take note: " + _EXACT.format(types=" and ".join(exact)), style="bold")
    if show_hashes:
        for path, item in prepared:
            for hashed in item.hashes:
                terminal.say(
                    f"  {tables.shown(path)}  {hashed.signal.type.value}  {hashed.signal.hex}  "
                    f"{hashed.variant.value}"
                )


def send(
    terminal: Terminal, client: "Client", items: Sequence[Item], reason: Reason, *, ask: bool
) -> CaseOpened:
    """Open the case, and be plain about it if nobody can tell whether it was opened.

    What is too much for one request is added to the case in further ones; if one of these fails,
    she is told, and gets what she needs to look after what the case holds.

    Args:
        terminal: where to speak.
        client: the way to the clearinghouse.
        items: the files' hashes.
        reason: why.
        ask: offer to repeat the very same request then, under the same idempotency key.

    Raises:
        ServiceError: it was not opened, or nobody can tell; she has been told which.
    """
    known: list[CaseOpened] = []
    try:
        with ExitStack() as bar:
            advances: list[Callable[[int], None]] = []

            def sent(opened: CaseOpened) -> None:
                done = len(opened.items) - (len(known[-1].items) if known else 0)
                known.append(opened)
                if not advances and done < len(items):
                    advances.append(bar.enter_context(terminal.progress("Sending", len(items))))
                if advances:
                    advances[0](done)

            return _open(terminal, client, items, reason, sent, ask=ask)
    except (PartlySent, KeyboardInterrupt) as end:
        if not known:
            raise
        # the case is open: she must learn its number
        cause = str(end.__cause__ or "").rstrip(".") or "interrupted"
        terminal.say(
            f"Only the first {len(known[-1].items)} of {len(items)} files are known to be in the "
            f"case ({cause}), and the last of them may be there in part. Submit the others again "
            "in a case of their own.",
            style="bold",
        )
        return known[-1]


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
    maybe = False  # whether some request of these may have opened it
    is_open = False

    def opened(case: CaseOpened) -> None:
        nonlocal is_open
        is_open = True
        sent(case)

    try:
        while True:
            try:
                with computing(terminal) as working:
                    return client.open_case(
                        items,
                        reason=reason,
                        adult=True,
                        depicted=True,
                        idempotency_key=key,
                        working=working,
                        sent=opened,
                    )
            except PartlySent:
                raise
            except ServiceError as error:
                maybe = error.uncertain or (maybe and not _settles(error))
                if not (maybe and ask):
                    raise
                terminal.say(str(error))
                if not terminal.agree("Try again? It cannot open a second case."):
                    raise
    except BaseException as end:
        if is_open:
            raise
        if isinstance(end, KeyboardInterrupt):
            terminal.say("")
            maybe = maybe or client.unanswered
        if maybe:
            terminal.say(_MAYBE, style="bold")
        else:
            terminal.say(NOTHING_OPENED)
        raise


def _settles(error: ServiceError) -> bool:
    """Tell whether an answer shows that no earlier request under the same key was carried out."""
    return (
        isinstance(error, ServiceRefused)
        and 400 <= error.status < 500
        and error.status not in {428, 429}
    )
