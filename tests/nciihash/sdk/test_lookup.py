"""Looking up the hashes of files: plain ones match nothing, and truncation is reported."""

from nciihash.cli import tables
from nciihash.cli.terminal import Terminal
from nciihash.sdk.lookup import LookupResult, look_up
from nciihash.signals import Hashed, Item, Media, Signal, SignalType
from nciihash.wire import Hit, Hits
from support import serving

HIT = Hit(id="0" * 32, item="1" * 32, band="likely")


def hashed(**changes):
    return Hashed(Signal.from_hex(SignalType.PDQ, serving.pdq()), **{"quality": 90} | changes)


def test_plain_hashes_are_not_looked_up():
    """A black picture would match every black picture that anybody has submitted."""
    sent = []

    def find(signals):
        sent.extend(signals)
        return [Hits.of([HIT])] * len(signals)

    rich, sha = hashed(), Hashed(Signal(SignalType.SHA256, bytes(32)))
    black = Item(Media.IMAGE, (hashed(quality=49),))
    both = Item(Media.IMAGE, (hashed(tied=True), rich, sha))
    found_black, found_both = look_up([black, both], find)
    assert sent == [rich.signal, sha.signal]
    assert found_black == LookupResult(())
    assert [match for _, match in found_both.found] == [HIT]


def test_truncated_hits_are_reported(capsys):
    def find(signals):
        return [Hits.of([HIT], truncated=True)] * len(signals)

    [result] = look_up([Item(Media.IMAGE, (hashed(),))], find)
    assert result.truncated
    Terminal(as_json=False).show(tables.match_table([("one", result)]))
    assert "more" in capsys.readouterr().out
