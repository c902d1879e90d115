"""The keys of a gate's configuration: how each is read, and what it means.

Both reading and printing a configuration use these tables.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nciihash.gate.config import readers as values
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Fail
from nciihash.signals import Level, SignalType

HTTP_DIALECTS: Final = frozenset({Dialect.HTTP, Dialect.HMA, Dialect.PICTRS, Dialect.PIEFED})
# The dialects whose answers can only be yes or no.
NEED_REVIEW_AS: Final = frozenset({Dialect.CLAMD, Dialect.ICAP, Dialect.PICTRS})
FETCHING_DIALECTS: Final = frozenset({Dialect.HMA, Dialect.PIEFED})

_COLUMNS: Final = 96  # of the printed configuration
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a table.

    Attributes:
        name: the key.
        read: reads its value; raises ValueError with what to write.
        shown: the value that is printed, as TOML: its default, or an example if it has none.
        text: what it means, in a sentence or two.
        required: whether it has to be written, because there is no default.
    """

    name: str
    read: values.Reader
    shown: str
    text: str
    required: bool = False


def _review_action(value: object) -> Action:
    if value == Action.BLOCK.value:
        raise ValueError(
            'Write "review" or "clear". Such a match cannot be blocked without a person: the rate '
            "of false matches of parts of pictures is not known to be low enough for that "
            "(docs/evidence.md)."
        )
    action: Action = values.choice(Action.REVIEW, Action.CLEAR)(value)
    return action


