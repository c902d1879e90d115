"""Explain what would be sent, before it is sent."""

from typing import Final

from nciihash.cli import tables
from nciihash.cli.submission.preparation import Prepared
from nciihash.cli.submission.questions import REASONS
from nciihash.cli.terminal import Terminal
from nciihash.signals import Media, SignalType, Variant
from nciihash.wire import Reason

_WHAT_IT_IS: Final = """\
The pictures stay on this device. A fingerprint cannot be turned back into a picture, but it does \
carry some information: from all fingerprints of a picture, somebody skilled could make a small, \
blurred version of it, and somebody who has the picture could check whether it is listed. \
Fingerprints may miss edited copies, private messages, and sites that do not take part. You can \
withdraw at any time."""

_EXACT: Final = """\
Note: {types} was asked for as well. It identifies this very file: anyone with an identical copy \
can find out that it was submitted."""

_VIDEO_MD5: Final = """\
Some platforms know videos only by md5, which finds nothing but identical copies. Add --signal md5 \
to reach those platforms as well."""


def sent_with_own(reason: Reason) -> str:
    """Return what is sent with the hashes of one's own pictures, in a sentence."""
    return (
        f'Sent with them: your answer, "{REASONS[reason]}", and that you are in the pictures and '
        "were 18 or older."
    )


def sent_for_other(reason: Reason | None) -> str:
    """Return what is sent with the hashes of somebody else's pictures, in a sentence.

    Args:
        reason: of a new case; None for files that are added to one.
    """
    if reason is None:
        return "Sent with them: the reference of the case."
    return (
        f'Sent with them: the reason, "{REASONS[reason]}", and your word that the person in the '
        "pictures was 18 or older and agreed."
    )


def disclose(
    terminal: Terminal, prepared: Prepared, sent_with: str, *, show_hashes: bool = False
) -> None:
    """Explain in plain words what would be sent.

    Args:
        terminal: where to print it.
        prepared: the items that would be sent.
        sent_with: what goes with them, in a sentence.
        show_hashes: print the hashes themselves, too.
    """
    items = [item for _, item in prepared]
    media = {item.media for item in items}
    hashes = [hashed for item in items for hashed in item.hashes]
    count = f"{len(items)} {'file' if len(items) == 1 else 'files'}"
    terminal.say(
        f"To be sent, for {count}: {_contents(media, [hashed.variant for hashed in hashes])}. "
        f"{sent_with} Not sent: the pictures, their names, their dates and locations, and any "
        "person's name. As with any website, the clearinghouse sees your network address while you "
        "are connected; it does not store it."
    )
    terminal.say(_WHAT_IT_IS)
    types = {hashed.signal.type for hashed in hashes}
    if Media.VIDEO in media and SignalType.MD5 not in types:
        terminal.say(_VIDEO_MD5)
    if exact := sorted(type.value for type in types if type.exact):
        terminal.say(_EXACT.format(types=" and ".join(exact)), style="bold")
    if show_hashes:
        for path, item in prepared:
            for hashed in item.hashes:
                terminal.say(
                    f"  {tables.shown(path)}  {hashed.signal.type.value}  {hashed.signal.hex}  "
                    f"{hashed.variant.value}"
                )


def _contents(media: set[Media], variants: list[Variant]) -> str:
    """Return what is sent of each file, as a list in words."""
    kind = {
        frozenset({Media.IMAGE}): "that it is a picture",
        frozenset({Media.VIDEO}): "that it is a video",
    }.get(frozenset(media), "whether it is a picture or a video")
    frames = (
        ", or for a video those of up to four frames per second" if Media.VIDEO in media else ""
    )
    altered = (
        "the fingerprints of altered copies that were made here, such as crops and mirror images, "
        "each with the kind of alteration; "
        if any(variant is not Variant.ORIGINAL for variant in variants)
        else ""
    )
    return (
        f"{kind}; its fingerprint{frames} (letters and digits computed from the layout of light "
        f"and dark); {altered}and how clear each of them is, from 0 to 100"
    )
