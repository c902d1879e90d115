"""What a gate reports about its configuration when it starts."""

from typing import Final

from nciihash.gate.config.settings import DialectConfig, GateConfig
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Fail, MediaPolicy, Policy
from nciihash.signals import Level

_VEILED: Final = (
    "The bank is veiled: it has a part of each hash. Found are copies of the whole picture, also "
    "within a plain frame or a screenshot: saved again, scaled, recoloured, and edited about as "
    "one of the altered copies that were hashed at submission. Other crops, stickers and parts of "
    "collages are not found: that takes the whole feed."
)
_WHOLE: Final = (
    "The bank has whole hashes. Found are copies of the whole picture, also within a plain "
    "frame or a screenshot: saved again, scaled, recoloured, and edited about as one of the "
    "altered copies that were hashed at submission. At the levels windows and thorough so are "
    "parts of pictures: crops, stickers, pictures in collages; these matches are for a person to "
    "review."
)
_LEVELS: Final = {
    Level.FAST: "whole pictures",
    Level.WINDOWS: "whole pictures and some 100 parts of each",
    Level.THOROUGH: "whole pictures and nearly a thousand parts of each",
}
_DONE: Final = {Action.BLOCK: "blocked", Action.REVIEW: "to be reviewed", Action.CLEAR: "accepted"}


def describe(config: GateConfig) -> list[str]:
    """Return a sentence or two about the bank, and about each dialect.

    No secret is in them.
    """
    lines = [_VEILED if config.veiled else _WHOLE]
    lines += [_dialect(dialect, each) for dialect, each in config.dialects.items()]
    return lines


def _dialect(dialect: Dialect, config: DialectConfig) -> str:
    address = f"{dialect} on {config.listen}{' with TLS' if config.listen.certificate else ''}"
    hosts = f" Fetches URLs of {', '.join(sorted(config.hosts))}." if config.hosts else ""
    if dialect is Dialect.PIEFED:
        return f"{address}: computes hashes, decides nothing.{hosts}"
    share = "every upload" if config.share >= 1 else f"{config.share:.3g} of all uploads"
    parts = [f"{address}: checks {share} at the level {config.level} ({_LEVELS[config.level]})."]
    if config.dry_run:
        parts.append("Dry run: everything is accepted, and only counted.")
    parts += [_media("Pictures", config.policy.image), _media("Videos", config.policy.video)]
    if config.policy.review_as is not None:
        parts.append(f"Reviews are answered as {config.policy.review_as}.")
    parts.append(_failures(config.policy))
    if not config.obeyed:
        parts.append("Blocks are reported as pending until they are confirmed.")
    return " ".join(parts) + hosts


def _media(name: str, media: MediaPolicy) -> str:
    limits = f" (within {media.radius} bits)" if media.radius < MediaPolicy().radius else ""
    if media.frames:
        limits += f" (of {media.frames:.0%} of the frames)"
    return (
        f"{name}: close matches are {_DONE[media.strong]}, others {_DONE[media.likely]}{limits}, "
        f"uncertain ones {_DONE[media.review]}."
    )


def _failures(policy: Policy) -> str:
    words = {Fail.OPEN: "accepted", Fail.CLOSED: "refused"}
    return (
        f"Other files are {words[policy.unsupported]}, pictures and videos that cannot be hashed "
        f"{words[policy.unreadable]}, and uploads that cannot be checked {words[policy.unchecked]}."
    )