TOP: Final = (
    Key(
        "server",
        values.text,
        '"https://clearinghouse.example"',
        "The address of the clearinghouse.",
        required=True,
    ),
    Key(
        "data",
        values.path,
        '"/var/lib/nciihash-gate"',
        "The folder of the bank, of the references of decisions and of the verdicts that wait to "
        "be sent. Nothing of an upload is ever written there. Paths that are not from the root "
        "begin at the folder of this file.",
        required=True,
    ),
    Key(
        "key_file",
        values.path,
        '"/etc/nciihash/gate.key"',
        "A file with the platform's key, as the clearinghouse issued it. Other users must not be "
        "able to read it. Without this setting, the key is read from NCIIHASH_KEY.",
    ),
    Key(
        "veiled",
        values.boolean,
        "false",
        "Whether the key is for the veiled feed, which has only a part of each hash. Candidates "
        "are then confirmed by the clearinghouse, and only `fast` levels are possible.",
    ),
    Key(
        "max_age",
        values.number(10, 7 * 86400),
        "600",
        "Seconds without news of the feed, after which the bank is too old to rely on. Uploads "
        "are then `unchecked`.",
    ),
    Key(
        "jobs",
        values.integer(1, 1024),
        "2",
        "Child processes that hash pictures. By default, one for each core.",
    ),
    Key(
        "video_jobs",
        values.integer(1, 1024),
        "1",
        "Child processes that hash videos and animations, so that a long video never delays a "
        "picture.",
    ),
    Key(
        "reference_days",
        values.integer(1, 3650),
        "90",
        "Days for which the references of decisions are kept.",
    ),
)
LIMITS: Final = (
    Key(
        "image_bytes",
        values.size(1 << 10, 4 * _GIB),
        '"64 MiB"',
        'The largest picture. Sizes are written as "64 MiB", "500 MB" or a number of bytes.',
    ),
    Key("video_bytes", values.size(1 << 10, 64 * _GIB), '"1 GiB"', "The largest video."),
    Key(
        "pixels",
        values.integer(10_000, 2_000_000_000),
        "100_000_000",
        "Pixels of a picture, or of one frame of a video. Larger ones are `unreadable`.",
    ),
    Key(
        "image_seconds",
        values.number(0.1, 3600),
        "10",
        "Seconds of work on one picture, after which it is `unreadable`.",
    ),
    Key("video_seconds", values.number(1, 86400), "120", "Seconds of work on one video."),
    Key(
        "memory",
        values.size(1 << 20, 1024 * _GIB),
        '"2 GiB"',
        "Memory for all uploads that are being received or checked. Further ones are `unchecked`.",
    ),
    Key(
        "queue",
        values.integer(1, 100_000),
        "64",
        "Pictures that may wait to be hashed; videos are counted by themselves. Further ones are "
        "`unchecked`.",
    ),
    Key(
        "connections",
        values.integer(1, 1_000_000),
        "10_000",
        "Open connections of each protocol. Further ones are closed.",
    ),
    Key(
        "idle_seconds",
        values.number(0.1, 86400),
        "30",
        "Seconds without a byte within a request, after which a connection is closed.",
    ),
    Key(
        "request_seconds",
        values.number(1, 86400),
        "600",
        "Seconds for receiving one upload, however steadily it arrives.",
    ),
)
FLOOD: Final = (
    Key(
        "pictures",
        values.integer(40, 1000),
        "40",
        "If more than so many pictures that are unlike each other match one item, which is one "
        "picture and its altered copies, the item is faulty: its further matches that are not "
        "close are then `review` instead of `block`. Copies of one picture never cause this.",
    ),
    Key(
        "seconds",
        values.number(60, 3600),
        "3600",
        "Within so many seconds. No hash of an upload is kept for this.",
    ),
)
POLICY: Final = (
    Key(
        "unsupported",
        values.choice(*Fail),
        '"open"',
        'What happens to a file that is neither a picture nor a video, such as a document: "open" '
        'accepts it, "closed" refuses it.',
    ),
    Key(
        "unreadable",
        values.choice(*Fail),
        '"open"',
        "The same for a picture or video that cannot be hashed, because it is damaged, too large, "
        "or takes too long.",
    ),
    Key(
        "unchecked",
        values.choice(*Fail),
        '"open"',
        "The same for an upload that the gate could not check: the bank is too old, the queue is "
        "full, or a program failed.",
    ),
)
MEDIA_POLICY: Final = (
    Key(
        "strong",
        values.choice(*Action),
        '"block"',
        'What to do about a close match, within 16 bits: "block", "review" or "clear".',
    ),
    Key(
        "likely",
        values.choice(*Action),
        '"block"',
        "The same for any other match of the whole picture, or of the picture within its frame.",
    ),
    Key(
        "review",
        _review_action,
        '"review"',
        "The same for a match that a person has to look at, because only a part of the picture "
        'matched or it has little detail: "review" or "clear".',
    ),
    Key(
        "radius",
        values.integer(0, SignalType.PDQ.threshold),
        "31",
        "The largest distance of the whole picture, in bits, that counts as a match at all. A "
        "smaller one finds fewer edited copies.",
    ),
)
VIDEO_POLICY: Final = (
    *MEDIA_POLICY,
    Key(
        "frames",
        values.number(0, 1),
        "0",
        "The least share of a video's frames that must match, from 0 to 1.",
    ),
)
_LISTEN: Final = (
    Key(
        "listen",
        values.address,
        '"127.0.0.1:8480"',
        'Where to listen: "HOST:PORT", "[::1]:PORT", or "unix:/PATH" for a Unix socket. http, hma, '
        "pictrs and piefed may share an address.",
        required=True,
    ),
    Key(
        "private",
        values.boolean,
        "false",
        "Whether only machines of this platform can reach the address. Otherwise an address that "
        "is not on this machine alone needs a certificate.",
    ),
    Key(
        "certificate",
        values.path,
        '"/etc/nciihash/gate.crt"',
        "The TLS certificate of the address with those of its issuers, in PEM.",
    ),
    Key(
        "certificate_key",
        values.path,
        '"/etc/nciihash/gate.pem"',
        "The private key of the certificate, in PEM and without a password.",
    ),
)
_TOKEN: Final = Key(
    "token_file",
    values.path,
    '"/etc/nciihash/gate.token"',
    "A file with a secret that requests must carry as `Authorization: Bearer SECRET`. Required "
    "for an address that other machines reach; not if it is private, except for http.",
)
_CHECKS: Final = (
    Key(
        "level",
        values.choice(*Level),
        '"windows"',
        "How thoroughly pictures are searched for: fast looks up the picture and the picture "
        "within its frame; windows also some 100 parts of it, and thorough nearly a thousand. "
        "With a veiled bank the default is fast.",
    ),
    Key(
        "share",
        values.number(0, 1),
        "1",
        "The share of uploads that are checked, from 0 to 1, chosen at random. The others are "
        "accepted.",
    ),
    Key(
        "dry_run",
        values.boolean,
        "false",
        "Whether every upload is accepted, and what would have been stopped is only counted.",
    ),
    Key(
        "obeyed",
        values.boolean,
        "true",
        "Whether the platform does as the gate answers, so that a block is reported to the "
        "clearinghouse as `blocked`. Otherwise it is reported as `pending`, until `nciihash gate "
        "decide` confirms it.",
    ),
)
_REVIEW_AS: Final = Key(
    "review_as",
    values.choice(Action.BLOCK, Action.CLEAR),
    '"clear"',
    'What to do about a match that a person should look at: "block" or "clear". This protocol has '
    "only yes and no, and which mistake is worse is for the platform to say, so there is no "
    "default.",
    required=True,
)
_HOSTS: Final = Key(
    "hosts",
    values.hosts,
    '["media.example"]',
    "The hosts from which pictures may be fetched by URL. Without any, no URL is fetched: "
    "otherwise callers could read the platform's own network through the gate. A host is fetched "
    "from its port 80 or 443, and only if all its addresses are public. Write another port as "
    '"media.example:8443", and a host of the platform\'s own network with the network that its '
    'addresses are in, as "minio:9000@10.1.0.0/16".',
)
_BANKS: Final = Key(
    "banks",
    values.bank_names,
    '["NCII"]',
    "The names under which the bank is shown. For Coop add COOP_ORGANISATION_NAME: see "
    "examples/gate/coop.md.",
)

