from dataclasses import fields, replace
from pathlib import Path

import pytest

from nciihash.gate.config import (
    Address,
    DialectConfig,
    FloodConfig,
    GateConfig,
    UploadLimits,
)
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Policy
from nciihash.gate.reloading import reloaded
from nciihash.signals import Level

HTTP = DialectConfig(Address(port=1), Policy())
RUNNING = GateConfig("https://a.example", Path("a"), "key", {Dialect.HTTP: HTTP})
CHANGES = {
    "server": "https://b.example",
    "data": Path("b"),
    "key": "other",
    "veiled": True,
    "jobs": 7,
    "video_jobs": 7,
    "reference_days": 7,
    "limits": UploadLimits(queue=7),
    "flood": FloodConfig(pictures=7),
}


def test_what_concerns_the_next_upload_applies():
    changed = replace(
        HTTP, level=Level.FAST, share=0.5, dry_run=True, token="t", hosts=frozenset({"h"})
    )
    new = replace(RUNNING, max_age=7.0, dialects={Dialect.HTTP: changed})
    assert reloaded(RUNNING, new) == (new, [])


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_used_at_the_start_needs_a_restart(name):
    assert reloaded(RUNNING, replace(RUNNING, **{name: CHANGES[name]})) == (RUNNING, [name])


def test_every_setting_either_applies_or_needs_a_restart():
    assert {field.name for field in fields(GateConfig)} == {*CHANGES, "dialects", "max_age"}


def test_listeners_need_a_restart():
    moved = replace(HTTP, listen=Address(port=2), dry_run=True)
    config, waiting = reloaded(RUNNING, replace(RUNNING, dialects={Dialect.HTTP: moved}))
    assert waiting == ["http.listen"]
    assert config.dialects == {Dialect.HTTP: replace(HTTP, dry_run=True)}
    both = {Dialect.HTTP: HTTP, Dialect.CLAMD: HTTP}
    assert reloaded(RUNNING, replace(RUNNING, dialects=both)) == (RUNNING, ["clamd.listen"])
    other = {Dialect.CLAMD: HTTP}
    config, waiting = reloaded(RUNNING, replace(RUNNING, dialects=other))
    assert (config, waiting) == (RUNNING, ["http.listen", "clamd.listen"])
