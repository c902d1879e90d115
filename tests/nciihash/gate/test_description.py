"""What a gate reports when it starts."""

from dataclasses import replace
from pathlib import Path

from nciihash.gate.config import Address, DialectConfig, GateConfig
from nciihash.gate.config.description import describe
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Fail, MediaPolicy, Policy
from nciihash.signals import Level

LOOPBACK = Address("::1", 8480)


def config(dialect: Dialect, each: DialectConfig, **fields) -> GateConfig:
    return GateConfig("https://a.example", Path("data"), "secret-key", {dialect: each}, **fields)


def test_it_says_which_edits_the_key_can_find():
    each = DialectConfig(LOOPBACK, Policy())
    whole, _ = describe(config(Dialect.HTTP, each))
    veiled, _ = describe(config(Dialect.HTTP, replace(each, level=Level.FAST), veiled=True))
    assert "parts of pictures: crops, stickers" in whole
    assert "crops, stickers and parts of collages are not found" in veiled


def test_it_says_what_happens_to_uploads():
    media = MediaPolicy(likely=Action.CLEAR, radius=20)
    policy = Policy(media, MediaPolicy(frames=0.5), unreadable=Fail.CLOSED, review_as=Action.BLOCK)
    each = DialectConfig(LOOPBACK, policy, share=0.25, dry_run=True, obeyed=False)
    _, text = describe(config(Dialect.ICAP, each))
    assert text == (
        "icap on [::1]:8480: checks 0.25 of all uploads at the level windows (whole pictures and "
        "some 100 parts of each). Dry run: everything is accepted, and only counted. Pictures: "
        "close matches are blocked, others accepted (within 20 bits), uncertain ones to be "
        "reviewed. Videos: close matches are blocked, others blocked (of 50% of the frames), "
        "uncertain ones to be reviewed. Reviews are answered as block. Other files are accepted, "
        "pictures and videos that cannot be hashed refused, and uploads that cannot be checked "
        "accepted. Blocks are reported as pending until they are confirmed."
    )


def test_piefed_only_hashes():
    listen = replace(LOOPBACK, certificate=Path("a.crt"), key=Path("a.pem"))
    each = DialectConfig(listen, Policy(), hosts=frozenset({"b.example", "a.example"}))
    _, text = describe(config(Dialect.PIEFED, each))
    assert text == (
        "piefed on [::1]:8480 with TLS: computes hashes, decides nothing. Fetches URLs of "
        "a.example, b.example."
    )


def test_it_has_no_secrets():
    each = DialectConfig(LOOPBACK, Policy(), token="secret-token")
    assert "secret" not in " ".join(describe(config(Dialect.HTTP, each)))