# What one dialect has for a key instead of the table's example or default.
_SHOWN: Final = {
    (Dialect.CLAMD, "listen"): '"127.0.0.1:3310"',
    (Dialect.ICAP, "listen"): '"127.0.0.1:1344"',
    (Dialect.HTTP, "obeyed"): "false",
    (Dialect.HMA, "obeyed"): "false",
}
DIALECT_TEXTS: Final = {
    Dialect.HTTP: "The gate's own API over HTTP: POST /check.",
    Dialect.CLAMD: "The protocol of the virus scanner ClamAV, over TCP or a Unix socket.",
    Dialect.ICAP: "ICAP (RFC 3507), for proxies such as Squid.",
    Dialect.HMA: "The API of Hasher-Matcher-Actioner.",
    Dialect.PICTRS: "The external validation of pict-rs, for Lemmy.",
    Dialect.PIEFED: "The hashing API of PieFed. It only computes hashes and decides nothing.",
}


def dialect_keys(dialect: Dialect) -> tuple[Key, ...]:
    """Return the keys of a dialect's table, without those of its policy."""
    keys = list(_LISTEN)
    if dialect in HTTP_DIALECTS:
        keys.append(_TOKEN)
    if dialect in FETCHING_DIALECTS:
        keys.append(_HOSTS)
    if dialect is Dialect.HMA:
        keys.append(_BANKS)
    if dialect in NEED_REVIEW_AS:
        keys.append(_REVIEW_AS)
    if dialect is not Dialect.PIEFED:
        keys += _CHECKS
    return tuple(keys)


def default_obeyed(dialect: Dialect) -> bool:
    """Whether callers of a dialect are expected to do as the gate answers."""
    return (dialect, "obeyed") not in _SHOWN


def render_default() -> str:
    """Return a configuration in TOML that has every key, with what it means.

    Keys with a default are comments. So are all dialects except the gate's own API.
    """
    lines = [
        *_wrapped("The configuration of a gate: `nciihash gate --config gate.toml`."),
        *_wrapped(
            "Lines that begin with # and a space explain. Other lines that begin with # are "
            "settings with their default, or examples: remove the # to change one. A key that "
            "is explained once means the same in other tables."
        ),
    ]
    explained: set[Key] = set()
    lines += ["", *_settings(TOP, explained)]
    lines += ["", *_wrapped("Limits on uploads."), "[limits]", *_settings(LIMITS, explained)]
    lines += ["", *_wrapped("The flood stop."), "[flood]", *_settings(FLOOD, explained)]
    lines += ["", *_wrapped("What to do about matches, for all protocols.")]
    lines += ["[policy]", *_settings(POLICY, explained)]
    lines += ["", "[policy.image]", *_settings(MEDIA_POLICY, explained)]
    lines += ["", "# Videos and animations.", "[policy.video]", *_settings(VIDEO_POLICY, explained)]
    for dialect in Dialect:
        off = "" if dialect is Dialect.HTTP else "#"
        shown = {name: value for (owner, name), value in _SHOWN.items() if owner is dialect}
        lines += ["", *_wrapped(DIALECT_TEXTS[dialect]), f"{off}[{dialect}]"]
        lines += _settings(dialect_keys(dialect), explained, shown, off=bool(off))
        if dialect is Dialect.PIEFED:
            continue
        if dialect is Dialect.HTTP:
            lines += ["", *_wrapped("What this protocol does differently; so for each protocol.")]
        for table, keys in (
            (f"{dialect}.policy", POLICY),
            (f"{dialect}.policy.image", MEDIA_POLICY),
            (f"{dialect}.policy.video", VIDEO_POLICY),
        ):
            lines += [f"#[{table}]", *_settings(keys, explained, off=True)]
    return "\n".join(lines) + "\n"


def _settings(
    keys: tuple[Key, ...],
    explained: set[Key],
    shown: Mapping[str, str] | None = None,
    *,
    off: bool = False,
) -> Iterator[str]:
    for key in keys:
        if key not in explained:
            explained.add(key)
            yield from _wrapped(key.text)
        value = (shown or {}).get(key.name, key.shown)
        yield f"{'#' if off or not key.required else ''}{key.name} = {value}"


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(
        sentence, _COLUMNS, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
